"""Images read and labels written a few rows at a time, at any size.

Reading: everything but `.npy` and Zarr through libvips, which decodes PNG, TIFF (strips
or tiles, BigTIFF, every usual compression) and JPEG in rows. Writing: PNG, tiled
BigTIFF, `.npy` and Zarr.
"""

import contextlib
import logging
import os
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyvips
import tifffile

from segjax.data.labels import LabelTable, palette
from segjax.errors import InputError
from segjax.inference import zarr_files
from segjax.whole_file import whole_file


class ImageRows(NamedTuple):
    """An image that is read from top to bottom.

    Attributes:
      size: height and width in pixels.
      read: gives rows `start` up to `stop`, uint8 `[n w 3]`. Each call must go on where
        the last one ended.
    """

    size: tuple[int, int]
    read: Callable[[int, int], np.ndarray]


@contextlib.contextmanager
def open_rows(path: Path) -> Iterator[ImageRows]:
    """Opens an image to read it in rows.

    Grey is repeated, palettes are looked up, alpha is dropped, of 16 bits the upper
    eight are kept: as `image_files.read_image` does with images that fit into memory.
    Of a TIFF with pages of falling size (a pyramid) the first page counts.

    Args:
      path: `.npy` or `.zarr`, uint8 `[h w 3]` or `[h w]`, or any image that libvips
        reads.

    Raises:
      InputError: not a readable image, or one that cannot be read in rows: interlaced
        or progressive, rotated by its metadata, several pages of one size, neither
        grey nor RGB, neither 8 nor 16 bits. While reading: damaged or cut off.
    """
    if path.suffix.lower() == ".npy":
        with contextlib.ExitStack() as stack:
            with _reading(path):
                file = stack.enter_context(path.open("rb"))
            yield _npy_rows(file, path)
    elif path.suffix.lower() == ".zarr":
        size, read = zarr_files.open_image(path)
        yield ImageRows(size, lambda start, stop: _rgb(read(start, stop)))
    else:
        yield _vips_rows(path)


def check_label_path(path: Path) -> None:
    """Raises `InputError` unless `write_label_rows` can write such a file."""
    if path.suffix.lower() == ".zarr":
        zarr_files.check_target(path)
    elif path.suffix.lower() not in _WRITERS:
        raise InputError(
            f"{path}: expected a label file in {', '.join(_WRITERS)} or .zarr"
        )


def write_label_rows(
    path: Path,
    strips: Iterable[np.ndarray],
    *,
    size: tuple[int, int],
    table: LabelTable,
) -> None:
    """Writes a label that comes in strips: train ids in the class colours.

    Args:
      path: `.png` (indexed), `.tif` or `.tiff` (BigTIFF, tiles of 256x256 pixels,
        deflate, indexed), `.npy` (no colours) or `.zarr` (see `zarr_files.write_rows`);
        its folder is made if missing. Written to `NAME.tmp` and renamed when it is
        whole; nothing is left of it otherwise.
      strips: uint8 `[n w]`, from top to bottom, any `n`.
      size: height and width of the label.
      table: class colours; void is black.

    Raises:
      InputError: the file cannot be written (disk full, ...), another
        ending, or strips that do not add up to `size`.
    """
    check_label_path(path)
    strips = _checked(strips, size)
    if path.suffix.lower() == ".zarr":
        with zarr_files.write_rows(
            path, shape=size, dtype=np.uint8, table=table
        ) as put:
            for strip in strips:
                put(strip)
        return
    with whole_file(path) as scratch, scratch.open("wb") as file:
        _WRITERS[path.suffix.lower()](file, strips, size, palette(table))
        # A writer may stop at the last row: too many show only here.
        for _ in strips:
            pass
        # A full disk may show only now.
        file.flush()
        os.fsync(file.fileno())


def _npy_rows(file, path):
    try:
        version = np.lib.format.read_magic(file)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, fortran_order, dtype = read_header(file)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path}: not a readable .npy file: {error}") from error
    if (
        dtype != np.uint8
        or fortran_order
        or len(shape) not in (2, 3)
        or shape[2:] not in ((), (3,))
        or min(shape) < 1
    ):
        raise InputError(
            f"{path}: is {dtype} with shape {shape}; expected uint8 [h w 3] or [h w], "
            "at least one pixel, in C order"
        )

    def read(start, stop):
        # Read, not mapped: mapped pages would count as memory of this process.
        with _reading(path):
            values = np.fromfile(file, np.uint8, (stop - start) * _row_bytes(shape))
        if values.size < (stop - start) * _row_bytes(shape):
            raise InputError(f"{path}: is cut off before row {stop}")
        return _rgb(values.reshape(stop - start, *shape[1:]))

    return ImageRows(shape[:2], read)


def _row_bytes(shape):
    return int(np.prod(shape[1:]))


