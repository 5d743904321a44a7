"""Image files decoded by Pillow: opened whole, and as arrays of RGB or of train ids."""

import contextlib
import re
import struct
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from segjax.data.labels import LabelTable, decode_label
from segjax.errors import InputError

# A file of a few kB may claim to be an image of any size.
MAX_PIXELS = 178_956_970

# What Pillow raises for a damaged file, by format and kind of damage.
DAMAGE = (
    OSError,
    EOFError,
    SyntaxError,
    TypeError,
    ValueError,
    LookupError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


@contextlib.contextmanager
def opened(file, *, source: str, frame: int = 0) -> Iterator[Image.Image]:
    """Opens and fully decodes an image (its page `frame`).

    Raises:
      InputError: it is no image, or damaged or cut off.
    """
    with contextlib.ExitStack() as stack:
        try:
            # What Pillow warns of in a damaged file, it also raises, or can mend.
            with warnings.catch_warnings(action="ignore"):
                image = stack.enter_context(Image.open(file))
                _check_pixels(image)
                image.seek(frame)
                image.load()
        except DAMAGE as error:
            raise _not_readable(source, error) from error
        yield image


def count_pages(path: Path) -> int:
    """Counts the pages of an image file, 1 where the format has no pages.

    Raises:
      InputError: it is no image, or damaged or cut off.
    """
    with opened(path, source=str(path)) as image:
        try:
            with warnings.catch_warnings(action="ignore"):
                return getattr(image, "n_frames", 1)
        except DAMAGE as error:
            raise _not_readable(str(path), error) from error


def rgb_array(image: Image.Image, *, source: str) -> np.ndarray:
    """Returns a decoded image as uint8 `[h w 3]`.

    Grey is repeated, palettes are looked up, alpha is dropped, of 16 bits the upper
    eight are kept.

    Raises:
      InputError: values that are not 8 or 16 bits wide, or no RGB form.
    """
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise InputError(f"{source}: pixel values beyond 16 bits; expected 8 or 16")
        grey = (values >> 8).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=-1)
    try:
        if image.mode == "F":
            raise ValueError("floating-point pixels")
        return np.asarray(image.convert("RGB"))
    except ValueError as error:
        raise InputError(
            f"{source}: cannot be made RGB ({error}); expected an 8- or 16-bit image"
        ) from error


def label_array(image: Image.Image, table: LabelTable, *, source: str) -> np.ndarray:
    """Returns a decoded label file as train ids, uint8 `[h w]`.

    A palette image counts by its indices, never by its colours.

    Raises:
      InputError: more than one channel or not 8 bits; a value outside the table.
    """
    if image.mode not in ("L", "P"):
        raise InputError(
            f"{source}: label has pixel mode {image.mode}; "
            "expected one channel of 8 bits (grey or palette)"
        )
    return decode_label(np.asarray(image), table, source=source)


def _check_pixels(image: Image.Image) -> None:
    """Pillow has the same limit, unless the program that we are part of lifted it."""
    if image.width * image.height > MAX_PIXELS:
        raise Image.DecompressionBombError(
            f"{image.width}x{image.height} pixels, the limit is {MAX_PIXELS}"
        )


def _not_readable(source: str, error: Exception) -> InputError:
    # Pillow's message may hold the repr of an open file, which says nothing here.
    reason = re.sub(r"<_io\.\w+ [^>]*>", "file", str(error)) or type(error).__name__
    return InputError(f"{source}: not a readable image: {reason}")
