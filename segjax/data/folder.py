"""Any folder of images and labels: your own data without writing a builder.

    my_data/
      classes.txt
      train/images/a.jpg  train/labels/a.png
      val/images/b.jpg    val/labels/b.png

or, without splits, `my_data/images/` and `my_data/labels/`, which is split 'train'.
Images are PNG, JPEG, BMP, TIFF or WebP; labels one channel of 8 bits, not JPEG; an
image and its label have the same name but for the ending.

`classes.txt` says what the label values mean, one line each, in the order of the
train ids:

    # value in the label files, name, and if you like red, green, blue
    0, background, 40, 40, 40
    1, cell
    255, void

The name `void` is for values to ignore; there may be several of them, or none.
"""

from pathlib import Path

import tensorflow_datasets as tfds

from segjax.data import records
from segjax.data.labels import VOID, LabelTable, default_colors
from segjax.data.paired_images import (
    Pair,
    PairedImagesConfig,
    match_by_name,
    paired_images_config,
    shard_iterators,
)
from segjax.errors import InputError

SPLITS = ("train", "val", "test")


class SegmentationFolder(tfds.core.ShardBasedBuilder, skip_registration=True):
    """TFDS builder of a folder; takes its files from `SegmentationFolder.config`."""

    VERSION = tfds.core.Version("1.0.0")

    @staticmethod
    def config(data_dir: Path, *, max_bad: int = 0) -> PairedImagesConfig:
        """Reads the class list of `data_dir` and finds its files."""
        if not data_dir.is_dir():
            raise InputError(f"{data_dir}: no such folder")
        table = read_classes(data_dir / "classes.txt")
        return paired_images_config(
            data_dir, find_pairs(data_dir), table, max_bad=max_bad
        )

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
        parts = {"train": data_dir}
    if not parts:
        raise InputError(
            f"{data_dir}: no images here; expected images/ and labels/, or these two "
            "in train/ (and val/, test/)"
        )
    return {
        split: match_by_name(folder / "images", folder / "labels")
        for split, folder in parts.items()
    }


def read_classes(path: Path) -> LabelTable:
    """Reads a class list; the format is in the docstring of this module.

    Raises:
      InputError: the file is missing or a line of it is wrong.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: class list cannot be read ({error}); expected lines like "
            "'0, background'"
        ) from error
    names, colors, raw_ids = [], [], {}
    for number, line in enumerate(lines, start=1):
        if not line.split("#")[0].strip():
            continue
        where = f"{path}: line {number} ({line.strip()!r})"
        fields = [field.strip() for field in line.split("#")[0].split(",")]
        if len(fields) not in (2, 5) or not fields[1]:
            raise InputError(
                f"{where}: expected 'value, name' or 'value, name, red, green, blue'"
            )
        raw, *color = (_byte(field, where) for field in (fields[0], *fields[2:]))
        if raw in raw_ids:
            raise InputError(f"{where}: value {raw} is listed twice")
        if fields[1] == "void":
            raw_ids[raw] = VOID
            continue
        if fields[1] in names:
            raise InputError(f"{where}: class {fields[1]!r} is listed twice")
        raw_ids[raw] = len(names)
        names.append(fields[1])
        colors.append(tuple(color))
    if not names:
        raise InputError(f"{path}: no class; expected lines like '0, background'")
    defaults = default_colors(len(names))
    return LabelTable(
        names=tuple(names),
        colors=tuple(c or d for c, d in zip(colors, defaults, strict=True)),
        raw_ids=raw_ids,
    )


def _byte(text: str, where: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) > 255:
        raise InputError(f"{where}: {text!r}; expected a whole number in 0..255")
    return int(text)
