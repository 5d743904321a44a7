"""Predictions on disk: PNGs whose pixel values are train ids, in the class colours."""

from pathlib import Path

import numpy as np
from PIL import Image

from segjax.data.labels import VOID, LabelTable, palette
from segjax.errors import InputError
from segjax.inference.image_files import open_image
from segjax.whole_file import whole_file


def write_label(path: Path, label: np.ndarray, table: LabelTable) -> None:
    """Writes an indexed PNG: train ids as pixel values, their colours as palette.

    Args:
      path: of the PNG; its folder exists. Written whole or not at all.
      label: uint8 `[h w]`, in `0..num_classes-1` or 255 = void (black).
      table: class colours.

    Raises:
      InputError: the file cannot be written.
    """
    with whole_file(path) as scratch:
        indexed_picture(label, table).save(scratch, format="PNG", optimize=True)


def indexed_picture(label: np.ndarray, table: LabelTable) -> Image.Image:
    """A label, uint8 `[h w]`, as a picture of its values with the class colours."""
    picture = Image.fromarray(label)
    picture.putpalette(palette(table).tobytes())
    return picture


def read_label(path: Path, *, table: LabelTable | None = None) -> np.ndarray:
    """Reads a label: `write_label`'s, or another tool's.

    The indices of a palette image (whatever its colours) and the values of a grey image
    of 1 to 8 bits are the train ids. An image in colours is understood only with a
    table: each colour exactly as in it, black as void unless it is a class's.

    Args:
      path: of a PNG or another image that keeps values as they are.
      table: class colours.

    Returns:
      uint8 `[h w]`; not checked against a number of classes.

    Raises:
      InputError: the file is missing or broken; a JPEG; more than 8 bits; colours
        without a table, outside it, or shared by two of its classes.
    """
    with open_image(path, source=str(path)) as picture:
        if picture.format == "JPEG":
            raise InputError(f"{path}: a JPEG does not keep ids; expected a PNG")
        if picture.mode in ("1", "L", "P"):
            return np.array(picture, np.uint8) // _brightening(path)
        if picture.mode in ("RGB", "RGBA") and table is not None:
            return _ids(np.array(picture.convert("RGB")), table, source=path)
        raise InputError(
            f"{path}: is {picture.mode}, expected an indexed (P) or grey (L) image "
            "whose values are class ids"
        )


def _brightening(path: Path) -> int:
    """What Pillow multiplies grey values of 2 or 4 bits by, so that 255 is white."""
    with Image.open(path) as picture:
        layout = picture.tile[0].args
    layout = layout if isinstance(layout, str) else layout[0]
    return {"L;2": 85, "L;4": 17}.get(layout, 1)


def _ids(colors: np.ndarray, table: LabelTable, *, source: Path) -> np.ndarray:
    known = {(0, 0, 0): VOID}
    for train_id, color in enumerate(table.colors):
        if color in table.colors[:train_id]:
            raise InputError(
                f"{source}: is in colours, and {color} is that of two classes; expected "
                "an indexed (P) or grey (L) PNG"
            )
        known[tuple(color)] = train_id
    packed = colors.astype(np.int32) @ np.int32([65536, 256, 1])
    values, where = np.unique(packed, return_inverse=True)
    found = [(int(v) >> 16, int(v) >> 8 & 255, int(v) & 255) for v in values]
    for color in found:
        if color not in known:
            raise InputError(
                f"{source}: colour {color} is not one of the classes' colours"
            )
    ids = np.array([known[color] for color in found], np.uint8)
    return ids[where].reshape(packed.shape)
