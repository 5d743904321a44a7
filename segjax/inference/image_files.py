"""Reading whatever image file comes in as uint8 RGB, upright."""

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

from segjax.data.decoding import DAMAGE, opened, rgb_array
from segjax.errors import InputError


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
        pixels of more than 16 bits or in floating point; a TIFF of 16 bits with a plane
        for each colour.
    """
    source = str(file) if source is None else source
    with open_image(file, source=source) as image:
        return _upright_rgb(image, source)


@contextlib.contextmanager
def open_image(file: Path | BinaryIO, *, source: str) -> Iterator[Image.Image]:
    """Opens and fully decodes an image as it is stored.

    Args:
      file: path, or open binary file.
      source: name for the error message.

    Raises:
      InputError: missing, no image, cut off or damaged (of a PNG, a wrong checksum);
        more pixels than Pillow's limit against decompression bombs (178,956,970).
    """
    with contextlib.ExitStack() as stack:
        try:
            image = stack.enter_context(opened(file, source=source))
            if image.format == "PNG":
                _check_sums(file, source)
            if image.format == "TIFF":
                _check_planes(image, source)
        # How AVIF says that it is damaged.
        except RuntimeError as error:
            raise InputError(f"{source}: not a readable image: {error}") from error
        except InputError as error:
            raise _in_words_of_its_cause(error, source) from error.__cause__
        yield image


def _in_words_of_its_cause(error, source):
    cause = error.__cause__
    if isinstance(cause, Image.DecompressionBombError):
        return InputError(
            f"{source}: more than {2 * Image.MAX_IMAGE_PIXELS} pixels, too large for "
            "prediction in memory; predict it strip by strip (--strips --window HEIGHT "
            "WIDTH), or raise PIL.Image.MAX_IMAGE_PIXELS in Python"
        )
    if isinstance(cause, OSError) and cause.strerror:
        return InputError(f"{source}: cannot be read: {cause.strerror}")
    return error


def _check_sums(file, source):
    """Raises InputError if a chunk of a PNG does not have its checksum.

    Pillow decodes pixels without looking at it: a flipped bit would be other pixels.
    """
    try:
        if hasattr(file, "seek"):
            file.seek(0)
        with warnings.catch_warnings(action="ignore"), Image.open(file) as image:
            image.verify()
    except DAMAGE as error:
        raise InputError(f"{source}: not a readable image: {error}") from error


def _check_planes(image, source):
    """Raises InputError for colours of 16 bits in planes: Pillow mixes up their bytes."""
    bits, planes = image.tag_v2.get(258, (8,)), image.tag_v2.get(284, 1)
    if planes == 2 and max(bits) > 8:
        raise InputError(
            f"{source}: has one plane of {max(bits)} bits for each colour; expected 8 "
            "bits, or the colours of a pixel together"
        )


def _upright_rgb(image: Image.Image, source: str) -> np.ndarray:
    # Pillow warns of damaged metadata, which does not make the picture worse.
    with warnings.catch_warnings(action="ignore"):
        try:
            frames = getattr(image, "n_frames", 1)
        except DAMAGE as error:
            raise InputError(f"{source}: not a readable image: {error}") from error
        if frames > 1 and image.format != "MPO":
            raise InputError(
                f"{source}: has {frames} frames or pages; expected a single image"
            )
        # Viewers show a picture with damaged metadata as it is stored, too.
        with contextlib.suppress(*DAMAGE):
            image = ImageOps.exif_transpose(image)
    pixels = rgb_array(image, source=source)
    if pixels.size == 0:
        raise InputError(f"{source}: has no pixels")
    return pixels
