"""Gradients of segjax's convolutions beside XLA's own, run in turn.

    python experiments/benchmarks/convolution.py

Prints, per case, the median wall time of a value and its gradients in both forms and
the ratio of the medians. On a CPU segjax takes its own form, elsewhere both are XLA's.
"""

import dataclasses
import statistics
import time

import jax
import jax.numpy as jnp
from jax import lax
from rich.console import Console
from rich.table import Table

from segjax import cli
from segjax.ops.convolution import conv_general_dilated
from segjax.ops.transposed_convolution import conv_transpose

_NHWC = ("NHWC", "HWIO", "NHWC")


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """What to time."""

    batch_size: int = 4
    """Images."""

    height: int = 90
    """Rows of the maps; columns are a third more."""

    rounds: int = 7
    """Repetitions, the two forms in turn."""


def xla_conv(x, kernel):
    """A convolution with same padding, everything XLA's."""
    return _conv(lax.conv_general_dilated, x, kernel)


def fast_conv(x, kernel):
    """The same in segjax's form."""
    return _conv(conv_general_dilated, x, kernel)


def xla_upsample(x, kernel):
    """A transposed convolution of kernel 2n, stride n or kernel n, stride n."""
    side = kernel.shape[0]
    padding = 0 if side == 2 else side // 4
    before = side - 1 - padding
    return lax.conv_general_dilated(
        x,
        jnp.flip(kernel, (0, 1)),
        (1, 1),
        [(before, before)] * 2,
        lhs_dilation=(2, 2),
        dimension_numbers=_NHWC,
    )


def fast_upsample(x, kernel):
    """The same in segjax's form."""
    padding = 0 if kernel.shape[0] == 2 else kernel.shape[0] // 4
    return conv_transpose(x, kernel, stride=2, padding=padding)


# Both forms, the channels of the maps and the shape of the kernel.
CASES = {
    "convolution 7x7, 64 to 64": (xla_conv, fast_conv, 64, (7, 7, 64, 64)),
    "convolution 3x3, 64 to 64": (xla_conv, fast_conv, 64, (3, 3, 64, 64)),
    "depthwise 7x7, 64": (xla_conv, fast_conv, 64, (7, 7, 1, 64)),
    "depthwise 3x3, 64": (xla_conv, fast_conv, 64, (3, 3, 1, 64)),
    "transposed 2x2 stride 2, 64 to 64": (
        xla_upsample,
        fast_upsample,
        64,
        (2, 2, 64, 64),
    ),
    "transposed 4x4 stride 2, 11 to 11": (
        xla_upsample,
        fast_upsample,
        11,
        (4, 4, 11, 11),
    ),
}


def main(benchmark: Benchmark) -> None:
    """Times every case and prints a table."""
    table = Table(title=f"value and gradients on {jax.devices()[0].device_kind}, ms")
    for column in ("case", "XLA", "segjax", "ratio"):
        table.add_column(column, justify="left" if column == "case" else "right")
    size = (benchmark.batch_size, benchmark.height, benchmark.height * 4 // 3)
    for name, (plain, fast, channels, shape) in CASES.items():
        keys = jax.random.split(jax.random.key(0))
        x = jax.random.normal(keys[0], (*size, channels))
        kernel = jax.random.normal(keys[1], shape)
        both = [jax.jit(_gradients(form)) for form in (plain, fast)]
        seconds = [[], []]
        for i in range(benchmark.rounds + 1):
            for times, run in zip(seconds, both, strict=True):
                started = time.perf_counter()
                jax.block_until_ready(run(x, kernel))
                if i:  # the first one compiles
                    times.append(time.perf_counter() - started)
        xla, own = (1000 * statistics.median(times) for times in seconds)
        table.add_row(name, f"{xla:.0f}", f"{own:.0f}", f"{xla / own:.1f}")
    Console().print(table)


def _conv(form, x, kernel):
    return form(
        x,
        kernel,
        (1, 1),
        "SAME",
        dimension_numbers=_NHWC,
        feature_group_count=x.shape[3] // kernel.shape[2],
    )


def _gradients(form):
    def loss(x, kernel):
        # A square: its gradient is not constant, so nothing can be folded away.
        return jnp.sum(form(x, kernel) ** 2)

    return jax.value_and_grad(loss, argnums=(0, 1))


if __name__ == "__main__":
    cli.main(main, Benchmark())
