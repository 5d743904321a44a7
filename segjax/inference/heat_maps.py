"""Maps of one number per pixel as pictures that are looked at and read back."""

from pathlib import Path

import chex
import matplotlib
import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from segjax.errors import InputError
from segjax.whole_file import whole_file


def write_heat_map(path: Path, values: np.ndarray, *, highest: float) -> None:
    """Writes an indexed PNG in viridis: pixel value 0 is 0, 255 is `highest`.

    Args:
      path: of the PNG; its folder is made if missing. Written whole or not at all.
      values: floating point `[h w]`; what is below 0 or above `highest` is cut.
      highest: what the brightest colour stands for, positive; kept in the file.

    Raises:
      InputError: the file cannot be written.
    """
    chex.assert_rank(values, 2)
    share = np.clip(values.astype(np.float64) / highest, 0, 1)
    picture = Image.fromarray(np.round(share * 255).astype(np.uint8))
    colors = matplotlib.colormaps["viridis"](np.arange(256), bytes=True)[:, :3]
    picture.putpalette(colors.tobytes())
    info = PngInfo()
    info.add_text("highest", repr(float(highest)))
    with whole_file(path) as scratch:
        picture.save(scratch, format="PNG", pnginfo=info)


def read_heat_map(path: Path) -> np.ndarray:
    """Reads what `write_heat_map` wrote: float32 `[h w]`, to 1/510 of the highest.

    Raises:
      InputError: the file is missing, broken or not such a picture.
    """
    try:
        with Image.open(path) as picture:
            if picture.mode != "P" or "highest" not in picture.info:
                raise InputError(f"{path}: not a heat map that segjax wrote")
            share = np.asarray(picture, np.float32) / 255
            return share * np.float32(picture.info["highest"])
    except (OSError, SyntaxError) as error:
        raise InputError(f"{path}: cannot be read as an image: {error}") from error
