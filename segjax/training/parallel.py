"""The only file that knows devices: a mesh, where arrays live, compiled steps.

A step is one function whatever it runs on. `jit_train_step` makes it one program over
the whole batch, which the compiler splits over the mesh: images over the axis `data`,
the rows of every map over the axis `space`, with the rows that a convolution needs from
a neighbour sent over. `pmap_train_step` makes it one program per device, which adds up
its sums over the axis `data` itself. Both give the same numbers.
"""

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import jax
import numpy as np
from flax import linen as nn
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from segjax.errors import InputError

Engine = Literal["jit", "pmap"]

AXIS = "data"
"""The axis that a step run by pmap adds its sums over."""

_AXES = (["data", "space"], ["data"], ["space"])

MAPS = ("prediction", "confidence")
"""What an evaluation step returns for every image; all else is sums."""


def parse_mesh(text: str) -> tuple[int | None, int]:
    """`data=4,space=2` -> (4, 2); either may be left out.

    Raises:
      InputError: something else is written there.
    """
    axes = [re.fullmatch(r"(data|space)=(\d+)", part) for part in text.split(",")]
    if None in axes or [axis[1] for axis in axes] not in _AXES:
        raise InputError(f"mesh {text!r}: expected data=N,space=M")
    sizes = {axis[1]: int(axis[2]) for axis in axes}
    return sizes.get("data"), sizes.get("space", 1)


def make_mesh(
    devices: Sequence[jax.Device] | None = None,
    *,
    data: int | None = None,
    space: int = 1,
) -> Mesh:
    """Devices in rows of `space`: a row shares images, rows share out the batch.

    The devices of a process are neighbours, so that it loads as few images as it can.
    `Mesh` has automatic axes in every jax from 0.10 to 0.12; `jax.make_mesh` would
    make explicit ones, under which a step's scatter needs hand-written shardings.

    Args:
      devices: None takes those of all processes. Every one is used.
      data: devices that split the batch; None is all that `space` leaves.
      space: devices that split the height of an image.

    Raises:
      InputError: the mesh does not have as many devices as there are.
    """
    devices = list(jax.devices() if devices is None else devices)
    rows = len(devices) // max(1, space) if data is None else data
    if min(rows, space) < 1 or rows * space != len(devices):
        raise InputError(
            f"mesh data={rows},space={space} has {rows * space} devices, but there "
            f"are {len(devices)}: expected a mesh of all of them"
        )
    devices.sort(key=lambda device: (device.process_index, device.id))
    per_process = len(devices) // len({device.process_index for device in devices})
    if per_process % space and space % per_process:
        raise InputError(
            f"mesh space={space}, but a process has {per_process} devices: expected a "
            "divisor or a multiple of that"
        )
    return Mesh(np.array(devices).reshape(rows, space), ("data", "space"))


def open_mesh(text: str | None) -> Mesh:
    """The mesh that an option `--mesh` describes; without one `data` has all devices.

    Raises:
      InputError: see `parse_mesh` and `make_mesh`.
    """
    data, space = parse_mesh(text) if text else (None, 1)
    return make_mesh(data=data, space=space)


def check_batch_size(
    batch_size: int, mesh: Mesh, *, field: str, accumulate: int = 1
) -> None:
    """Raises InputError unless the global batch splits evenly over the devices."""
    parts = mesh.shape["data"] * accumulate
    if batch_size < 1 or batch_size % parts:
        accumulated = f" in {accumulate} steps each" if accumulate > 1 else ""
        raise InputError(
            f"{field} is {batch_size}, but it is split over {mesh.shape['data']} "
            f"device(s){accumulated}: expected a positive multiple of {parts}"
        )


