"""Any folder of images and labels: your own data without writing a builder.

    my_data/
      classes.txt
      train/images/a.jpg  train/labels/a.png
      val/images/b.jpg    val/labels/b.png

or, without splits, `my_data/images/` and `my_data/labels/`: then every fifth image, by a
hash of its name, is split 'val'. Images are PNG, JPEG, BMP, TIFF or WebP; labels (in
`labels/` or `masks/`) are not JPEG and have one channel of 8 bits, or RGB colours; an
image and its label have the same name but for the ending.

`classes.txt` says what the label values mean, one line each, in the order of the
train ids:

    # value in the label files, name, and if you like red, green, blue
    0, background, 40, 40, 40
    1, cell
    255, void

The name `void` is for values to ignore; there may be several of them, or none. RGB
labels count by the colours, which every line then needs; their values are not read.
Without `classes.txt`, `inferred_classes.py` finds the classes and writes the file.
"""

import contextlib
import hashlib
import logging
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import tensorflow_datasets as tfds

from segjax.data import records
from segjax.data.color_labels import is_color_image, read_any_label
from segjax.data.inferred_classes import infer_classes
from segjax.data.labels import VOID, LabelTable, default_colors
from segjax.data.paired_images import (
    Pair,
    PairedImagesConfig,
    match_by_name,
    paired_images_config,
    shard_iterators,
)
from segjax.errors import InputError
from segjax.whole_file import whole_file

SPLITS = ("train", "val", "test")
VAL_EVERY = 5
"""Of a folder without splits, one image in so many is validation."""

logger = logging.getLogger(__name__)

Color = tuple[int, int, int]


class SegmentationFolder(tfds.core.ShardBasedBuilder, skip_registration=True):
    """TFDS builder of a folder; takes its files from `SegmentationFolder.config`."""

    VERSION = tfds.core.Version("1.0.0")

    @staticmethod
    def config(data_dir: Path, *, max_bad: int = 0) -> PairedImagesConfig:
        """Finds the files of `data_dir` and reads its class list, or makes one."""
        if not data_dir.is_dir():
            raise InputError(f"{data_dir}: no such folder")
        splits = find_pairs(data_dir)
        labels = [pair.label for pairs in splits.values() for pair in pairs]
        path = data_dir / "classes.txt"
        if path.exists() or not labels:
            lines = _read_lines(path)
        else:
            lines = _make_class_list(path, labels)
        table = _table(lines, path)
        if not _hold_colors(labels):
            return paired_images_config(
                data_dir, splits, table, max_bad=max_bad, read_label=read_any_label
            )
        colors = _train_ids(lines, path, table)
        config = paired_images_config(
            data_dir,
            splits,
            table,
            max_bad=max_bad,
            read_label=partial(read_any_label, colors=colors),
        )
        # What the labels mean hangs on the colours, too.
        digest = hashlib.sha256(repr(sorted(colors.items())).encode()).hexdigest()
        config.name += f"-{digest[:8]}"
        return config

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="A folder of images and labels.",
            features=records.features(),
        )

    def _shard_iterators_per_split(self, dl_manager):
        del dl_manager
        return shard_iterators(self.builder_config)


def find_pairs(data_dir: Path) -> dict[str, list[Pair]]:
    """Finds the image and label files of each split.

    Raises:
      InputError: neither layout, or both of them; an image without label or a label
        without image.
    """
    parts = {s: data_dir / s for s in SPLITS if (data_dir / s / "images").is_dir()}
    if (data_dir / "images").is_dir():
        if parts:
            raise InputError(
                f"{data_dir}: has images/ and {'/, '.join(parts)}/; "
                "expected one folder or splits, not both"
            )
        return _divide(data_dir, match_by_name(data_dir / "images", _labels(data_dir)))
    if not parts:
        raise InputError(
            f"{data_dir}: no images here; expected images/ and labels/, or these two "
            "in train/ (and val/, test/)"
        )
    return {
        split: match_by_name(folder / "images", _labels(folder))
        for split, folder in parts.items()
    }


def _hold_colors(labels: Iterable[Path]) -> bool:
    """Whether the first label that can be read has colours; others are told later."""
    for path in labels:
        with contextlib.suppress(InputError):
            return is_color_image(path)
    return False


def _labels(folder: Path) -> Path:
    labels, masks = folder / "labels", folder / "masks"
    if labels.is_dir() and masks.is_dir():
        raise InputError(f"{folder}: has labels/ and masks/; expected one of them")
    return masks if masks.is_dir() else labels


