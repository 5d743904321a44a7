"""Data sets that are image files with a label file each: checking and reading them.

An image keeps its own bytes where it is an 8-bit RGB PNG or JPEG; every other kind
becomes an RGB PNG. A label is stored as train ids in an 8-bit grey PNG. The rotation
that a camera notes in EXIF is not applied: labels are drawn on the pixels as stored.
Whatever is wrong with a file is an `InputError` that names it.
"""

import collections
import dataclasses
import functools
import hashlib
import io
import logging
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from segjax.data import records
from segjax.data.decoding import label_array, opened, rgb_array
from segjax.data.labels import LabelTable
from segjax.errors import InputError

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
_LOSSY_SUFFIXES = (".jpg", ".jpeg")


class Pair(NamedTuple):
    """An image file and its label file."""

    image: Path
    label: Path


def read_label_image(path: Path, *, table: LabelTable) -> np.ndarray:
    """Reads a label that is an image file of raw values; see `label_array`."""
    with opened(io.BytesIO(read_bytes(path)), source=str(path)) as image:
        return label_array(image, table, source=str(path))


ReadLabel = Callable[..., np.ndarray]
"""Reads a label file: `(path, table=table)` to train ids, uint8 `[h w]`."""


@dataclasses.dataclass
class PairedImagesConfig(tfds.core.BuilderConfig):
    """The files of a data set. `paired_images_config` makes one.

    Attributes:
      splits: split name -> pairs, in the order in which they are stored.
      table: what the label values mean.
      max_bad: how many bad pairs to leave out, with a warning in the log each.
      read_label: how a label file is read.
    """

    name: str
    splits: dict[str, list[Pair]] = dataclasses.field(default_factory=dict)
    table: LabelTable | None = None
    max_bad: int = 0
    read_label: ReadLabel = read_label_image


def paired_images_config(
    root: Path,
    splits: dict[str, list[Pair]],
    table: LabelTable,
    *,
    max_bad: int = 0,
    read_label: ReadLabel = read_label_image,
) -> PairedImagesConfig:
    """Names the prepared data set after the state of its files.

    Args:
      root: the folder of the data set.
      splits: split name -> pairs.
      table: what the label values mean.
      max_bad: how many bad pairs to leave out.
      read_label: how a label file is read.

    Raises:
      InputError: there is no split, or one is empty; `max_bad` is negative.
    """
    if max_bad < 0:
        raise InputError(f"max_bad {max_bad}: expected 0 or more")
    for split, pairs in splits.items():
        if not pairs:
            raise InputError(f"{root}: split {split!r} is empty; expected image files")
    groups = [(split, *pair) for split, pairs in splits.items() for pair in pairs]
    name = fingerprint(root, groups, table)
    return PairedImagesConfig(
        # What is left out does not depend on how much may be.
        name=f"{name}-without_bad" if max_bad else name,
        splits=splits,
        table=table,
        max_bad=max_bad,
        read_label=read_label,
    )


def fingerprint(root: Path, groups: Iterable[tuple], table: LabelTable) -> str:
    """Returns a name that changes when a file, the order or the table changes.

    Args:
      root: the folder of the data set; paths count relative to it.
      groups: tuples of strings and of paths below `root`. A path stands for its
        name, size and time of last change; contents are not read.
      table: what the label values mean.
    """
    digest = hashlib.sha256()
    raw_ids = sorted(table.raw_ids.items())
    digest.update(repr((table.names, raw_ids)).encode())
    for group in groups:
        for part in group:
            if isinstance(part, Path):
                status = part.stat()
                name = part.relative_to(root).as_posix()
                part = (name, status.st_size, status.st_mtime_ns)
            digest.update(repr(part).encode())
    return digest.hexdigest()[:16]


def shard_iterators(config: PairedImagesConfig) -> dict[str, list]:
    """Returns what `tfds.core.ShardBasedBuilder` asks for."""
    read = functools.partial(
        read_pair, table=config.table, read_label=config.read_label
    )
    if config.max_bad:
        leaving_out = _LeavingOut(read, config)
        return {
            split: records.shards(functools.partial(leaving_out, split), pairs)
            for split, pairs in config.splits.items()
        }
    return {
        split: records.shards(read, pairs) for split, pairs in config.splits.items()
    }


class _LeavingOut:
    """Reads a pair, or says None where it is bad; so often and no oftener."""

    def __init__(self, read: Callable[[Pair], dict], config: PairedImagesConfig):
        self._read = read
        self._max_bad = config.max_bad
        self._bad = 0
        self._left = {split: len(pairs) for split, pairs in config.splits.items()}

    def __call__(self, split: str, pair: Pair) -> dict | None:
        try:
            return self._read(pair)
        except InputError as error:
            self._bad += 1
            self._left[split] -= 1
            if self._bad > self._max_bad:
                raise InputError(
                    f"{error} (bad pair number {self._bad}, max_bad is {self._max_bad})"
                ) from error
            if not self._left[split]:
                raise InputError(f"split {split!r}: every pair is bad") from error
            logger.warning(
                "left out bad pair %d of at most %d: %s",
                self._bad,
                self._max_bad,
                error,
            )
            return None


