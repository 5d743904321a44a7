"""Runs that are killed at any moment end with the weights of one that is not.

`kill -9` leaves a process no way to tidy up: what is on disk at that moment is what
the next one starts from. One that is killed during a save is in `test_preemption.py`.
"""

import random
import time

import pytest
from whole_runs import (
    Runs,
    assert_same_checkpoints,
    assert_same_run,
    begun,
    ended,
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return Runs(tmp_path_factory.mktemp("killed"))


def moment_of(kind, runs, workdir, chance):
    """A function that says whether the moment to kill has come."""
    started = time.monotonic()
    if kind == "any time":
        after = chance.uniform(0, runs.seconds)
        return lambda: time.monotonic() - started > after
    checkpoints = workdir / "checkpoints"
    before = set(checkpoints.glob("*")) if checkpoints.is_dir() else set()

    def saving():
        return any("-tmp" in path.name for path in set(checkpoints.glob("*")) - before)

    def training():
        log = workdir / "log.jsonl"
        return log.is_file() and log.stat().st_mtime > started_at

    started_at = time.time()
    begins = saving if kind == "during a save" else training
    if kind == "during a save":
        delay = chance.uniform(0, 0.2) * chance.random()
    else:
        delay = chance.uniform(0, runs.seconds / 4)
    begun = []

    def come():
        if not begun and begins():
            begun.append(time.monotonic())
        return bool(begun) and time.monotonic() - begun[0] > delay

    return come


def kill_once(runs, workdir, kind, chance):
    """Starts the run and kills it; says what was in the making, None if it ended."""
    process = runs.start(workdir)
    come = moment_of(kind, runs, workdir, chance)
    while process.poll() is None:
        if come():
            process.kill()
            process.communicate()
            names = [path.name for path in (workdir / "checkpoints").glob("*")]
            return "saving" if any("-tmp" in name for name in names) else "else"
        time.sleep(0.001)
    printed, _ = process.communicate()
    assert process.returncode == 0, printed
    return None


def kill_and_compare(runs, *, kills, seed):
    """Kills runs `kills` times and resumes them; each must end as the whole one."""
    chance = random.Random(seed)
    kinds = ["during a save", "while training", "any time"]
    outcomes, finished = [], 0
    while len(outcomes) < kills:
        workdir = runs.folder / f"seed{seed}-{finished}"
        # Several kills to a run, then it may end; what it ends with is compared.
        for _ in range(min(chance.randint(1, 4), kills - len(outcomes))):
            kind = kinds[len(outcomes) % len(kinds)]
            outcome = kill_once(runs, workdir, kind, chance)
            if outcome is None:
                break
            outcomes.append(outcome)
        runs.finish(workdir)
        assert_same_run(workdir, runs.whole)
        assert_same_checkpoints(workdir, runs.whole)
        finished += 1
    print(f"{kills} kills, {outcomes.count('saving')} during a save, {finished} runs")
    return outcomes


@pytest.mark.slow
def test_two_runs_are_equal(runs):
    assert_same_run(runs.again, runs.whole)


@pytest.mark.slow
def test_killed_thirty_times(runs):
    assert runs.again.exists()
    outcomes = kill_and_compare(runs, kills=30, seed=1)
    assert outcomes.count("saving") >= 3


@pytest.mark.slow
@pytest.mark.parametrize("dies", [0, 1])
def test_a_process_that_dies_ends_the_other(runs, dies):
    """And together they go on from what was saved."""
    workdir = runs.folder / f"{dies} dies"
    pair = runs.start_two(workdir)
    begun(workdir, pair[0])
    pair[dies].kill()
    killed = time.monotonic()
    printed, codes = zip(*ended(pair), strict=True)
    print(
        f"status {codes[1 - dies]} after {time.monotonic() - killed:.0f} s: "
        f"{printed[1 - dies][-600:]}"
    )
    assert codes[dies] == -9
    assert codes[1 - dies] not in (0, None)
    # One line says what happened and what to do, and nothing comes after it.
    assert (
        printed[1 - dies].splitlines()[-1].startswith(f"error: process {1 - dies} of 2")
    )
    assert (
        printed[1 - dies]
        .rstrip()
        .endswith(
            "The last checkpoint is intact: start all processes again with the same options"
        )
    )
    assert not (workdir / "result.json").exists()
    assert [code for _, code in ended(runs.start_two(workdir))] == [0, 0]
    assert_same_run(workdir, runs.whole_of_two)
