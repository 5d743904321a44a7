"""A step whose loss is not finite: kept with the state before it, and done again."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from segjax.errors import InputError
from segjax.training import parallel, processes
from segjax.training.state import TrainState
from segjax.whole_file import whole_file

HostBatch = dict[str, np.ndarray]

FOLDER = "not_finite"
"""Where in a run's folder such steps are kept."""


class NotFiniteError(Exception):
    """A step gave something that is not finite.

    Attributes:
      step: which one, from 1.
      what: what is not finite, for a message.
    """

    def __init__(self, what: str, step: int):
        """Keeps both."""
        super().__init__(f"{what} after step {step}")
        self.what = what
        self.step = step


def check_sums(sums: dict[str, float], step: int) -> None:
    """Raises NotFiniteError unless loss and gradient of a step are finite."""
    for name, what in (("loss_sum", "the loss is"), ("grad_norm", "the gradient is")):
        if not math.isfinite(sums[name]):
            raise NotFiniteError(f"{what} {sums[name]}", step)


@jax.jit
def _all_finite(tree: Any) -> jax.Array:
    finite = [
        jnp.all(jnp.isfinite(x))
        for x in jax.tree.leaves(tree)
        if jnp.issubdtype(x.dtype, jnp.inexact)
    ]
    return jnp.all(jnp.stack(finite))


def check_state(state: TrainState, step: int) -> None:
    """Raises NotFiniteError unless all of a state is finite."""
    if not bool(_all_finite(state)):
        raise NotFiniteError("the weights are not finite", step)


class Observed(NamedTuple):
    """What a step gave when it was done again.

    Attributes:
      sums: of the step, see `segjax.training.steps.train_step`.
      not_finite: names of the arrays that are not finite after it.
    """

    sums: dict[str, float]
    not_finite: tuple[str, ...]

    @property
    def finite(self) -> bool:
        """Whether all is."""
        return not self.not_finite and all(map(math.isfinite, self.sums.values()))


def keep(
    path: Path,
    step: int,
    *,
    state: TrainState,
    train_step: Callable,
    train_batches: Callable[[int], Iterator[HostBatch]],
    mesh: jax.sharding.Mesh,
) -> Observed:
    """Writes a step's batch and the state before it to `path`, and does it again.

    The state is made once more by training from an earlier one, with the same
    batches.

    Args:
      path: of the file; see `read`.
      step: which one, from 1.
      state: any state of the run before that step; it is donated.
      train_step: as for `segjax.training.loop.fit`.
      train_batches: likewise.
      mesh: likewise.

    Raises:
      InputError: the file cannot be written.
    """
    batches = train_batches(step - 1)
    batch = parallel.shard_batch(mesh, next(batches))
    batches.close()
    whole = jax.jit(lambda x: x, out_shardings=NamedSharding(mesh, PartitionSpec()))
    arrays = {
        f"batch/{name}": x for name, x in jax.device_get(whole(batch)).items()
    } | {"step": np.array(step)}
    # At once: what follows may be cut off.
    _write(path, arrays)
    first = int(state.step)
    batches = train_batches(first)
    for _ in range(first + 1, step):
        state, _ = train_step(state, parallel.shard_batch(mesh, next(batches)))
    batches.close()
    _write(path, arrays | _named(state))
    return observe(train_step, state, batch)


def observe(
    train_step: Callable, state: TrainState, batch: dict[str, jax.Array]
) -> Observed:
    """Does one step, which may donate `state`, and looks at what it gave."""
    state, sums = train_step(state, batch)
    arrays = {
        name.removeprefix("state"): x
        for name, x in _named(state).items()
        if np.issubdtype(x.dtype, np.inexact)
    }
    return Observed(
        sums={name: float(x) for name, x in jax.device_get(sums).items()},
        not_finite=tuple(n for n, x in arrays.items() if not np.isfinite(x).all()),
    )


def read(path: Path, like: TrainState) -> tuple[int, TrainState, HostBatch]:
    """Reads what `keep` wrote: the step, the state before it, the batch.

    Args:
      path: of the file.
      like: a state with the same structure.

    Raises:
      InputError: the file cannot be read, holds no state (it was cut off), or one of
        another network.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        step = int(arrays["step"])
    except Exception as error:  # numpy and zipfile raise whatever they meet
        raise InputError(f"{path}: not a step to replay: {error}") from error
    batch = {
        name.removeprefix("batch/"): x
        for name, x in arrays.items()
        if name.startswith("batch/")
    }
    if not any(name.startswith("state") for name in arrays):
        raise InputError(
            f"{path}: holds the batch of step {step} but no state: the run was killed "
            "while it wrote it; start the run again to have it"
        )

    def same(keys, leaf):
        name = f"state{jax.tree_util.keystr(keys)}"
        found = arrays.get(name)
        if found is None or found.shape != leaf.shape or found.dtype != leaf.dtype:
            raise InputError(f"{path}: {name} is not as in the run's network")
        return found

    return step, jax.tree_util.tree_map_with_path(same, like), batch


def _named(state: TrainState) -> dict[str, np.ndarray]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(jax.device_get(state))
    return {f"state{jax.tree_util.keystr(keys)}": np.asarray(x) for keys, x in leaves}


def _write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    if not processes.is_first():
        return
    with whole_file(path) as scratch, scratch.open("wb") as file:
        np.savez(file, **arrays)
