"""Images per second of the training step, and its share of the roofline.

    python experiments/benchmarks/step.py

Times the step of each network on all devices of this machine, on random images that
are there already, and divides the least time that the chip's stated rates allow by the
measured one (`segjax.planning`: operations over peak rate, or bytes over bandwidth,
whichever is longer; "-" where no rates are stated, as for CPUs). `--height 64 --width
96 --channels 0.125 --batch-size 2 --dtype float32` suits a CPU.
"""

import dataclasses
import statistics
import time

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from segjax import cli
from segjax.configuration import Config
from segjax.models.zoo import build_model
from segjax.planning.chips import CHIPS
from segjax.planning.estimate import estimate
from segjax.planning.programs import Data, training_program
from segjax.planning.roofline import device_rates
from segjax.training import parallel
from segjax.training.optimizers import make_optimizer
from segjax.training.state import create_state

CLASSES = 11


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """What to time."""

    models: tuple[str, ...] = ("segnet_basic", "segnet_vgg16_bn", "fcn8s", "unet_bn")
    """Networks."""

    batch_size: int = 16
    """Images on each device."""

    height: int = 352
    """Rows of the images, a multiple of 32."""

    width: int = 480
    """Columns of the images, a multiple of 32."""

    channels: float = 1.0
    """Factor on the networks' channels."""

    dtype: str = "bfloat16"
    """Type of the computation."""

    mesh: str | None = None
    """Devices that split batch and image height: data=4,space=2."""

    remat: str = "none"
    """Maps that are computed twice: "none" or those inside of "blocks"."""

    steps: int = 20
    """Steps in one repetition; nothing waits for them but the last."""

    rounds: int = 5
    """Repetitions."""


def main(benchmark: Benchmark) -> None:
    """Prints a table, network by network."""
    data, space = parallel.parse_mesh(benchmark.mesh) if benchmark.mesh else (None, 1)
    mesh = parallel.make_mesh(data=data, space=space)
    device = jax.devices()[0]
    console = Console()
    table = Table(
        title=f"{mesh.size} x {device.device_kind}, {benchmark.dtype}, "
        f"{benchmark.height}x{benchmark.width} pixels, jax {jax.__version__}"
    )
    for column in ("network", "images", "step ms", "images/s", "roofline"):
        table.add_column(column, justify="left" if column == "network" else "right")
    for model in benchmark.models:
        table.add_row(model, *_measure(benchmark, model, mesh))
    console.print(table)


def _measure(benchmark, model, mesh):
    size = (benchmark.height, benchmark.width)
    config = Config(
        name="step",
        dataset="camvid",
        model=model,
        width=benchmark.channels,
        crop_size=size,
        learning_rate=1e-3,
        batch_size=benchmark.batch_size * mesh.shape["data"],
        dtype=benchmark.dtype,
        remat=benchmark.remat,
    )
    program = training_program(config, Data(CLASSES, size), mesh)
    chip = CHIPS.get(jax.devices()[0].device_kind)
    planned = estimate(
        program,
        devices=mesh.devices.flatten().tolist(),
        rates=chip and device_rates(chip, benchmark.dtype, None),
    )
    rng = np.random.default_rng(0)
    shape = (config.batch_size, *size)
    batch = parallel.shard_batch(
        mesh,
        {
            "image": rng.integers(0, 256, (*shape, 3), dtype=np.uint8),
            "label": rng.integers(0, CLASSES, shape, dtype=np.uint8),
            "valid": np.ones(config.batch_size, bool),
        },
    )
    state = parallel.replicate(mesh, _state(config))
    seconds = []
    for _ in range(benchmark.rounds + 1):
        start = time.perf_counter()
        for _ in range(benchmark.steps):
            state, sums = program.step(state, batch)
        jax.block_until_ready(sums)
        seconds.append((time.perf_counter() - start) / benchmark.steps)
    step = statistics.median(seconds[1:])  # the first one compiles
    least = planned.roofline and planned.roofline.seconds
    return (
        str(config.batch_size),
        f"{1e3 * step:.1f}",
        f"{config.batch_size / step:.1f}",
        f"{100 * least / step:.0f} %" if least else "-",
    )


def _state(config):
    """As in `segjax.planning.programs`, but of arrays."""
    model = build_model(config.model, num_classes=CLASSES, width=config.width)
    tx = make_optimizer(
        config.optimizer,
        lambda step: config.learning_rate,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
    )
    return create_state(model, tx, seed=0)


if __name__ == "__main__":
    cli.main(main, Benchmark())
