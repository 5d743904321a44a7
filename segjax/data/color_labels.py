"""Labels whose classes are RGB colours, and two-valued ones."""

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from segjax.data.decoding import label_array, opened
from segjax.data.labels import LabelTable, decode_label
from segjax.data.paired_images import read_bytes
from segjax.errors import InputError

COLOR_MODES = ("RGB", "RGBA")


def read_any_label(
    path: Path,
    *,
    table: LabelTable,
    colors: Mapping[tuple[int, int, int], int] | None = None,
) -> np.ndarray:
    """Reads a label: one channel of 8 bits or of one bit, or RGB.

    Args:
      path: of the file.
      table: what the values of one channel mean; of one bit, 0 and 1.
      colors: what colours mean, colour -> train id or `VOID`; with None RGB is an
        error.

    Returns:
      train ids, uint8 `[h w]`.

    Raises:
      InputError: not such a file; a value or colour that is no class.
    """
    with opened(io.BytesIO(read_bytes(path)), source=str(path)) as image:
        if image.mode == "1":
            values = np.asarray(image).astype(np.uint8)
            return decode_label(values, table, source=str(path))
        if colors is None or image.mode not in COLOR_MODES:
            return label_array(image, table, source=str(path))
        return _from_colors(color_codes(image), colors, source=str(path))


def is_color_image(path: Path) -> bool:
    """Tells whether an image file has colours and not indices.

    Raises:
      InputError: it cannot be read.
    """
    with opened(io.BytesIO(read_bytes(path)), source=str(path)) as image:
        return image.mode in COLOR_MODES


def color_codes(image: Image.Image) -> np.ndarray:
    """Colours as numbers `red * 65536 + green * 256 + blue`, int32 `[h w]`.

    What is transparent keeps its colour.
    """
    red, green, blue = np.moveaxis(np.asarray(image.convert("RGB"), np.int32), -1, 0)
    return (red << 16) | (green << 8) | blue


def split_code(code: int) -> tuple[int, int, int]:
    """The colour of a number of `color_codes`."""
    return int(code) >> 16, int(code) >> 8 & 255, int(code) & 255


def _from_colors(codes, colors, *, source):
    known = {
        (r << 16) | (g << 8) | b: train_id for (r, g, b), train_id in colors.items()
    }
    order = np.array(sorted(known), np.int32)
    train_ids = np.array([known[int(code)] for code in order], np.uint8)
    place = np.minimum(np.searchsorted(order, codes), len(order) - 1)
    stray = codes[order[place] != codes]
    if stray.size:
        raise InputError(
            f"{source}: colour {split_code(stray[0])} is not a class of this data set; "
            f"expected one of {', '.join(map(str, list(colors)[:8]))}"
            f"{', ...' if len(colors) > 8 else ''}"
        )
    return train_ids[place]
