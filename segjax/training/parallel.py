"""The only file that knows devices: a mesh, where arrays live, jitted steps."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from segjax.errors import InputError


def make_mesh(devices: list[jax.Device] | None = None) -> Mesh:
    """All devices in one row named `data`; batches are split over it.

    `Mesh` has automatic axes in every jax from 0.10 to 0.12; `jax.make_mesh` would
    make explicit ones, under which a step's scatter needs hand-written shardings.
    """
    return Mesh(np.array(devices or jax.devices()), ("data",))


def check_batch_size(batch_size: int, mesh: Mesh, *, field: str) -> None:
    """Raises InputError unless the global batch splits evenly over the devices."""
    if batch_size < 1 or batch_size % mesh.size:
        raise InputError(
            f"{field} is {batch_size}, but it is split over {mesh.size} device(s): "
            f"expected a positive multiple of {mesh.size}"
        )


def replicate(mesh: Mesh, tree: Any) -> Any:
    """Copies `tree` to every device; the result shares no buffer with `tree`.

    `device_put` of an array that already lives on the first device would alias it,
    and donating the state would then delete the caller's arrays: hence numpy.
    """
    host = jax.tree.map(np.asarray, tree)
    return jax.device_put(host, NamedSharding(mesh, PartitionSpec()))


def shard_batch(mesh: Mesh, batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    """Splits a host batch over the mesh; each process gives its own rows."""
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    return {
        name: jax.make_array_from_process_local_data(sharding, array)
        for name, array in batch.items()
    }


def jit_train_step(step: Callable, mesh: Mesh) -> Callable:
    """Jits `(state, batch) -> (state, sums)`, donating the state."""
    whole = NamedSharding(mesh, PartitionSpec())
    split = NamedSharding(mesh, PartitionSpec("data"))
    return jax.jit(
        step,
        in_shardings=(whole, split),
        out_shardings=(whole, whole),
        donate_argnums=0,
    )


def jit_eval_step(step: Callable, mesh: Mesh) -> Callable:
    """Jits `(variables, batch) -> pytree`, everything returned replicated."""
    whole = NamedSharding(mesh, PartitionSpec())
    split = NamedSharding(mesh, PartitionSpec("data"))
    return jax.jit(step, in_shardings=(whole, split), out_shardings=whole)