def check_height(
    model: nn.Module, size: tuple[int, int], mesh: Mesh, *, field: str
) -> None:
    """Raises InputError unless images of `size` can be trained on in rows of devices.

    Every device must get as many rows, and no map may have fewer rows than the kernel
    that it is convolved with: XLA (jax 0.10.2) then multiplies the gradient of the
    map by the devices along `data`.
    """
    space = mesh.shape["space"]
    if space == 1:
        return
    if size[0] % space:
        raise InputError(
            f"{field} has {size[0]} rows, but they are split over {space} devices: "
            f"expected a multiple of {space}"
        )
    image = jax.ShapeDtypeStruct((1, *size, 3), np.float32)
    variables = jax.eval_shape(
        lambda key, x: model.init(key, x, train=False), jax.random.key(0), image
    )
    apply = partial(model.apply, train=False)
    for rows, kernel in _convolved_rows(jax.make_jaxpr(apply)(variables, image)):
        if rows < kernel:
            raise InputError(
                f"{field} has {size[0]} rows, of which the network makes a map of "
                f"{rows} and convolves it with {kernel} rows of weights: splitting "
                f"rows over devices needs {field} at least "
                f"{-(-kernel * size[0] // rows)}"
            )


def _convolved_rows(jaxpr):
    """Rows of map and kernel of every convolution in a traced program."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "conv_general_dilated":
            layout = equation.params["dimension_numbers"]
            maps, kernel = (variable.aval.shape for variable in equation.invars)
            rows, taps = maps[layout.lhs_spec[2]], kernel[layout.rhs_spec[2]]
            spread, reach = (equation.params[f"{side}hs_dilation"][0] for side in "lr")
            yield (rows - 1) * spread + 1, (taps - 1) * reach + 1
        for value in equation.params.values():
            for inner in value if isinstance(value, tuple | list) else [value]:
                if hasattr(inner, "eqns"):
                    yield from _convolved_rows(inner)


def batch_share(mesh: Mesh) -> dict[str, int]:
    """Which part of every global batch this process loads, for the pipeline.

    Returns:
      `shard_index` and `shard_count`. Processes that hold different rows of the same
      images have the same share.
    """
    own = [
        row
        for row, devices in enumerate(mesh.devices)
        if any(d.process_index == jax.process_index() for d in devices)
    ]
    return {
        "shard_index": own[0] // len(own),
        "shard_count": mesh.shape["data"] // len(own),
    }


def replicate(mesh: Mesh, tree: Any) -> Any:
    """Copies `tree` to every device; the result shares no buffer with `tree`.

    `device_put` of an array that already lives on the first device would alias it,
    and donating the state would then delete the caller's arrays: hence numpy. Every
    process gives the same values.
    """
    whole = NamedSharding(mesh, PartitionSpec())

    def put(leaf):
        host = np.array(leaf)
        return jax.make_array_from_callback(host.shape, whole, lambda index: host)

    return jax.tree.map(put, tree)


def shard_batch(mesh: Mesh, batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    """Splits a host batch over `data`; each process gives the rows of its share.

    The devices of a row of the mesh get whole images. These are bytes; what the network
    makes of them is split over `space`.
    """
    share = batch_share(mesh)
    split = NamedSharding(mesh, PartitionSpec("data"))

    def put(array):
        rows = len(array) * share["shard_count"]
        first = len(array) * share["shard_index"]

        def piece(index):
            start, stop, _ = index[0].indices(rows)
            return array[start - first : stop - first]

        return jax.make_array_from_callback((rows, *array.shape[1:]), split, piece)

    return {name: put(array) for name, array in batch.items()}


def jit_train_step(step: Callable, mesh: Mesh) -> Callable:
    """Jits `(state, batch) -> (state, sums)`, donating the state."""
    whole, split = _shardings(mesh)

    def train_step(state, batch):
        return step(state, _split_rows(mesh, batch))

    return jax.jit(
        train_step,
        in_shardings=(whole, split),
        out_shardings=(whole, whole),
        donate_argnums=0,
    )


def jit_eval_step(step: Callable, mesh: Mesh) -> Callable:
    """Jits `(variables, batch) -> pytree`, which every process can fetch.

    On one process results stay on the devices that made them; of several, each
    gets all of them.
    """
    whole, split = _shardings(mesh)

    def eval_step(variables, batch):
        return step(variables, _split_rows(mesh, batch))

    return jax.jit(
        eval_step,
        in_shardings=(whole, split),
        out_shardings=whole if mesh.is_multi_process else None,
    )


def pmap_train_step(step: Callable, mesh: Mesh) -> Callable:
    """Pmaps `(state, batch) -> (state, sums)` over AXIS, donating the state.

    Takes and gives what `jit_train_step` does. The step gets one device's images and
    adds up its sums over AXIS.

    Raises:
      InputError: the mesh has an axis `space`, which only the compiler can split.
    """
    return _pmap(step, mesh, out_axes=(None, None), donate_argnums=0)


def pmap_eval_step(step: Callable, mesh: Mesh) -> Callable:
    """Pmaps `(variables, batch) -> dict` over AXIS; see `pmap_train_step`.

    The step gives sums, added up over AXIS, and of MAPS its own images'.
    """
    whole, _ = _shardings(mesh)

    def sums_and_maps(variables, batch):
        sums = dict(step(variables, batch))
        return sums, {name: sums.pop(name) for name in MAPS if name in sums}

    run = _pmap(sums_and_maps, mesh, out_axes=(None, 0))
    join = jax.jit(
        lambda maps: jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), maps),
        out_shardings=whole if mesh.is_multi_process else None,
    )

    def both(variables, batch):
        sums, maps = run(variables, batch)
        return {**sums, **join(maps)}

    return both


def _shardings(mesh):
    return NamedSharding(mesh, PartitionSpec()), NamedSharding(
        mesh, PartitionSpec("data")
    )


def _split_rows(mesh, batch):
    """Inside a program: from here on rows of pixels are split over `space`."""
    if mesh.shape["space"] == 1:
        return batch
    rows = NamedSharding(mesh, PartitionSpec("data", "space"))
    return {
        name: jax.lax.with_sharding_constraint(array, rows) if array.ndim > 2 else array
        for name, array in batch.items()
    }


def _pmap(function, mesh, *, out_axes, **options):
    """`function(replicated, batch)` on global arrays as `_shardings` places them."""
    if mesh.shape["space"] > 1:
        raise InputError(
            f"mesh space={mesh.shape['space']}, but pmap splits the batch only: "
            "expected --parallel jit, or space=1"
        )
    _, split = _shardings(mesh)
    mapped = jax.pmap(
        function,
        axis_name=AXIS,
        in_axes=(None, 0),
        out_axes=out_axes,
        devices=mesh.devices.flatten().tolist(),
        **options,
    )
    count = mesh.size
    by_device = jax.jit(
        lambda batch: jax.tree.map(lambda x: x.reshape(count, -1, *x.shape[1:]), batch),
        in_shardings=split,
        out_shardings=split,
    )

    def run(replicated, batch):
        results = mapped(replicated, by_device(batch))
        # Placed as they came in, so that the next call finds its program.
        return tuple(
            jax.tree.map(lambda x, axis=axis: _as_global(mesh, x, axis), result)
            for result, axis in zip(results, out_axes, strict=True)
        )

    return run


def _as_global(mesh, array, axis):
    """What pmap returns of this process's devices as an array of all of them."""
    whole, split = _shardings(mesh)
    shards = [shard.data for shard in array.addressable_shards]
    if axis is None:
        return jax.make_array_from_single_device_arrays(array.shape, whole, shards)
    shape = (mesh.size, *array.shape[1:])
    return jax.make_array_from_single_device_arrays(shape, split, shards)


COMPILE: dict[Engine, tuple[Callable, Callable]] = {
    "jit": (jit_train_step, jit_eval_step),
    "pmap": (pmap_train_step, pmap_eval_step),
}
"""Engine -> what compiles a training step and an evaluation step for a mesh."""