def _divide(data_dir: Path, pairs: list[Pair]) -> dict[str, list[Pair]]:
    """Splits off validation images; an image that is added moves hardly another."""
    if len(pairs) < 2:
        return {"train": pairs}

    def rank(pair: Pair) -> str:
        return hashlib.sha256(pair.image.stem.encode()).hexdigest()

    val = set(sorted(pairs, key=rank)[: max(1, len(pairs) // VAL_EVERY)])
    logger.info(
        "%s has no train/ and val/: %d of its %d images, chosen by a hash of their "
        "names, are the split val",
        data_dir,
        len(val),
        len(pairs),
    )
    return {
        "train": [pair for pair in pairs if pair not in val],
        "val": [pair for pair in pairs if pair in val],
    }


class _Line(NamedTuple):
    """A line of a class list; `where` names it in messages."""

    value: int
    name: str
    color: Color | None
    where: str


def read_classes(path: Path) -> LabelTable:
    """Reads a class list; the format is in the docstring of this module.

    Raises:
      InputError: the file is missing or a line of it is wrong.
    """
    return _table(_read_lines(path), path)


def _read_lines(path: Path) -> list[_Line]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: class list cannot be read ({error}); expected lines like "
            "'0, background'"
        ) from error
    return _parse(text, path)


def _parse(text: str, path: Path) -> list[_Line]:
    lines: list[_Line] = []
    values: dict[int, _Line] = {}
    names: dict[str, _Line] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.split("#")[0].strip():
            continue
        where = f"{path}: line {number} ({line.strip()!r})"
        fields = [field.strip() for field in line.split("#")[0].split(",")]
        if len(fields) not in (2, 5) or not fields[1]:
            raise InputError(
                f"{where}: expected 'value, name' or 'value, name, red, green, blue'"
            )
        value, *color = (_byte(field, where) for field in (fields[0], *fields[2:]))
        parsed = _Line(value, fields[1], tuple(color) or None, where)
        if value in values:
            raise InputError(
                f"{where}: value {value} is listed twice, first as "
                f"{values[value].name!r}; expected one name for each value"
            )
        if parsed.name != "void" and parsed.name in names:
            raise InputError(
                f"{where}: class {parsed.name!r} is listed twice, first with value "
                f"{names[parsed.name].value}"
            )
        values[value] = names[parsed.name] = parsed
        lines.append(parsed)
    return lines


def _table(lines: Iterable[_Line], path: Path) -> LabelTable:
    classes = [line for line in lines if line.name != "void"]
    if not classes:
        raise InputError(f"{path}: no class; expected lines like '0, background'")
    defaults = default_colors(len(classes))
    ids = {line.name: index for index, line in enumerate(classes)}
    return LabelTable(
        names=tuple(ids),
        colors=tuple(
            line.color or default
            for line, default in zip(classes, defaults, strict=True)
        ),
        raw_ids={line.value: ids.get(line.name, VOID) for line in lines},
    )


def _train_ids(
    lines: Iterable[_Line], path: Path, table: LabelTable
) -> dict[Color, int]:
    """Colour in RGB labels -> train id or `VOID`."""
    colors: dict[Color, _Line] = {}
    for line in lines:
        if line.color is None:
            raise InputError(
                f"{line.where}: the labels are colour images; expected 'value, name, "
                "red, green, blue'"
            )
        other = colors.setdefault(line.color, line)
        if other.name != line.name:
            raise InputError(
                f"{line.where}: has the colour of {other.name!r}; the labels are colour "
                "images, expected another colour for each class"
            )
    if not colors:
        raise InputError(f"{path}: no class; expected lines like '0, background'")
    return {color: table.raw_ids[line.value] for color, line in colors.items()}


def _make_class_list(path: Path, labels: list[Path]) -> list[_Line]:
    """Finds the classes in the labels and writes a class list for next time."""
    text = infer_classes(labels)
    lines = _parse(text, path)
    try:
        with whole_file(path) as scratch:
            scratch.write_text(text, encoding="utf-8")
    except InputError as error:  # a folder that may only be read
        logger.warning("%s; goes on without", error)
        done = "found"
    else:
        done = "written; put your own names there"
    logger.info(
        "%s: %s: %s, from %d labels",
        path,
        done,
        ", ".join(f"{line.value} {line.name}" for line in lines[:12])
        + (", ..." if len(lines) > 12 else ""),
        len(labels),
    )
    return lines


def _byte(text: str, where: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) > 255:
        raise InputError(f"{where}: {text!r}; expected a whole number in 0..255")
    return int(text)
