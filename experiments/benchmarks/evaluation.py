"""What evaluation costs beside the network alone.

    python experiments/benchmarks/evaluation.py --data-dir CAMVID_FOLDER

Runs in turn, `rounds` times, over the same images at full resolution:

- forward: the jitted network alone, from images that are on the device already to
  logits that stay there;
- evaluation: what `python -m segjax evaluate --no-boundaries --no-sizes` runs: reading
  and decoding, the network, argmax, confusion counts, and their transfer;
- validation: the same with the loss, as between training steps;
- calibration: evaluation with confidences;
- everything: boundaries and object sizes on top of evaluation.

Prints the median time per image of each and the median over rounds of its ratio to
forward. Weights are random, which changes no time but that of boundaries: so "everything"
counts labels that were blurred and frayed in place of predictions. Images are CamVid's,
or without `--data-dir` drawn scenes of `--size`.
"""

import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import ndimage

from segjax import cli, evaluation, scoring
from segjax.data import pipeline
from segjax.data.datasets import Dataset, open_dataset
from segjax.errors import InputError
from segjax.evaluation_counts import Parts, count_image
from segjax.models.zoo import build_model
from segjax.training import parallel, steps


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """What to time."""

    models: tuple[str, ...] = ("segnet_basic", "unet", "fcn_basic")
    """Networks."""

    width: float = 1.0
    """Factor on their channels; 1 is the paper's network."""

    data_dir: Path | None = None
    """Folder of CamVid as published; without it the drawn scenes."""

    prepared_dir: Path | None = None
    """Where CamVid's prepared records lie."""

    size: tuple[int, int] = (360, 480)
    """Height and width of the drawn scenes."""

    images: int = 16
    """How many images; rounded down to whole batches."""

    batch_size: int = 4
    """Images at once."""

    rounds: int = 5
    """Repetitions, the programs in turn."""


PROGRAMS = {
    "evaluation": Parts(boundaries=False, sizes=False),
    "calibration": Parts(boundaries=False, sizes=False, calibration=True),
    "everything": Parts(),
}
"""What `evaluation.count_split` is asked for."""


def main(benchmark: Benchmark) -> None:
    """Times every program on every network and prints a table."""
    if benchmark.images < benchmark.batch_size or benchmark.rounds < 1:
        raise InputError(
            f"images is {benchmark.images}, rounds {benchmark.rounds}; expected at "
            f"least one batch of {benchmark.batch_size} and one round"
        )
    with tempfile.TemporaryDirectory() as folder:
        dataset = _open(benchmark, Path(folder))
        split = dataset.splits["val"]
        height, width = split[0]["label"].shape
        table = Table(
            title=f"ms per image (ratio to forward), medians of {benchmark.rounds}: "
            f"{len(split)} images {height}x{width} of {dataset.name} in batches of "
            f"{benchmark.batch_size}, width {benchmark.width:g}, "
            f"{jax.device_count()} {jax.devices()[0].device_kind}"
        )
        table.add_column("network")
        for name in ("forward", "evaluation", "validation", "calibration"):
            table.add_column(name, justify="right")
        table.add_column("everything", justify="right")
        frayed = _frayed_labels(dataset)
        for name in benchmark.models:
            programs = _programs(name, benchmark, dataset, frayed)
            table.add_row(name, *_timed(programs, len(split), benchmark.rounds))
        Console().print(table)


@dataclasses.dataclass(frozen=True)
class First:
    """The first `length` examples of a source."""

    source: Any
    length: int

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index):
        return self.source[index]


def _open(benchmark: Benchmark, folder: Path) -> Dataset:
    if benchmark.data_dir is None:
        dataset = open_dataset(
            "street_scenes",
            prepared_dir=folder,
            size=benchmark.size,
            counts={"train": 1, "val": benchmark.images, "test": 1},
        )
    else:
        dataset = open_dataset(
            "camvid", data_dir=benchmark.data_dir, prepared_dir=benchmark.prepared_dir
        )
    source = dataset.splits["val"]
    length = min(benchmark.images, len(source))
    length -= length % benchmark.batch_size
    return dataclasses.replace(dataset, splits={"val": First(source, length)})


