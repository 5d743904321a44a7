"""The pooling with switches beside `nn.max_pool`, and packed switches beside bytes.

    python experiments/benchmarks/pooling.py
    python experiments/benchmarks/pooling.py --topology v5e:2x2    # pip install -e .[tpu]

Times four pairs of programs in turn, and prints each pair's medians, the median over the
rounds of the quotient of both times with its quartiles (above 1 segjax's form is the
faster one), and the bytes that the compiler counts in both programs:

  pool              the maximum of 2x2 windows
  pool, gradient    the same, and the gradient for the input
  unpool            what an encoder and a decoder do: pool, keep the switches, unpool a map
                    by them; the other form keeps a byte for each switch
  unpool, gradient  the same, and the gradients for the input and the map

Odd sides are pooled with windows that the border cuts. With `--topology` nothing is
timed: the programs are compiled for a TPU, each between two 3x3 convolutions, because its
compiler chooses layouts by what stands beside, and the bytes are what all of it moves to
and from the TPU's large memory.
"""

import dataclasses
import json
import statistics
from pathlib import Path

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from rich.console import Console
from rich.table import Table

from segjax import cli
from segjax.costs import interleaved_times, ratios
from segjax.errors import InputError
from segjax.ops.pooling import (
    max_pool_with_switches,
    max_unpool,
    pack_switches,
    unpack_switches,
)
from segjax.planning.hlo import memory_traffic
from segjax.planning.topology import find_devices
from segjax.whole_file import whole_file


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """What to run."""

    sizes: tuple[str, ...] = (
        "2x180x240x64",
        "2x90x120x64",
        "2x45x60x64",
        "4x45x60x256",
        "2x88x120x128",
        "2x23x30x512",
    )
    """Maps to pool: images x rows x columns x channels."""

    dtypes: tuple[str, ...] = ("float32", "bfloat16")
    """Their types."""

    rounds: int = 31
    """Repetitions, all programs of a size in turn."""

    topology: str | None = None
    """Compile for this TPU slice and time nothing."""

    output: Path | None = None
    """JSON file with all figures."""


def segjax_pool(x):
    """The pooling of every network here, without its switches."""
    return max_pool_with_switches(x)[0]


def plain_pool(x):
    """The same values by `nn.max_pool`; its padding is smaller than every number."""
    odd = [(0, side % 2) for side in x.shape[1:3]]
    return nn.max_pool(x, (2, 2), strides=(2, 2), padding=odd)


def packed_use(x, values):
    """Pools `x` and unpools `values` by its switches, kept four to a byte."""
    pooled, switches = max_pool_with_switches(x)
    packed = pack_switches(switches)
    switches = unpack_switches(packed, channels=x.shape[-1])
    return pooled, max_unpool(values, switches, size=x.shape[1:3])


def byte_use(x, values):
    """The same by switches as they are, a byte each."""
    pooled, switches = max_pool_with_switches(x)
    return pooled, max_unpool(values, switches, size=x.shape[1:3])


def with_gradient(function):
    """What a function returns, and its gradients for these weights of the result."""

    def both(weights, *args):
        result, backward = jax.vjp(function, *args)
        return result, backward(weights)

    return both


def between_convolutions(name, function):
    """A network of which `function`, of that name in `PAIRS`, is a part.

    Returns:
      `(kernels, x) -> loss`, or the loss and its gradients.
    """

    def loss(kernels, x):
        x = nn.relu(_convolved(x, kernels[0]))
        if name.startswith("unpool"):
            values = nn.relu(_convolved(segjax_pool(x), kernels[1]))
            result = _convolved(function(x, values)[1], kernels[2])
        else:
            result = _convolved(function(x), kernels[1])
        return jnp.mean(jnp.square(result.astype(jnp.float32)))

    if name.endswith("gradient"):
        return jax.value_and_grad(loss, argnums=(0, 1))
    return loss


def _convolved(x, kernel):
    return lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


# The other form, segjax's form, their arguments by name.
PAIRS = {
    "pool": (plain_pool, segjax_pool, ("x",)),
    "pool, gradient": (plain_pool, segjax_pool, ("x",)),
    "unpool": (byte_use, packed_use, ("x", "values")),
    "unpool, gradient": (byte_use, packed_use, ("x", "values")),
}


