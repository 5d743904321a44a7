"""Time and over-estimate of the boundary scores.

    python experiments/benchmarks/boundary.py --data-dir CAMVID_FOLDER

Spoils labels in four ways that networks spoil them (`CORRUPTIONS`), scores them with
`boundary_f1` (pixels matched one to one) and with `boundary_f1_dilated` (any pixel
within reach), and prints the median time per image of both and how much higher the
second is. Labels are those of CamVid's validation split, or without `--data-dir` the
drawn scenes at 360x480. Everything runs on one core; example `i` is spoiled with
`numpy.random.default_rng((seed, i))`.
"""

import dataclasses
import io
import statistics
import time
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table
from scipy import ndimage

from segjax import cli
from segjax.boundary import boundary_f1, boundary_f1_dilated, mean_boundary_f1
from segjax.data.camvid import find_pairs
from segjax.data.labels import CAMVID, VOID
from segjax.data.paired_images import read_pair
from segjax.data.street_scenes import draw_example
from segjax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """What to time."""

    data_dir: Path | None = None
    """Folder of CamVid as published; without it the drawn scenes."""

    split: str = "val"
    """Which labels."""

    images: int = 25
    """How many of them, evenly spread over the split."""

    seed: int = 0
    """Of the corruption."""


def shifted(scene: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """All outlines 3 pixels off in one of eight directions."""
    step = np.array([(1, 0), (0, 1), (1, 1), (1, -1)])[rng.integers(4)]
    rows, columns = step * rng.choice([-3, 3])
    padded = np.pad(scene, 3, mode="edge")
    height, width = scene.shape
    return padded[3 + rows :, 3 + columns :][:height, :width]


def dilated(scene: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Each class grows by 0 to 3 pixels over those that come before it."""
    result = scene.copy()
    for k in rng.permutation(CAMVID.num_classes):
        reach = rng.integers(4)
        if reach:
            result[ndimage.binary_dilation(scene == k, iterations=reach)] = k
    return result


def smoothed(scene: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The class with most weight after a blur of 3 to 6 pixels: thin things go."""
    return _class_weights(scene, sigma=rng.uniform(3, 6)).argmax(axis=0)


def frayed(scene: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The same after a blur of 2 pixels with noise of that scale added: ragged."""
    weights = _class_weights(scene, sigma=2.0)
    noise = ndimage.gaussian_filter(rng.normal(size=weights.shape), (0, 2.0, 2.0))
    return (weights + 0.15 * noise / noise.std()).argmax(axis=0)


CORRUPTIONS = {
    "shifted": shifted,
    "dilated": dilated,
    "smoothed": smoothed,
    "frayed": frayed,
}


def main(benchmark: Benchmark) -> None:
    """Scores every image and prints a table with one row per corruption."""
    labels = _load_labels(benchmark)
    height, width = labels[0].shape
    source = "CamVid" if benchmark.data_dir else "street_scenes"
    table = Table(
        title=f"{len(labels)} labels of {source} {benchmark.split}, {height}x{width}, "
        f"seed {benchmark.seed}"
    )
    for title in (
        "prediction",
        "F1",
        "F1 dilated",
        "difference",
        "largest",
        "ms",
        "ms dilated",
    ):
        table.add_column(title, justify="right")

    everything = []
    for name, corrupt in CORRUPTIONS.items():
        runs = [
            _compare(corrupt, label, np.random.default_rng((benchmark.seed, index)))
            for index, label in enumerate(labels)
        ]
        table.add_row(name, *_summary(runs))
        everything += runs
    table.add_section()
    table.add_row("all", *_summary(everything))
    Console().print(table)


def _compare(corrupt, label: np.ndarray, rng: np.random.Generator) -> tuple:
    """Scores of one spoiled label by either way, and their seconds of one core."""
    # A network has something to say at void pixels as well: its surroundings.
    nearest = ndimage.distance_transform_edt(
        label == VOID, return_distances=False, return_indices=True
    )
    prediction = corrupt(label[tuple(nearest)], rng).astype(np.uint8)
    options = {"num_classes": CAMVID.num_classes}
    started = time.process_time()
    exact = boundary_f1(prediction, label, **options)
    between = time.process_time()
    loose = boundary_f1_dilated(prediction, label, **options)
    return exact, loose, between - started, time.process_time() - between


def _summary(runs: list[tuple]) -> list[str]:
    exact, loose, exact_seconds, loose_seconds = zip(*runs, strict=True)
    exact_mean, loose_mean = mean_boundary_f1(exact), mean_boundary_f1(loose)
    largest = max(b.image - a.image for a, b in zip(exact, loose, strict=True))
    return [
        f"{100 * exact_mean:.2f}",
        f"{100 * loose_mean:.2f}",
        f"{100 * (loose_mean - exact_mean):+.2f}",
        f"{100 * largest:+.2f}",
        f"{1000 * statistics.median(exact_seconds):.1f}",
        f"{1000 * statistics.median(loose_seconds):.1f}",
    ]


def _class_weights(scene: np.ndarray, *, sigma: float) -> np.ndarray:
    one_hot = scene[None] == np.arange(CAMVID.num_classes)[:, None, None]
    return ndimage.gaussian_filter(one_hot.astype(np.float32), (0, sigma, sigma))


def _load_labels(benchmark: Benchmark) -> list[np.ndarray]:
    if benchmark.images < 1:
        raise InputError(f"images {benchmark.images}; expected 1 or more")
    if benchmark.data_dir is None:
        return [
            draw_example(seed=0, split=benchmark.split, index=index, size=(360, 480))[1]
            for index in range(benchmark.images)
        ]
    splits = find_pairs(benchmark.data_dir)
    if benchmark.split not in splits:
        raise InputError(
            f"{benchmark.data_dir}: no split {benchmark.split!r}; "
            f"expected one of {', '.join(splits)}"
        )
    pairs = splits[benchmark.split]
    chosen = np.linspace(0, len(pairs) - 1, min(benchmark.images, len(pairs)))
    return [_read_label(pairs[round(index)]) for index in chosen]


def _read_label(pair) -> np.ndarray:
    encoded = read_pair(pair, table=CAMVID)["label"]
    with Image.open(io.BytesIO(encoded)) as image:
        return np.asarray(image)


if __name__ == "__main__":
    cli.main(main, Benchmark())