def _programs(
    name: str, benchmark: Benchmark, dataset: Dataset, frayed: dict[bytes, np.ndarray]
) -> dict[str, Callable[[], Any]]:
    """The programs of a network, each called once, so that all is compiled."""
    source = dataset.splits["val"]
    num_classes = dataset.table.num_classes
    size = source[0]["label"].shape
    mesh = parallel.make_mesh()
    parallel.check_batch_size(benchmark.batch_size, mesh, field="batch_size")
    model = build_model(name, num_classes=num_classes, width=benchmark.width)
    image = jnp.zeros((1, *model.input_size((32, 48)), 3), jnp.float32)
    initialize = jax.jit(partial(model.init, train=False))
    variables = parallel.replicate(mesh, initialize(jax.random.key(0), image))

    forward = parallel.jit_eval_step(
        lambda variables, batch: steps.predict_logits(
            variables, batch["image"], model=model, size=size
        ),
        mesh,
    )
    batches = partial(
        pipeline.eval_batches,
        source,
        batch_size=benchmark.batch_size,
        image_size=size,
    )
    on_device = [parallel.shard_batch(mesh, batch) for batch in batches()]

    def alone():
        last = None
        for batch in on_device:
            logits = forward(variables, batch)
            jax.block_until_ready(last)  # one ahead, as in evaluation
            last = logits
        jax.block_until_ready(last)

    eval_step = parallel.jit_eval_step(
        partial(steps.eval_step, model=model, num_classes=num_classes), mesh
    )

    def validation():
        scoring.score(
            eval_step,
            variables,
            batches(),
            source,
            table=dataset.table,
            mesh=mesh,
            boundaries=False,
        )

    def count(prediction, label, confidence, **options):
        if options["parts"].boundaries:
            prediction = frayed[label.tobytes()]
        return count_image(prediction, label, confidence, **options)

    programs = {"forward": alone, "validation": validation}
    for program, parts in PROGRAMS.items():
        programs[program] = partial(
            evaluation.count_split,
            evaluation.jit_count_step(model, num_classes, parts=parts, mesh=mesh),
            variables,
            dataset,
            "val",
            image_size=size,
            batch_size=benchmark.batch_size,
            parts=parts,
            mesh=mesh,
            count=count,
        )
    order = ("forward", "evaluation", "validation", "calibration", "everything")
    for program in order:
        programs[program]()
    return {program: programs[program] for program in order}


def _timed(
    programs: dict[str, Callable[[], Any]], images: int, rounds: int
) -> list[str]:
    seconds = {name: [] for name in programs}
    for _ in range(rounds):
        for name, program in programs.items():
            started = time.perf_counter()
            program()
            seconds[name].append(time.perf_counter() - started)
    cells = []
    for times in seconds.values():
        pairs = zip(times, seconds["forward"], strict=True)
        ratio = statistics.median(time / forward for time, forward in pairs)
        cells.append(f"{1e3 * statistics.median(times) / images:.1f} ({ratio:.2f})")
    return cells


def _frayed_labels(dataset: Dataset) -> dict[bytes, np.ndarray]:
    """Label -> what a network might have made of it: blurred, with noise, its argmax."""
    classes = np.arange(dataset.table.num_classes)[:, None, None]
    result = {}
    for i in range(len(dataset.splits["val"])):
        label = dataset.splits["val"][i]["label"]
        rng = np.random.default_rng(i)
        weights = (label[None] == classes).astype(np.float32)
        noise = ndimage.gaussian_filter(rng.normal(size=weights.shape), (0, 2.0, 2.0))
        weights = ndimage.gaussian_filter(weights, (0, 2.0, 2.0))
        frayed = (weights + 0.15 * noise / noise.std()).argmax(axis=0)
        result[label.tobytes()] = frayed.astype(np.uint8)
    return result


if __name__ == "__main__":
    cli.main(main, Benchmark())