def main(benchmark: Benchmark) -> None:
    """Prints a table, size by size."""
    device = None
    if benchmark.topology:
        device = find_devices(benchmark.topology)[0]
    console = Console()
    figures = []
    for dtype in benchmark.dtypes:
        for size in benchmark.sizes:
            rows = _measure(benchmark, size, jnp.dtype(dtype), device)
            console.print(_table(f"{dtype} {size}", rows))
            figures.append({"dtype": dtype, "size": size, "programs": rows})
    if benchmark.output is not None:
        where = benchmark.topology or jax.devices()[0].device_kind
        report = {"device": where, "jax": jax.__version__, "figures": figures}
        with whole_file(benchmark.output) as scratch:
            scratch.write_text(json.dumps(report, indent=1))


def _measure(benchmark, size, dtype, device):
    """A row of figures for every pair of programs."""
    try:
        images, height, width, channels = map(int, size.split("x"))
    except ValueError as error:
        raise InputError(
            f"size {size!r}: expected images x rows x columns x channels, 2x45x60x64"
        ) from error
    sizes = (images, height, width, channels)
    rows = {}
    for name, (other, own, needed) in PAIRS.items():
        if device is None:
            forms, args = (other, own), _arrays(sizes, dtype, needed)
            if name.endswith("gradient"):
                forms = [with_gradient(form) for form in forms]
                weights = _arrays(sizes, dtype, ("both",))[0]
                args = [weights if "values" in needed else weights[0], *args]
        else:
            forms = [between_convolutions(name, form) for form in (other, own)]
            args = _shapes(sizes, dtype, device)
        compiled = [jax.jit(form).lower(*args).compile() for form in forms]
        rows[name] = {"bytes": [_moved(program, device) for program in compiled]}
        if device is None:
            rows[name] |= _timed(compiled, args, benchmark.rounds)
    return rows


def _timed(compiled, args, rounds):
    other, own = (_call(program, args) for program in compiled)
    # Ratios are those to the first one's times.
    seconds = interleaved_times({"own": own, "other": other}, rounds=rounds, warmup=2)
    relative = ratios(seconds)["other"]
    return {
        "milliseconds": [
            1e3 * statistics.median(seconds[form]) for form in ("other", "own")
        ],
        "times_faster": relative.median,
        "quartiles": relative.spread,
    }


def _arrays(sizes, dtype, names):
    """Random maps `x`, pooled ones `values`, and a pair of weights for results."""
    pooled = (sizes[0], -(-sizes[1] // 2), -(-sizes[2] // 2), sizes[3])
    keys = jax.random.split(jax.random.key(0), 4)
    x, weights = (jax.random.normal(key, sizes, dtype) for key in keys[:2])
    values, other = (jax.random.normal(key, pooled, dtype) for key in keys[2:])
    arrays = {"x": x, "values": values, "both": (other, weights)}
    return [arrays[name] for name in names]


def _shapes(sizes, dtype, device):
    """Kernels and maps on a device that is not here."""
    sharding = jax.sharding.SingleDeviceSharding(device)
    kernel = (3, 3, sizes[3], sizes[3])
    kernel, x = (
        jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)
        for shape in (kernel, sizes)
    )
    return [(kernel,) * 3, x]


def _moved(program, device):
    if device is not None:
        return memory_traffic(program.as_text())
    return int(program.cost_analysis()["bytes accessed"])


def _call(program, args):
    return lambda: program(*args)


def _table(title, rows):
    table = Table(title=title)
    table.add_column("program")
    for column in ("other ms", "segjax ms", "times faster", "other MB", "segjax MB"):
        table.add_column(column, justify="right")
    for name, row in rows.items():
        times = ("-", "-", "-")
        if "milliseconds" in row:
            low, high = row["quartiles"]
            times = (
                *(f"{ms:.2f}" for ms in row["milliseconds"]),
                f"{row['times_faster']:.2f} ({low:.2f} to {high:.2f})",
            )
        table.add_row(name, *times, *(f"{moved / 1e6:.1f}" for moved in row["bytes"]))
    return table


if __name__ == "__main__":
    cli.main(main, Benchmark())
