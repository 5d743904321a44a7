"""Memory and time of the prediction of an image that does not fit into memory.

    python experiments/benchmarks/gigapixel.py --side 20000

Draws an image of `side x side` pixels strip by strip into a compressed TIFF, predicts
it strip by strip with a cheap predictor of 11 classes (NumPy, one product for each
pixel) and prints the seconds of both and the peak of this process's resident memory.
With `--check` the result is compared with the prediction in memory, after the peak has
been read. The folder needs about `4 * side^2` bytes; the files are removed at the end.
"""

import dataclasses
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image
from rich.console import Console

from segjax import cli
from segjax.data.labels import CAMVID
from segjax.inference.strips import predict_file
from segjax.inference.windows import Blend, predict_windows


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """What to predict, and how."""

    side: int = 4000
    """Height and width of the image."""

    window: int = 512
    """Height and width of a window."""

    overlap: float = 0.25
    """Share of a window in common with the next one."""

    blend: Blend = "gaussian"
    """The weight of a window's pixels."""

    batch_size: int = 4
    """Windows in one call of the predictor."""

    target: str = "label.png"
    """Name, and so format, of the label: .png, .tif or .npy."""

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


def draw_file(path: Path, side: int, *, tile: int = 256) -> None:
    """Writes the image as a BigTIFF of deflated tiles."""

    def tiles():
        for top in range(0, side, tile):
            rows = draw_rows(top, min(top + tile, side), side)
            for left in range(0, side, tile):
                yield rows[:, left : left + tile]

    tifffile.imwrite(
        path,
        tiles(),
        shape=(side, side, 3),
        dtype=np.uint8,
        photometric="rgb",
        tile=(tile, tile),
        compression="zlib",
        compressionargs={"level": 1},
        bigtiff=True,
        metadata=None,
        maxworkers=1,
    )


def predict(images: np.ndarray) -> np.ndarray:
    """Scores by the distance of a pixel's colour from those of the 11 classes."""
    colors = np.float32(CAMVID.colors)
    scores = images.reshape(-1, 3).astype(np.float32) @ (2 * colors.T)
    scores -= np.square(colors).sum(axis=1)
    return scores.reshape(*images.shape[:3], len(colors))


def peak_memory() -> int:
    """Largest resident memory of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def main(config: Benchmark) -> None:
    """Draws, predicts, prints."""
    console = Console()
    options = dict(
        input_size=(config.window, config.window),
        overlap=config.overlap,
        blend=config.blend,
        batch_size=config.batch_size,
    )
    with tempfile.TemporaryDirectory(dir=".") as folder:
        source, target = Path(folder) / "image.tif", Path(folder) / config.target
        start = time.perf_counter()
        before = peak_memory()
        draw_file(source, config.side)
        drawn = time.perf_counter() - start
        after_drawing = peak_memory()
        start = time.perf_counter()
        predict_file(source, target, predict, table=CAMVID, **options)
        predicted = time.perf_counter() - start
        console.print(
            f"image {config.side}x{config.side}, {source.stat().st_size / 2**20:.0f} "
            f"MiB, drawn in {drawn:.1f} s\n"
            f"label {target.stat().st_size / 2**20:.1f} MiB, predicted in "
            f"{predicted:.1f} s, {config.side**2 / predicted / 1e6:.2f} Mpixel/s\n"
            f"peak resident memory {before / 2**20:.0f} MiB after the imports, "
            f"{after_drawing / 2**20:.0f} MiB after drawing, "
            f"{peak_memory() / 2**20:.0f} MiB after prediction"
        )
        if config.check:
            image = tifffile.imread(source)
            expected = np.argmax(predict_windows(image, predict, **options), axis=-1)
            if target.suffix == ".npy":
                label = np.load(target)
            else:
                with Image.open(target) as picture:
                    label = np.array(picture)
            differing = np.count_nonzero(label != expected)
            console.print(f"pixels that differ from memory: {differing}")


if __name__ == "__main__":
    cli.main(main, Benchmark())
