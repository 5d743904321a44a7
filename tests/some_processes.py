"""A run of four devices in any number of processes; run by `test_processes.py`.

python tests/some_processes.py NAME FOLDER [--coordinator ... of Launch]
"""

import json
import sys
from functools import partial
from pathlib import Path

import jax
import numpy as np
import optax
import pytest
import tyro
from eight_devices import make_batch, net, train_step
from jax.experimental import multihost_utils

from segjax.errors import InputError
from segjax.training import parallel, processes
from segjax.training.state import create_state


def numbers(folder):
    """Two steps in every layout, each process with its own images; saved by one."""
    tx = optax.sgd(0.02, momentum=0.9)
    state = create_state(net("unet"), tx, seed=0)
    found = {}
    layouts = (("jit", "jit", 1), ("space", "jit", 4), ("pmap", "pmap", 1))
    for layout, engine, space in layouts:
        mesh = parallel.make_mesh(space=space)
        assert mesh.size == 4
        share = parallel.batch_share(mesh)
        step = train_step("unet", mesh, engine, tx)
        trained = parallel.replicate(mesh, state)
        for seed in range(2):
            rows = np.split(np.arange(8), share["shard_count"])[share["shard_index"]]
            batch = {k: v[rows] for k, v in make_batch(seed).items()}
            trained, sums = step(trained, parallel.shard_batch(mesh, batch))
        leaves = jax.tree.leaves(jax.device_get((sums, trained)))
        found |= {f"{layout}/{i}": leaf for i, leaf in enumerate(leaves)}
    processes.on_first(lambda: np.savez(folder / "numbers.npz", **found))


def voices(folder):
    """One error for all, one value for all, and who disagrees is named."""
    me, count = jax.process_index(), jax.process_count()
    assert processes.on_first(lambda: {"from": me}) == {"from": 0}

    def wrong():
        raise InputError(f"no such file, says {me}")

    for function, message in (
        (partial(processes.on_first, wrong), "no such file, says 0"),
        (
            partial(processes.check_agreement, {"seed": 7, "rate": me}),
            "processes disagree: rate is 0 in process 0 and 1 in process 1",
        ),
    ):
        with pytest.raises(InputError, match=message):
            function()
    processes.check_agreement({"seed": 7})
    made = folder / "made_once"
    seen = processes.first_before_others(lambda: made.exists() or made.touch())
    assert seen is (None if me == 0 else True)
    multihost_utils.sync_global_devices("all")
    processes.on_first(lambda: (folder / "voices").write_text(json.dumps(count)))


if __name__ == "__main__":
    name, folder, *options = sys.argv[1:]
    processes.start(tyro.cli(processes.Launch, args=options))
    globals()[name](Path(folder))
