"""Prediction of a folder beside the bare forward pass: images per second.

    python experiments/benchmarks/prediction.py --models segnet_basic unet

Writes random images into a temporary folder, then takes turns between (a) the jitted
forward pass and argmax alone, on one batch that is on the device already, and (b)
`predict_files` over the folder: reading, resizing to the network's size, batching, the
same program, labels and overlays written. Weights are random: no time depends on them.
"""

import dataclasses
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

import jax
import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from segjax import cli
from segjax.data.labels import CAMVID
from segjax.inference.image_files import read_image
from segjax.inference.maps import predict_maps
from segjax.inference.members import Views, make_members
from segjax.inference.predict_files import predict_files
from segjax.inference.predictor import make_predictor
from segjax.models.zoo import build_model


@dataclasses.dataclass(frozen=True)
class Options:
    """What is measured.

    Attributes:
      models: names of networks.
      image_size: height and width of the images and of what the network sees.
      width: factor on the number of channels.
      images: in the folder.
      batch_size: of both.
      overlays: whether they are written, too.
      repeats: turns, of which the median is taken.
    """

    models: tuple[str, ...] = ("segnet_basic", "fcn_basic", "unet")
    image_size: tuple[int, int] = (360, 480)
    width: float = 1.0
    images: int = 16
    batch_size: int = 4
    overlays: bool = True
    repeats: int = 5


def main(options: Options) -> None:
    """Measures and prints a table."""
    table = Table(title=f"images per second on {jax.devices()[0].device_kind}")
    for column in ("network", "forward", "folder", "folder / forward", "spread"):
        table.add_column(column, justify="right")
    with tempfile.TemporaryDirectory() as folder:
        paths = _make_images(Path(folder), options)
        for name in options.models:
            forward, whole, ratios = _measure(name, paths, Path(folder), options)
            table.add_row(
                name,
                f"{forward:.2f}",
                f"{whole:.2f}",
                f"{statistics.median(ratios):.3f}",
                f"{min(ratios):.3f}-{max(ratios):.3f}",
            )
    Console().print(table)


def _measure(name, paths, folder, options):
    model = build_model(name, num_classes=CAMVID.num_classes, width=options.width)
    image = np.zeros((1, *model.input_size(options.image_size), 3), np.float32)
    variables = jax.jit(partial(model.init, train=False))(jax.random.key(0), image)
    predictor = make_predictor(
        model,
        variables,
        name=name,
        step=0,
        table=CAMVID,
        image_size=options.image_size,
    )
    predict = partial(predict_maps, members=make_members([predictor], Views()))
    batch = np.stack([read_image(path) for path in paths[: options.batch_size]])
    on_device = jax.device_put(batch)
    batches = options.images // options.batch_size

    def forward():
        for _ in range(batches):
            jax.block_until_ready(predict(on_device))

    def whole():
        sources = [(path.stem, partial(read_image, path)) for path in paths]
        done = predict_files(
            sources,
            folder / "out",
            predict,
            table=CAMVID,
            overlays=options.overlays,
            batch_size=options.batch_size,
        )
        assert len(list(done)) == options.images

    for program in (forward, whole):
        program()  # compiles
    times = {forward: [], whole: []}
    for _ in range(options.repeats):
        for program, taken in times.items():
            started = time.perf_counter()
            program()
            taken.append(time.perf_counter() - started)
    ratios = [a / b for a, b in zip(*times.values(), strict=True)]
    rates = (options.images / statistics.median(taken) for taken in times.values())
    return *rates, ratios


def _make_images(folder, options):
    rng = np.random.default_rng(0)
    paths = []
    for index in range(options.images):
        # Smooth, so that it compresses like a photograph and not like noise.
        coarse = rng.integers(0, 256, (24, 32, 3), np.uint8)
        picture = Image.fromarray(coarse).resize(options.image_size[::-1])
        paths.append(folder / f"{index:03d}.jpg")
        picture.save(paths[-1], quality=90)
    return paths


if __name__ == "__main__":
    cli.main(main, Options())
