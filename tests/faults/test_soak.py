"""A long run with evaluation and checkpoints holds no more at its end than early on.

SEGJAX_SOAK_MINUTES says how long it is watched; 10 minutes if not given. `-s` shows
what was measured.

Orbax 0.12.8 alone keeps 20 to 55 kB of each save, however small, and nothing here can
give it back: this run saves every 300 steps.
"""

import os
import statistics
import time
from pathlib import Path

import pytest
from whole_runs import Runs

MINUTES = float(os.environ.get("SEGJAX_SOAK_MINUTES", "10"))
# What the compiler, the allocator and the pools of threads take at first.
WARM_UP = 0.3
PAGE = os.sysconf("SC_PAGE_SIZE")


def measured(pid, workdir):
    """Resident bytes, open handles and saves of a process."""
    process = Path("/proc") / str(pid)
    pages = int((process / "statm").read_text().split()[1])
    saves = (workdir / "log.jsonl").read_text().count('"kind": "eval"')
    return pages * PAGE, len(list((process / "fd").iterdir())), saves


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
def test_memory_and_handles_are_flat(tmp_path):
    runs = Runs(tmp_path)
    workdir = tmp_path / "long"
    output = tmp_path / "output"
    with output.open("w") as file:
        process = runs.start(workdir, "steps=10000000", "eval_every=300", output=file)
    samples, started = [], time.monotonic()
    while time.monotonic() - started < 60 * MINUTES:
        time.sleep(2)
        assert process.poll() is None, output.read_text()
        if time.monotonic() - started > 60 * MINUTES * WARM_UP:
            samples.append(measured(process.pid, workdir))
    process.terminate()
    status, printed = process.wait(timeout=120), output.read_text()
    assert status == 143, printed[-2000:]
    third = len(samples) // 3
    early, late = (
        [statistics.median(values) for values in zip(*part, strict=True)]
        for part in (samples[:third], samples[-third:])
    )
    *_, last = (line for line in printed.splitlines() if "stopped at step" in line)
    print(
        f"{MINUTES:g} min, {last}; resident {early[0] / 2**20:.1f} MiB, then "
        f"{late[0] / 2**20:.1f} MiB; handles {early[1]:g}, then {late[1]:g}; "
        f"saves {early[2]:g}, then {late[2]:g}"
    )
    assert late[2] > early[2]
    assert late[0] < 1.02 * early[0]
    assert late[1] <= early[1] + 2
