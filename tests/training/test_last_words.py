"""A process that ends where it cannot speak has its last line said for it."""

import subprocess
import sys

import pytest

ENDS = {
    "os.kill(os.getpid(), signal.SIGKILL)": (-9, "it died\n"),
    "os.abort()": (-6, "it died\n"),
    "os._exit(3)": (3, "it died\n"),
    "take_back(); os._exit(3)": (3, ""),
    "take_back(); take_back(); sys.exit(2)": (2, ""),
    "sys.exit(0)": (0, ""),
    "subprocess.run(['true']); os.fork() or os._exit(0); sys.exit(0)": (0, ""),
}


@pytest.mark.parametrize("end", ENDS)
def test_last_words(end):
    program = (
        "import os, signal, subprocess, sys\n"
        "from segjax.training.last_words import leave_last_words\n"
        "take_back = leave_last_words('it died')\n" + end
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr) == ENDS[end]
    assert ended.stdout == ""
