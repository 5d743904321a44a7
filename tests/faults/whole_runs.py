"""The tiny run in folders of its own, and what makes two runs the same."""

import functools
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp

from segjax.training import checkpoint

TINY_RUN = Path(__file__).with_name("tiny_run.py")
# Not where pytest's own process keeps its programs: a kill may cut one off.
CACHE = os.path.join(os.environ["JAX_COMPILATION_CACHE_DIR"], "killed")
SECONDS = 600


class Runs:
    """Starts the tiny run in its own folders, all from the same records."""

    def __init__(self, folder):
        self.folder = folder
        self.prepared = folder / "prepared"
        self.prepared.mkdir()
        self.whole = folder / "whole"
        self.finish(self.whole)

    @functools.cached_property
    def again(self):
        """Another whole run, in `seconds`: the first one has compiled for it."""
        started = time.monotonic()
        self.finish(self.folder / "again")
        self.seconds = time.monotonic() - started
        return self.folder / "again"

    @functools.cached_property
    def whole_of_two(self):
        """A whole run of two processes."""
        workdir = self.folder / "whole of two"
        assert [code for _, code in ended(self.start_two(workdir))] == [0, 0]
        return workdir

    def start(self, workdir, *changes, output=subprocess.PIPE):
        return subprocess.Popen(
            [sys.executable, TINY_RUN, workdir, self.prepared, *changes],
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"JAX_COMPILATION_CACHE_DIR": CACHE},
        )

    def start_two(self, workdir):
        """Starts two processes of one run."""
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        return [
            self.start(workdir, f'launch=["localhost:{port}", 2, {index}]')
            for index in range(2)
        ]

    def finish(self, workdir, *changes, status=0):
        """Lets it end by itself; what it printed."""
        process = self.start(workdir, *changes)
        printed, _ = process.communicate(timeout=SECONDS)
        assert process.returncode == status, printed
        return printed


def begun(workdir, process):
    """Waits until the run listens: it does before it opens its log for this start."""
    log = workdir / "log.jsonl"
    before = log.stat().st_mtime_ns if log.is_file() else 0
    while process.poll() is None:
        if log.is_file() and log.stat().st_mtime_ns > before:
            return
        time.sleep(0.002)


def ended(processes):
    """What each printed, and its status."""
    return [
        (process.communicate(timeout=300)[0], process.returncode)
        for process in processes
    ]


def whole_state(folder):
    """Everything that the last checkpoint holds, not only what evaluation needs."""
    step = checkpoint.read(folder).step
    state = folder / str(step) / "state"
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
        # As numpy, because it may be from two processes.
        as_numpy = jax.tree.map(
            lambda _: ocp.RestoreArgs(restore_type=np.ndarray),
            reader.metadata(state).item_metadata.tree,
        )
        return reader.restore(state, args=ocp.args.PyTreeRestore(restore_args=as_numpy))


def records(workdir):
    """Records by kind and step, less what depends on the clock."""
    lines = (workdir / "log.jsonl").read_text().splitlines()
    kept = [json.loads(line) for line in lines]
    kept = [record for record in kept if record["kind"] != "start"]
    for record in kept:
        record.pop("images_per_second", None)
    return kept


def assert_same_run(workdir, other):
    state, expected = (whole_state(w / "checkpoints") for w in (workdir, other))
    assert jax.tree.structure(state) == jax.tree.structure(expected)
    for x, y in zip(jax.tree.leaves(state), jax.tree.leaves(expected), strict=True):
        assert x.dtype == y.dtype
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()
    assert records(workdir) == records(other)
    results = [json.loads((w / "result.json").read_text()) for w in (workdir, other)]
    assert results[0]["scores"] == results[1]["scores"]


def assert_same_checkpoints(workdir, other):
    """The same steps are kept; a run that was told to stop keeps that step, too."""
    steps = [
        [int(p.name) for p in (w / "checkpoints").iterdir() if p.name.isdigit()]
        for w in (workdir, other)
    ]
    assert sorted(steps[0]) == sorted(steps[1])
