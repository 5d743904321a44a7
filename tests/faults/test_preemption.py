"""Runs that are told to stop save at once, say so, and go on as if nothing had been.

And so does one that is killed; all other moments to kill it at are in `test_kill.py`.
"""

import os
import random
import re
import signal
import subprocess
import sys
import time

import pytest
from whole_runs import Runs, assert_same_run, begun, ended, records

from segjax.training import checkpoint
from segjax.training.preemption import Stopped, listening

STATUS = {signal.SIGTERM: 143, signal.SIGINT: 130}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return Runs(tmp_path_factory.mktemp("stopped"))


def stop_once(runs, workdir, signum, delay):
    """Starts the run and stops it; the step it stopped at, None if it was done."""
    process = runs.start(workdir)
    begun(workdir, process)
    time.sleep(delay)
    process.send_signal(signum)
    printed, _ = process.communicate(timeout=120)
    if process.returncode == 0:
        return None
    # After training there is the result to write, past which no signal is heard.
    assert process.returncode in (STATUS[signum], -signum), printed
    if process.returncode == -signum:
        assert (workdir / "result.json").is_file()
        return None
    assert "Traceback" not in printed
    stopped = re.search(r"stopped (.*), saved; run the same command to go on", printed)
    assert stopped, printed
    if stopped[1] == "after the last step":
        return None
    step = int(stopped[1].removeprefix("at step "))
    if step:
        assert checkpoint.read(workdir / "checkpoints").step == step
    # No step that was done is lost, and none is told that is not there.
    assert all(record["step"] <= step for record in records(workdir))
    return step


def stop_and_compare(runs, *, stops, seed):
    chance = random.Random(seed)
    steps, finished = [], 0
    while len(steps) < stops:
        workdir = runs.folder / f"seed{seed}-{finished}"
        for _ in range(min(chance.randint(1, 4), stops - len(steps))):
            signum = chance.choice(list(STATUS))
            delay = chance.uniform(0, 0.7 * runs.seconds)
            step = stop_once(runs, workdir, signum, delay)
            if step is None:
                break
            steps.append(step)
        runs.finish(workdir)
        assert_same_run(workdir, runs.whole)
        finished += 1
    print(f"{stops} stops, at steps {steps}, {finished} runs")
    return steps


def test_killed_in_a_save_then_in_use_then_stopped_then_resumed(runs):
    workdir = runs.folder / "in use"
    process = runs.start(workdir)
    while process.poll() is None and not list(workdir.glob("checkpoints/*-tmp*")):
        time.sleep(0.001)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    process.communicate()
    process = runs.start(workdir)
    begun(workdir, process)
    process.send_signal(signal.SIGSTOP)  # or it might be done before the next has begun
    told = runs.finish(workdir, status=2)
    assert f"error: workdir {workdir} is in use by process {process.pid} on " in told
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGCONT)
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == 143, printed
    assert "saved; run the same command to go on" in printed
    runs.finish(workdir)
    assert_same_run(workdir, runs.whole)


@pytest.mark.slow
def test_stopped_ten_times(runs):
    assert runs.again.exists()
    stop_and_compare(runs, stops=10, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("signum", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)]
)
def test_two_processes_stop_at_one_step(runs, signum, status):
    """Whichever is told; and what they give is what they give without a stop."""
    workdir = runs.folder / f"two stopped by {signum}"
    pair = runs.start_two(workdir)
    begun(workdir, pair[0])
    pair[1].send_signal(signum)
    printed, codes = zip(*ended(pair), strict=True)
    assert codes == (143, status), printed
    step = int(re.search("stopped at step (\\d+), saved", printed[0])[1])
    assert 0 < step < 24
    assert f"stopped at step {step}, saved" in printed[1]
    assert checkpoint.read(workdir / "checkpoints").step == step
    assert [code for _, code in ended(runs.start_two(workdir))] == [0, 0]
    assert_same_run(workdir, runs.whole_of_two)


HEARING = """
import signal, time
from segjax.training.preemption import listening
with listening() as stop:
    print("listening", flush=True)
    while not stop.reached(1):
        time.sleep(0.01)
    print("saving", flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("signum", STATUS)
def test_second_signal_ends_at_once(signum):
    process = subprocess.Popen(
        [sys.executable, "-c", HEARING],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )
    for told in ("listening", "saving"):
        assert process.stdout.readline() == f"{told}\n"
        process.send_signal(signum)
    printed, _ = process.communicate(timeout=60)
    assert (process.returncode, printed) == (-signum, "")


@pytest.mark.parametrize(("signum", "status"), STATUS.items())
def test_what_takes_long_is_interrupted(signum, status):
    before = signal.getsignal(signum)
    with listening() as stop:
        assert not stop.reached(1)
        with stop.interrupting():
            pass

        def work():
            with stop.interrupting():
                signal.raise_signal(signum)
                pytest.fail("went on")

        with pytest.raises(Stopped) as stopped:
            work()
        assert stopped.value.code == status
        assert stop.reached(2)
        # And what would begin then does not.
        with pytest.raises(Stopped), stop.interrupting():
            pytest.fail("began")
    assert signal.getsignal(signum) is before
