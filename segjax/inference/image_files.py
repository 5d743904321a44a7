"""Reading whatever image file comes in as uint8 RGB, upright."""

import contextlib
import struct
import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

from segjax.data.paired_images import opened, rgb_array
from segjax.errors import InputError

# What Pillow raises for metadata or frame tables that make no sense.
_DAMAGE = (
    OSError,
    EOFError,
    SyntaxError,
    TypeError,
    ValueError,
    LookupError,
    struct.error,
)


def read_image(file: Path | BinaryIO, *, source: str | None = None) -> np.ndarray:
    """Reads an image of any usual kind.

    Grey is repeated, palettes are looked up, alpha is dropped, of 16 bits the upper
    eight are kept, CMYK becomes RGB without a colour profile, and the rotation that a
    camera notes in EXIF is applied, so the picture stands as a viewer shows it. Of the
    several pictures that a phone puts into one JPEG (MPO) the first counts.

    Args:
      file: path, or open binary file.
      source: name for the error message; the path if it is None.

    Returns:
      uint8 `[h w 3]`.

    Raises:
      InputError: missing, no image, damaged, cut off or empty; several frames or pages;
        more pixels than Pillow's limit against decompression bombs (178,956,970);
        pixels of more than 16 bits or in floating point.
    """
    source = str(file) if source is None else source
    try:
        with opened(file, source=source) as image:
            return _upright_rgb(image, source)
    except InputError as error:
        cause = error.__cause__
        if isinstance(cause, Image.DecompressionBombError):
            raise InputError(
                f"{source}: more than {2 * Image.MAX_IMAGE_PIXELS} pixels, too large "
                "for prediction in memory; predict it strip by strip"
            ) from cause
        if isinstance(cause, OSError) and cause.strerror:
            raise InputError(f"{source}: cannot be read: {cause.strerror}") from cause
        raise


def _upright_rgb(image: Image.Image, source: str) -> np.ndarray:
    # Pillow warns of damaged metadata, which does not make the picture worse.
    with warnings.catch_warnings(action="ignore"):
        try:
            frames = getattr(image, "n_frames", 1)
        except _DAMAGE as error:
            raise InputError(f"{source}: not a readable image: {error}") from error
        if frames > 1 and image.format != "MPO":
            raise InputError(
                f"{source}: has {frames} frames or pages; expected a single image"
            )
        # Viewers show a picture with damaged metadata as it is stored, too.
        with contextlib.suppress(*_DAMAGE):
            image = ImageOps.exif_transpose(image)
    pixels = rgb_array(image, source=source)
    if pixels.size == 0:
        raise InputError(f"{source}: has no pixels")
    return pixels
