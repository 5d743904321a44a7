"""The classes of labels that come without a class list: what values or colours occur."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from segjax.data.color_labels import COLOR_MODES, color_codes, split_code
from segjax.data.decoding import opened
from segjax.data.labels import VOID
from segjax.data.paired_images import read_bytes
from segjax.errors import InputError

MOST_COLORS = 64
"""More different colours are no classes, but a picture or its blurred edges."""

_NEEDED = "expected values 0..k-1 (255 is void), or a classes.txt beside the images"


def infer_classes(labels: Sequence[Path]) -> str:
    """Reads every label and writes the class list that they need.

    Labels of one channel hold `0..k-1` and maybe 255 for void, or only 0 and 255 for
    background and foreground. Palette images may leave values out, and lend their
    colours. In RGB labels every colour is a class.

    Args:
      labels: the files.

    Returns:
      lines of `classes.txt` (`segjax.data.folder`), names to be replaced.

    Raises:
      InputError: values with gaps, too many colours, a single class, or some labels
        with colours and some without.
    """
    first: dict[int, Path] = {}
    palettes: list[list[int]] = []
    kinds: dict[bool, Path] = {}
    all_palettes = True
    for path in labels:
        with opened(io.BytesIO(read_bytes(path)), source=str(path)) as image:
            colored = image.mode in COLOR_MODES
            kinds.setdefault(colored, path)
            if len(kinds) > 1:
                raise InputError(
                    f"{kinds[True]} is a colour image and {kinds[False]} is not; "
                    "expected labels of one kind"
                )
            if not colored and image.mode not in ("L", "P", "1"):
                raise InputError(
                    f"{path}: label has pixel mode {image.mode}; expected one channel "
                    "of 8 bits (grey or palette), or RGB"
                )
            all_palettes &= image.mode == "P"
            if image.mode == "P":
                palettes.append(image.getpalette("RGB") or [])
            values = color_codes(image) if colored else np.asarray(image, np.int32)
        for value in np.unique(values):
            first.setdefault(int(value), path)
        if colored and len(first) > MOST_COLORS:
            raise InputError(
                f"{path}: more than {MOST_COLORS} colours so far; expected one plain "
                "colour for each class (not smoothed), or a classes.txt that lists them"
            )
    if len(first) < 2:
        raise InputError(
            f"{labels[0]}: this and all other labels hold one value only; expected at "
            "least two classes"
        )
    lines = [
        "# Found in the labels; put your own names here. The name void is ignored."
    ]
    if kinds.keys() == {True}:
        lines += [
            f"{index}, class_{index}, {red}, {green}, {blue}"
            for index, (red, green, blue) in enumerate(map(split_code, sorted(first)))
        ]
    elif first.keys() == {0, VOID}:
        lines += ["0, background", "255, foreground"]
    else:
        classes = sorted(first.keys() - {VOID})
        if not all_palettes:
            _check_no_gaps(classes, first)
        colors = _palette(palettes, classes) if all_palettes else {}
        for value in classes:
            color = "".join(f", {part}" for part in colors.get(value, ()))
            lines.append(f"{value}, class_{value}{color}")
        lines += ["255, void"] if VOID in first else []
    return "\n".join(lines) + "\n"


def _check_no_gaps(classes: list[int], first: dict[int, Path]) -> None:
    for expected, value in enumerate(classes):
        if value != expected:
            raise InputError(
                f"{first[value]}: label value {value}, but no label has the value "
                f"{expected}; {_NEEDED}"
            )


def _palette(palettes: list[list[int]], classes: list[int]) -> dict[int, tuple]:
    """The palettes' colours, if they agree and differ from class to class."""
    found = {
        value: {tuple(palette[3 * value : 3 * value + 3]) for palette in palettes}
        for value in classes
    }
    colors = {value: min(each) for value, each in found.items() if len(each) == 1}
    distinct = len(set(colors.values())) == len(classes)
    return colors if distinct and all(len(c) == 3 for c in colors.values()) else {}
