"""Bytes that cross from encoder to decoder, from buffers and compiled programs.

    python experiments/benchmarks/border.py

Runs SegNet-Basic's encoder once and prints what each of its poolings leaves behind for
the way back: switches of 2 bits, the pooled maps, and the int64 indices that PyTorch's
pooling would return for the same maxima; then what each decoder's compiled program
reads. Every figure is the size of an array that exists or of a program's input.
"""

import dataclasses

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from segjax import cli, costs
from segjax.models import encoders
from segjax.models.features import Features
from segjax.models.zoo import build_model


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """What to measure."""

    models: tuple[str, ...] = ("segnet_basic", "fcn_basic", "unet_basic")
    """Networks whose decoders are compared."""

    height: int = 360
    """Rows of the image."""

    width: int = 480
    """Columns of the image."""

    num_classes: int = 11
    """Channels of the logits."""


PAPER = (
    "SegNet's paper gives .17 MB for the indices of the first pooling and 11 MB for "
    "its maps (arXiv 1511.00561, section 3.1). The maps are 64 x 180 x 240 float32, "
    "11.06 MB; .17 MB is 64 x 90 x 120 positions at 2 bits, but each of the 180 x 240 "
    "windows of a 360x480 image has a position of its own: 0.69 MB."
)


def main(benchmark: Benchmark) -> None:
    """Prints both tables."""
    console = Console()
    image_shape = (benchmark.height, benchmark.width, 3)
    size = f"{benchmark.height}x{benchmark.width}"
    features = encode(np.random.default_rng(0).normal(size=(1, *image_shape)))
    console.print(pooling_table(features, title=f"one {size} image, bytes by pooling"))
    if (benchmark.height, benchmark.width) == (360, 480):
        console.print(PAPER, highlight=False)

    table = Table(title=f"what each decoder reads of one {size} image")
    for column in ("network", "array", "type", "bytes", "MB"):
        table.add_column(
            column, justify="right" if column in ("bytes", "MB") else "left"
        )
    for name in benchmark.models:
        tensors = costs.border(
            build_model(name, num_classes=benchmark.num_classes), image_shape
        )
        if tensors is None:
            table.add_row(name, "not an encoder and a decoder", "", "", "")
            continue
        for i, tensor in enumerate(tensors):
            row = (tensor.name, tensor.type, *_bytes(tensor.num_bytes))
            table.add_row("" if i else name, *row)
        total = sum(tensor.num_bytes for tensor in tensors)
        table.add_row("", "all", "", *_bytes(total), end_section=True)
    console.print(table)


def encode(image: np.ndarray) -> Features:
    """SegNet-Basic's features of an image `[1 h w 3]`, with random weights."""
    encoder = encoders.segnet_basic()
    image = jax.numpy.asarray(image, jax.numpy.float32)

    @jax.jit
    def initialised_features(image):
        variables = encoder.init(jax.random.key(0), image, train=False)
        return encoder.apply(variables, image, train=False)

    return initialised_features(image)


def pooling_table(features: Features, *, title: str) -> Table:
    """One row for each pooling: bytes of its switches, maps and indices."""
    table = Table(title=title)
    columns = ("stride", "windows", "switches, 2 bits", "float32 maps", "int64 indices")
    for column in columns:
        table.add_column(column, justify="right")
    sums = np.zeros(3, np.int64)
    for stride, pooled in sorted(features.pooled.items()):
        _, height, width, channels = pooled.shape
        sizes = (
            features.switches[stride].nbytes,
            pooled.nbytes,
            torch_indices(features, stride).nbytes,
        )
        sums += sizes
        table.add_row(
            str(stride), f"{height} x {width} x {channels}", *map(_megabytes, sizes)
        )
    table.add_section()
    table.add_row("all", "", *map(_megabytes, sums))
    return table


def torch_indices(features: Features, stride: int) -> np.ndarray:
    """What PyTorch's `max_pool2d(..., return_indices=True)` would return.

    Int64 `[b h w c]`: of each maximum, its position in the flattened map of its
    channel. Raises RuntimeError if the pooled values are not at these positions.
    """
    pooled = np.asarray(features.pooled[stride])
    maps = np.asarray(features.maps[stride // 2])
    batch, height, width, channels = pooled.shape
    packed = np.asarray(features.switches[stride])
    bits = np.stack([packed >> 2 * j & 3 for j in range(4)], axis=-1)
    switches = bits.reshape(batch, height, width, -1)[..., :channels].astype(np.int64)
    rows = 2 * np.arange(height).reshape(1, -1, 1, 1) + switches // 2
    columns = 2 * np.arange(width).reshape(1, 1, -1, 1) + switches % 2
    indices = rows * maps.shape[2] + columns
    flat = maps.reshape(batch, -1, channels)
    found = np.take_along_axis(flat, indices.reshape(batch, -1, channels), axis=1)
    if not np.array_equal(found.reshape(pooled.shape), pooled):
        raise RuntimeError(f"the switches at stride {stride} miss the pooled values")
    return indices


def _megabytes(num_bytes):
    return f"{num_bytes / 1e6:.2f} MB\n{num_bytes:,} B"


def _bytes(num_bytes):
    return f"{num_bytes:,}", f"{num_bytes / 1e6:.2f}"


if __name__ == "__main__":
    cli.main(main, Benchmark())
