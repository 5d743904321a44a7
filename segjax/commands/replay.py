"""`python -m segjax replay`."""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
from rich.console import Console

from segjax import configuration, experiment
from segjax.errors import InputError
from segjax.training import parallel, processes
from segjax.training import replay as kept


def replay(file: Path) -> None:
    """Does the one step again at which a run's loss, gradient or weights ran away.

    Prints what went in and what came out; writes nothing.

    Args:
      file: RUN/not_finite/step_N.npz; such a run's last message names it.
    """
    folder = file.resolve().parent.parent
    try:
        values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{folder}: not a run of segjax ({error}): expected RUN/not_finite/step_N.npz"
        ) from error
    # The state is in the file; what it was started from may be gone.
    config = dataclasses.replace(configuration.from_plain(values), init_from=None)
    processes.keep_compiled_programs(processes.Launch())
    prepared = experiment.prepare(config)
    like = experiment.initial_state(prepared, seed=config.seed)
    step, state, batch = kept.read(file, like)
    console = Console()
    console.print(f"step {step} of {folder}", soft_wrap=True)
    image, label = batch["image"], batch["label"]
    counts = np.bincount(label.ravel(), minlength=256)
    classes = ", ".join(f"{c}: {counts[c]:,}" for c in np.flatnonzero(counts))
    console.print(f"image {image.shape}, values {image.min()} to {image.max()}")
    console.print(f"label {label.shape}, pixels {classes}", soft_wrap=True)
    if "weight" in batch:
        weight = batch["weight"]
        console.print(f"weight {weight.min():g} to {weight.max():g}")
    console.print(f"largest weight of the network before {_largest(state.params):g}")
    mesh = prepared.mesh
    observed = kept.observe(
        prepared.train_step,
        parallel.replicate(mesh, state),
        parallel.shard_batch(mesh, batch),
    )
    for name, value in observed.sums.items():
        console.print(f"{name} {value:g}")
    if observed.not_finite:
        names = ", ".join(observed.not_finite)
        console.print(
            f"not finite after the step: {names}", soft_wrap=True, markup=False
        )
    else:
        console.print("after the step all arrays are finite")


def _largest(params) -> float:
    return max(float(np.abs(x).max()) for x in jax.tree.leaves(params))