def read_pair(
    pair: Pair, *, table: LabelTable, read_label: ReadLabel = read_label_image
) -> dict:
    """Reads and checks one example.

    Returns:
      dict of `image` and `label` (file contents, as stored) and `id` (the name of
      the image file without its ending).

    Raises:
      InputError: a file is missing, damaged, of the wrong kind; the sizes differ; a
        label value is not in the table.
    """
    data = read_bytes(pair.image)
    with opened(io.BytesIO(data), source=str(pair.image)) as image:
        image_size = image.size
        if not _is_plain_rgb(image, data):
            data = records.encode_png(rgb_array(image, source=str(pair.image)))
    label = read_label(pair.label, table=table)
    check_equal_size(image_size, label, image=str(pair.image), label_name=pair.label)
    return {
        "image": data,
        "label": records.encode_png(label),
        "id": pair.image.stem,
    }


def read_bytes(path: Path) -> bytes:
    """Reads a file.

    Raises:
      InputError: it is missing or cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


def check_equal_size(
    image_size: tuple[int, int], label: np.ndarray, *, image, label_name
):
    """Raises `InputError` unless image (width, height) and label `[h w]` agree."""
    width, height = image_size
    if label.shape != (height, width):
        raise InputError(
            f"{label_name}: label is {label.shape[0]}x{label.shape[1]} (height x "
            f"width), its image {image} is {height}x{width}; expected equal sizes"
        )


def match_by_name(images: Path, labels: Path) -> list[Pair]:
    """Pairs the files of two folders by their names without ending, in name order.

    Raises:
      InputError: a folder is missing; an image without label, or a label without
        image; two files of the same name; a label in a lossy format.
    """
    image_files, label_files = image_files_in(images), image_files_in(labels)
    for path in label_files.values():
        if path.suffix.lower() in _LOSSY_SUFFIXES:
            raise InputError(
                f"{path}: a JPEG does not keep label values; expected a PNG"
            )
    for stem, path in image_files.items():
        if stem not in label_files:
            raise InputError(f"{path}: no label; expected {labels / stem}.png")
    for stem, path in label_files.items():
        if stem not in image_files:
            raise InputError(f"{path}: label without image; expected one in {images}")
    return [Pair(path, label_files[stem]) for stem, path in image_files.items()]


def read_names(path: Path) -> list[str]:
    """Reads a list of images: the first word of every line.

    Raises:
      InputError: the list cannot be read, or names an image twice.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: cannot be read ({error}); expected a list of images, one name "
            "a line"
        ) from error
    names = [line.split()[0] for line in lines if line.strip()]
    for name, count in collections.Counter(names).items():
        if count > 1:
            raise InputError(f"{path}: names {name} twice")
        if "/" in name or "\\" in name:
            raise InputError(f"{path}: {name!r}; expected a name without a folder")
    return names


def listed_pairs(
    names: Path, images: Path, labels: Path, *, image_suffix=".jpg", label_suffix=".png"
) -> list[Pair]:
    """Pairs the files of two folders that a list names.

    Raises:
      InputError: the list cannot be read, or a file that it names is missing.
    """
    pairs = [
        Pair(images / f"{name}{image_suffix}", labels / f"{name}{label_suffix}")
        for name in read_names(names)
    ]
    for pair in pairs:
        for file in pair:
            if not file.is_file():
                raise InputError(f"{file}: no such file; {names} names it")
    return pairs


def hold_out(
    pairs: Sequence[Pair], *, every: int, block: int = 1
) -> tuple[list[Pair], list[Pair]]:
    """Splits off the last of every `every` blocks, for data without validation split.

    Args:
      pairs: in an order that does not change.
      every: how many blocks there are to one that is held out.
      block: neighbours that stay together, where they look alike.

    Returns:
      those that stay, and those held out.
    """
    parts: tuple[list[Pair], list[Pair]] = ([], [])
    for index, pair in enumerate(pairs):
        parts[index // block % every == every - 1].append(pair)
    return parts


def image_files_in(folder: Path) -> dict[str, Path]:
    """Lists the image files of a folder: name without ending -> path.

    In natural order: slice 2 before slice 10. Hidden files and files with another
    ending are passed over.

    Raises:
      InputError: no such folder, or two files of the same name.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir(), key=lambda path: _natural_order(path.name)):
        if path.suffix.lower() not in IMAGE_SUFFIXES or path.name.startswith("."):
            continue
        if path.stem in found:
            raise InputError(f"{path}: same name as {found[path.stem].name}")
        found[path.stem] = path
    return found


def _natural_order(name: str) -> list:
    parts = re.split(r"([0-9]+)", name)
    return [int(part) if i % 2 else part for i, part in enumerate(parts)]


def _is_plain_rgb(image: Image.Image, data: bytes) -> bool:
    """Tells whether the file itself can be stored: 8-bit RGB PNG or JPEG."""
    if image.mode != "RGB":
        return False
    if image.format == "PNG":
        # Byte 24 of a PNG is its bit depth; Pillow shows 16-bit RGB as RGB, too.
        return data[24] == 8
    return image.format == "JPEG"
