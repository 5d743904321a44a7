"""Predictions on disk: PNGs whose pixel values are train ids, in the class colours."""

from pathlib import Path

import numpy as np
from PIL import Image

from segjax.data.labels import VOID, LabelTable
from segjax.errors import InputError


def write_label(path: Path, label: np.ndarray, table: LabelTable) -> None:
    """Writes an indexed PNG: train ids as pixel values, their colours as palette.

    Args:
      path: of the PNG; its folder exists. Written whole or not at all.
      label: uint8 `[h w]`, in `0..num_classes-1` or 255 = void (black).
      table: class colours.
    """
    palette = np.zeros((VOID + 1, 3), np.uint8)
    palette[: table.num_classes] = table.colors
    picture = Image.fromarray(label)
    picture.putpalette(palette.tobytes())
    scratch = path.with_suffix(".tmp")
    picture.save(scratch, format="PNG", optimize=True)
    scratch.replace(path)


def read_label(path: Path) -> np.ndarray:
    """Reads what `write_label` wrote: uint8 `[h w]`.

    Raises:
      InputError: the file is missing, broken or not an indexed PNG.
    """
    try:
        with Image.open(path) as picture:
            if picture.mode != "P":
                raise InputError(
                    f"{path}: is {picture.mode}, expected an indexed (P) PNG"
                )
            return np.array(picture)
    except (OSError, SyntaxError) as error:
        raise InputError(f"{path}: cannot be read as an image: {error}") from error
