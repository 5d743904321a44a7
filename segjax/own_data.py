"""What to train with on data that nobody has published numbers for."""

import dataclasses
import logging
from collections.abc import Iterable

import jax

from segjax.configuration import Config
from segjax.data.datasets import Dataset
from segjax.data.source import checked
from segjax.models.zoo import build_model

logger = logging.getLogger(__name__)

Size = tuple[int, int]

LONGEST = 512
"""Pixels of the longer side that images of one size are scaled down to."""

CROP = 256
"""Pixels of a training crop's sides, where the images are as large."""

LARGE = 2_000_000
"""Pixels of an image that is slow to score at its own size."""


def sizes_of(dataset: Dataset) -> set[Size]:
    """The (height, width) that occur in a data set; reads every example.

    Raises:
      InputError: an example cannot be read.
    """
    return {
        checked(source[index])["label"].shape
        for source in dataset.splits.values()
        for index in range(len(source))
    }


def choose_image_size(sizes: Iterable[Size]) -> Size | None:
    """The size to train at: one for all images if they have one size, or None.

    Images of one size whose longer side has more than `LONGEST` pixels are scaled down
    to it; sides are rounded to multiples of 16. Images of several sizes stay as they
    are, as labels are never resized for scoring.
    """
    sizes = set(sizes)
    if len(sizes) != 1:
        return None
    (size,) = sizes
    if max(size) <= LONGEST:
        return None
    return tuple(max(16, round(side * LONGEST / max(size) / 16) * 16) for side in size)


def choose_crop_size(sizes: Iterable[Size], *, model: str) -> Size:
    """The training crop: at most `CROP`, within most images, as the network takes it.

    Args:
      sizes: of the images as they are trained on.
      model: name of the network.
    """
    network = build_model(model, num_classes=1)
    sides = [sorted(side) for side in zip(*sizes, strict=True)]
    usual = [min(CROP, side[len(side) // 2]) for side in sides]
    lost = 2 * network.margin
    return tuple(
        network.input_size(tuple(max(1, side // 16 * 16 - lost) for side in usual))
    )


def fill_in(config: Config, *, sizes: set[Size]) -> Config:
    """Sets the sizes that `config` leaves open, for this data and these devices.

    Args:
      config: `image_size` None and `crop_size` (0, 0), `batch_size` 0 and
        `eval_batch_size` 0 are open.
      sizes: of `sizes_of`.
    """
    devices = jax.device_count()
    image_size = config.image_size or choose_image_size(sizes)
    crop_size = config.crop_size
    if not any(crop_size):
        crop_size = choose_crop_size(
            {image_size} if image_size else sizes, model=config.model
        )
    largest = tuple(map(max, zip(*sizes, strict=True)))
    if len(sizes) > 1 and largest[0] * largest[1] > LARGE:
        logger.warning(
            "images have %d sizes up to %dx%d; each is scored at that size, which takes "
            "memory and time: scaled down before, they would not",
            len(sizes),
            *largest,
        )
    return dataclasses.replace(
        config,
        image_size=image_size,
        crop_size=crop_size,
        batch_size=config.batch_size or -(-8 // devices) * devices,
        eval_batch_size=config.eval_batch_size
        or -(-(4 if len(sizes) == 1 else 1) // devices) * devices,
    )


def describe(config: Config, dataset: Dataset, *, sizes: set[Size]) -> str:
    """One line: the data, and what it is trained at."""
    counts = ", ".join(f"{len(s):,} {split}" for split, s in dataset.splits.items())
    names = dataset.table.names
    shown = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
    if len(sizes) == 1:
        found = _text(next(iter(sizes)))
    else:
        found = f"{len(sizes)} sizes up to {_text(tuple(map(max, zip(*sizes, strict=True))))}"
    at = f" scaled to {_text(config.image_size)}" if config.image_size else ""
    return (
        f"images: {counts}; {len(names)} classes: {shown}; {found} pixels{at}, crops of "
        f"{_text(config.crop_size)}; {config.model}, width {config.width:g}"
    )


def _text(size: Size) -> str:
    return f"{size[0]}x{size[1]}"
