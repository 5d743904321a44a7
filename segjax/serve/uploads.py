"""Uploaded images: bytes to pixels, within limits, without touching the disk."""

import dataclasses
import io
import warnings

import numpy as np
from PIL import ExifTags, Image

from segjax.data.labels import LabelTable
from segjax.errors import InputError
from segjax.inference.image_files import read_image
from segjax.inference.label_files import indexed_picture

# Pillow knows more; one starts another program (EPS), the others nobody has.
FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "PPM")


@dataclasses.dataclass(frozen=True)
class Limits:
    """What an upload may cost.

    Attributes:
      bytes: of the file.
      pixels: of an image that the network sees at the size it was trained at.
      native_pixels: of an image that the network sees at its own size.
    """

    bytes: int
    pixels: int
    native_pixels: int


@dataclasses.dataclass(frozen=True)
class Upload:
    """An image that came in.

    Attributes:
      image: uint8 `[h w 3]`, upright: what the network is given.
      shown_alike: whether a browser shows the file as `image` is; if not (TIFF, alpha,
        16 bits and so on) it needs `encode_picture`.
    """

    image: np.ndarray
    shown_alike: bool


def decode_upload(data: bytes, *, max_pixels: int) -> Upload:
    """Decodes an image file as `image_files.read_image`; the size is checked before.

    Raises:
      InputError: no image of FORMATS, damaged, several frames, or more pixels than
        `max_pixels`, of which none is decoded.
    """
    try:
        with (
            warnings.catch_warnings(action="ignore"),
            Image.open(io.BytesIO(data), formats=FORMATS) as header,
        ):
            width, height = header.size
            check_pixels(height, width, max_pixels=max_pixels)
            shown_alike = _is_shown_alike(header)
    except Image.DecompressionBombError as error:
        raise InputError(
            f"image: has more than {_millions(max_pixels)} million pixels, the limit "
            "of this page"
        ) from error
    except InputError:
        raise
    except Exception as error:
        # Damaged files make Pillow raise errors of every kind.
        raise InputError(
            "image: not a readable image; expected PNG, JPEG, WebP, AVIF, GIF, BMP, "
            "TIFF or PPM"
        ) from error
    return Upload(read_image(io.BytesIO(data), source="image"), shown_alike)


def check_pixels(height: int, width: int, *, max_pixels: int, what: str = "image"):
    """Raises `InputError` if there are more than `max_pixels`."""
    if height * width > max_pixels:
        raise InputError(
            f"{what}: {height}x{width} pixels (height x width) are more than "
            f"{_millions(max_pixels)} million, the limit of this page; "
            "`python -m segjax predict` has --window for larger images"
        )


def encode_picture(image: np.ndarray) -> bytes:
    """The pixels uint8 `[h w 3]` as a PNG."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, format="PNG", compress_level=1)
    return file.getvalue()


def encode_label(label: np.ndarray, table: LabelTable) -> bytes:
    """A label as an indexed PNG of 8 bits, as `label_files.write_label` writes it.

    Args:
      label: uint8 `[h w]`, train ids.
      table: class colours, the palette.
    """
    file = io.BytesIO()
    indexed_picture(label, table).save(file, format="PNG", bits=8)
    return file.getvalue()


def _is_shown_alike(header: Image.Image) -> bool:
    """Whether browsers agree with `read_image` on what the picture looks like."""
    if header.format in ("JPEG", "MPO"):
        return header.mode in ("RGB", "L")
    upright = header.getexif().get(ExifTags.Base.Orientation, 1) == 1
    plain = header.mode in ("RGB", "L") and "transparency" not in header.info
    return header.format in ("PNG", "WEBP", "BMP") and plain and upright


def _millions(pixels: int) -> str:
    return f"{pixels / 1e6:g}"
