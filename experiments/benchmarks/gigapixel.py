"""Memory and time of the prediction of an image that does not fit into memory.

    python experiments/benchmarks/gigapixel.py --side 20000

Draws an image of `side x side` pixels strip by strip into a compressed TIFF, predicts
it strip by strip and prints the seconds of both and the peak of this process's resident
memory. The predictor is a network of 11 classes with random weights, which cost what
trained ones do, or with `--model ""` one product for each pixel in NumPy, which leaves
what reading, blending and writing cost. With `--check` the result is compared with the
prediction in memory, after the peak has been read. The folder needs about `4 * side^2`
bytes; the files are removed at the end. `--height 1500` first says how long it will take.
"""

import dataclasses
import resource
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tifffile
from rich.console import Console

from segjax import cli
from segjax.data.labels import CAMVID
from segjax.inference.label_files import read_label
from segjax.inference.strips import predict_file
from segjax.inference.windows import Blend, Predict, blended_blocks, predict_windows
from segjax.inference.zarr_files import open_prediction
from segjax.models.zoo import build_model
from segjax.training.steps import predict_logits


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """What to predict, and how."""

    side: int = 4000
    """Width of the image, and its height unless that is given."""

    height: int | None = None
    """Height of the image."""

    model: str = "fcn_basic"
    """Network out of `segjax.models.zoo.MODELS`; empty is a product in NumPy."""

    width: float = 0.25
    """The network's channels in shares of the paper's."""

    window: int = 512
    """Height and width of a window."""

    overlap: float = 0.25
    """Share of a window in common with the next one."""

    blend: Blend = "gaussian"
    """The weight of a window's pixels."""

    batch_size: int = 4
    """Windows in one call of the predictor."""

    target: str = "label.png"
    """Name, and so format, of the label: .png, .tif, .npy or .zarr."""

    probabilities: bool = False
    """Whether to write probabilities, too, as Zarr: `2 * 11 * side^2` bytes at most."""

    check: bool = False
    """Whether to compare with the prediction in memory."""


def draw_rows(start: int, stop: int, side: int) -> np.ndarray:
    """Rows of an image of waves and noise, uint8 `[stop - start side 3]`."""
    y = np.arange(start, stop, dtype=np.float32)[:, None]
    x = np.arange(side, dtype=np.float32)
    waves = np.stack(
        [
            np.sin(x / 97) * np.cos(y / 61),
            np.sin((x + y) / 211),
            np.cos(x / 433 - y / 37),
        ],
        axis=-1,
    )
    noise = np.random.default_rng(start).integers(0, 16, waves.shape, np.uint8)
    return (waves * 112 + 112).astype(np.uint8) + noise


def draw_file(path: Path, size: tuple[int, int], *, tile: int = 256) -> None:
    """Writes the image as a BigTIFF of deflated tiles."""
    height, width = size

    def tiles():
        for top in range(0, height, tile):
            rows = draw_rows(top, min(top + tile, height), width)
            for left in range(0, width, tile):
                yield rows[:, left : left + tile]

    tifffile.imwrite(
        path,
        tiles(),
        shape=(height, width, 3),
        dtype=np.uint8,
        photometric="rgb",
        tile=(tile, tile),
        compression="zlib",
        compressionargs={"level": 1},
        bigtiff=True,
        metadata=None,
        maxworkers=1,
    )


def network(name: str, width: float) -> Predict:
    """A network with random weights, jitted: uint8 images to probabilities."""
    model = build_model(name, num_classes=CAMVID.num_classes, width=width)
    variables = jax.jit(partial(model.init, train=False))(
        jax.random.key(0), jnp.zeros((1, 64, 64, 3))
    )

    @jax.jit
    def probabilities(images):
        logits = predict_logits(variables, images, model=model, size=images.shape[1:3])
        return jax.nn.softmax(logits, axis=-1)

    return probabilities


def nearest_color(images: np.ndarray) -> np.ndarray:
    """Scores, about -3..3: how near a pixel's colour is to those of the 11 classes."""
    colors = np.float32(CAMVID.colors)
    scores = images.reshape(-1, 3).astype(np.float32) @ (2 * colors.T)
    scores -= np.square(colors).sum(axis=1)
    scores /= 255**2
    return scores.reshape(*images.shape[:3], len(colors))


def peak_memory() -> int:
    """Largest resident memory of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def megabytes(path: Path) -> float:
    """Size of a file or of all files in a folder, in MiB; 0 if it is not there."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file()) / 2**20


def main(config: Benchmark) -> None:
    """Draws, predicts, prints."""
    console = Console()
    size = (config.height or config.side, config.side)
    predict = network(config.model, config.width) if config.model else nearest_color
    options = dict(
        input_size=(config.window, config.window),
        overlap=config.overlap,
        blend=config.blend,
        batch_size=config.batch_size,
    )
    with tempfile.TemporaryDirectory(dir=".") as folder:
        source, target = Path(folder) / "image.tif", Path(folder) / config.target
        scores = Path(folder) / "probabilities.zarr"
        start = time.perf_counter()
        before = peak_memory()
        draw_file(source, size)
        drawn = time.perf_counter() - start
        after_drawing = peak_memory()
        start, cpu = time.perf_counter(), time.process_time()
        predict_file(
            source,
            target,
            partial(blended_blocks, predict=predict, **options),
            table=CAMVID,
            probabilities=scores if config.probabilities else None,
        )
        predicted, cpu = time.perf_counter() - start, time.process_time() - cpu
        console.print(
            f"image {size[0]}x{size[1]}, {megabytes(source):.1f} MiB, drawn in "
            f"{drawn:.1f} s\n"
            f"label {megabytes(target):.1f} MiB, probabilities "
            f"{megabytes(scores):.1f} MiB\n"
            f"predicted in {predicted:.1f} s, {size[0] * size[1] / predicted / 1e6:.2f} "
            f"Mpixel/s, {cpu:.1f} s of CPU\n"
            f"peak resident memory {before / 2**20:.0f} MiB after the imports, "
            f"{after_drawing / 2**20:.0f} MiB after drawing, "
            f"{peak_memory() / 2**20:.0f} MiB after prediction"
        )
        if config.check:
            image = tifffile.imread(source)
            in_memory = predict_windows(image, predict, **options)
            label = read(target)
            differing = np.count_nonzero(label != np.argmax(in_memory, axis=-1))
            console.print(
                f"pixels of {len(np.unique(label))} classes that differ from memory: "
                f"{differing}"
            )
            if config.probabilities:
                differing = np.count_nonzero(read(scores) != np.float16(in_memory))
                console.print(f"probabilities that differ from memory: {differing}")


def read(path: Path) -> np.ndarray:
    """What `predict_file` wrote, whole."""
    if path.suffix == ".npy":
        return np.load(path)
    if path.suffix == ".zarr":
        return open_prediction(path).values[:]
    return read_label(path)


if __name__ == "__main__":
    cli.main(main, Benchmark())
