"""Whose a folder is, who uses it."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from segjax.errors import InputError
from segjax.training.workdir import claim_workdir, hold_workdir, write_json

CONFIG = {"name": "test", "seed": 0}

HOLD = """
import sys
from pathlib import Path
from segjax.training.workdir import hold_workdir
with hold_workdir(Path(sys.argv[1]), {"name": "test", "seed": 0}):
    print("held", flush=True)
    sys.stdin.read()
"""


def hold_elsewhere(workdir):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(workdir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    return process


def test_second_process_is_told_who_has_the_folder(tmp_path):
    workdir = tmp_path / "run"
    process = hold_elsewhere(workdir)
    who = f"process {process.pid} on {socket.gethostname()}"
    try:
        with (
            pytest.raises(InputError, match=f"run is in use by {who}: wait for it"),
            hold_workdir(workdir, CONFIG),
        ):
            pass
    finally:
        process.kill()  # and the lock ends with it, though nothing released it
        process.communicate()
    with hold_workdir(workdir, CONFIG):
        assert str(os.getpid()) in (workdir / ".lock").read_text()
    with hold_workdir(workdir, CONFIG):
        pass


def test_holding_claims(tmp_path):
    with hold_workdir(tmp_path / "run", CONFIG):
        assert json.loads((tmp_path / "run" / "config.json").read_text()) == CONFIG
    with (
        pytest.raises(InputError, match="holds a run of 'test' with seed = 0, not 1"),
        hold_workdir(tmp_path / "run", {**CONFIG, "seed": 1}),
    ):
        pass


def test_nothing_is_written_into_the_folder_of_another(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(InputError, match="not a run"), hold_workdir(tmp_path, CONFIG):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_kill_at_the_very_start_is_no_obstacle(tmp_path):
    for name in (".lock", "config.json.tmp"):
        (tmp_path / name).write_text("")
    claim_workdir(tmp_path, CONFIG)
    assert json.loads((tmp_path / "config.json").read_text()) == CONFIG


@pytest.mark.parametrize("content", ["", "{", "[1]", "7", "\udcff"])
def test_damaged_config_is_named(tmp_path, content):
    (tmp_path / "config.json").write_text(content, errors="surrogateescape")
    with pytest.raises(InputError, match=r"config.json is not the JSON of a run: ."):
        claim_workdir(tmp_path, CONFIG)


def test_folder_that_cannot_be_made():
    # Even root cannot make a folder there.
    with pytest.raises(
        InputError, match="workdir /proc/run cannot be written: No such"
    ):
        claim_workdir(Path("/proc/run"), CONFIG)


def test_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "config.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"a": float("nan")})
    path_of_folder = tmp_path / "folder"
    path_of_folder.mkdir()
    with pytest.raises(InputError, match=r"folder.*cannot be written: Is a dir"):
        write_json(path_of_folder, {"a": 1})
    assert json.loads(path.read_text()) == {"a": 1}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.json", "folder"]