def _vips_rows(path):
    # What it would print is in the errors that are raised here.
    logging.getLogger("pyvips").setLevel(logging.CRITICAL)
    # Errors of earlier, unrelated calls.
    pyvips.vips_lib.vips_error_clear()
    with _reading(path):
        # For the system's own words on a file that is missing or not ours to read.
        path.open("rb").close()
        # From a source: libvips reads options out of a plain file name.
        image = _vips_open(path)
        pages = image.get("n-pages") if "n-pages" in image.get_fields() else 1
        if pages > 1:
            second = _vips_open(path, page=1)
            if (second.width, second.height) == (image.width, image.height):
                raise InputError(f"{path}: has {pages} pages or frames; expected one")
    fields = set(image.get_fields())
    if "orientation" in fields and image.get("orientation") not in (0, 1):
        raise InputError(
            f"{path}: is rotated by its metadata (orientation "
            f"{image.get('orientation')}) and cannot be read in rows; rotate its pixels"
        )
    if "interlaced" in fields and image.get("interlaced"):
        raise InputError(
            f"{path}: is interlaced or progressive and cannot be read in rows; save it "
            "without"
        )
    if image.format not in ("uchar", "ushort") or image.interpretation not in _RGB:
        raise InputError(
            f"{path}: has pixels {image.format} {image.interpretation}; expected grey "
            "or RGB of 8 or 16 bits"
        )
    dtype = np.dtype(np.uint8 if image.format == "uchar" else np.uint16)
    region = pyvips.Region.new(image)

    def read(start, stop):
        with _reading(path):
            pixels = region.fetch(0, start, image.width, stop - start)
            # Damage inside a tiled TIFF is only noted; its tile comes out black.
            noted = pyvips.ffi.string(pyvips.vips_lib.vips_error_buffer())
            if noted:
                raise pyvips.Error(noted.decode(errors="replace"))
        values = np.frombuffer(pixels, dtype)
        values = values.reshape(stop - start, image.width, image.bands)
        if dtype == np.uint16:
            values = (values >> 8).astype(np.uint8)
        # One or two channels are grey, the second one alpha; a fourth is alpha.
        return _rgb(values[..., :3] if image.bands > 2 else values[..., 0])

    return ImageRows((image.height, image.width), read)


def _vips_open(path, **options):
    return pyvips.Image.new_from_source(
        pyvips.Source.new_from_file(str(path)),
        "",
        access="sequential",
        fail_on="truncated",
        **options,
    )


@contextlib.contextmanager
def _reading(path):
    try:
        yield
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except pyvips.Error as error:
        pyvips.vips_lib.vips_error_clear()
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: not a readable image: {reason}") from error


def _rgb(values):
    if values.ndim == 2:
        values = np.repeat(values[..., None], 3, axis=-1)
    return np.ascontiguousarray(values)


def _checked(strips, size):
    """Passes strips on, all of the label's rows and of its width."""
    rows = 0
    for strip in strips:
        rows += len(strip)
        if strip.dtype != np.uint8 or strip.shape[1:] != size[1:] or rows > size[0]:
            raise InputError(
                f"label strip is {strip.dtype} {strip.shape}, {rows} rows in all; "
                f"expected uint8 [n {size[1]}] and {size[0]} rows"
            )
        yield strip
    if rows != size[0]:
        raise InputError(f"label strips have {rows} rows; expected {size[0]}")


def _write_png(file, strips, size, colors):
    """Portable Network Graphics (second edition, W3C 2003), sections 5 and 11."""

    def chunk(name, data):
        file.write(struct.pack(">I", len(data)) + name + data)
        file.write(struct.pack(">I", zlib.crc32(data, zlib.crc32(name))))

    file.write(b"\x89PNG\r\n\x1a\n")
    depth, indexed = 8, 3
    chunk(b"IHDR", struct.pack(">IIBBBBB", size[1], size[0], depth, indexed, 0, 0, 0))
    chunk(b"PLTE", colors.tobytes())
    deflate = zlib.compressobj()
    for strip in strips:
        # In front of every row the number of its filter: 0, none, as fits indices.
        rows = np.pad(strip, ((0, 0), (1, 0)))
        if data := deflate.compress(rows):
            chunk(b"IDAT", data)
    chunk(b"IDAT", deflate.flush())
    chunk(b"IEND", b"")


def _write_tiff(file, strips, size, colors):
    tifffile.imwrite(
        file,
        _tiles(strips, 256),
        shape=size,
        dtype=np.uint8,
        tile=(256, 256),
        compression="zlib",
        photometric="palette",
        # 16 bits a colour, 65535 the brightest.
        colormap=colors.T.astype(np.uint16) * 257,
        bigtiff=True,
        metadata=None,
        software=False,
        maxworkers=1,
    )


def _tiles(strips, side):
    """Cuts strips into square tiles in reading order; the last ones are smaller."""
    held = []

    def cut(rows):
        for left in range(0, rows.shape[1], side):
            yield rows[:, left : left + side]

    for strip in strips:
        held.append(strip)
        if sum(map(len, held)) < side:
            continue
        rows = np.concatenate(held)
        whole = len(rows) // side * side
        for top in range(0, whole, side):
            yield from cut(rows[top : top + side])
        held = [rows[whole:]] if whole < len(rows) else []
    if held:
        yield from cut(np.concatenate(held))


def _write_npy(file, strips, size, colors):
    del colors
    np.lib.format.write_array_header_1_0(
        file, {"descr": "|u1", "fortran_order": False, "shape": tuple(size)}
    )
    for strip in strips:
        file.write(np.ascontiguousarray(strip))


_RGB = ("b-w", "srgb", "rgb", "grey16", "rgb16")
_WRITERS = {
    ".png": _write_png,
    ".tif": _write_tiff,
    ".tiff": _write_tiff,
    ".npy": _write_npy,
}
