"""Zarr arrays: images read in rows, labels and probabilities written in rows.

An array is a folder of compressed chunks, so that any part of it can be read without
the rest, which no other format here offers for the probabilities of an image that does
not fit into memory. Written is Zarr 3, read are 2 and 3.
"""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import zarr
from zarr.codecs import ZstdCodec

from segjax.data.labels import VOID, LabelTable
from segjax.errors import InputError


class Prediction(NamedTuple):
    """What `write_rows` wrote; nothing but the names and colours is in memory.

    Attributes:
      values: uint8 `[h w]`, train ids or 255 = void, or float16 `[h w k]`,
        probabilities. Indexing reads the chunks that are asked for.
      names: of the classes.
      colors: of the classes, (red, green, blue) in 0..255.
    """

    values: zarr.Array
    names: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]


def open_image(
    path: Path,
) -> tuple[tuple[int, int], Callable[[int, int], np.ndarray]]:
    """Opens an image to read it in rows that follow one another.

    Whole rows of chunks are held, so that no chunk is decoded twice: memory grows
    with the height of a chunk. A chunk that is not there counts as the array's fill
    value, as Zarr has it.

    Args:
      path: folder of an array, uint8 `[h w 3]` or `[h w]`.

    Returns:
      Height and width, and what gives rows `start` up to `stop`, uint8 `[n w 3]` or
      `[n w]`; each call must go on where the last one ended.

    Raises:
      InputError: not a Zarr array of this kind. While reading: damaged.
    """
    array = _open(path)
    shape = array.shape
    if (
        array.dtype != np.uint8
        or len(shape) not in (2, 3)
        or shape[2:] not in ((), (3,))
        or min(shape) < 1
    ):
        raise InputError(
            f"{path}: is {array.dtype} with shape {shape}; expected uint8 [h w 3] or "
            "[h w], at least one pixel"
        )
    rows = array.chunks[0]
    held, first = np.empty((0, *shape[1:]), np.uint8), 0

    def read(start, stop):
        nonlocal held, first
        last, whole = first + len(held), min(-(-stop // rows) * rows, shape[0])
        parts = [held[start - first :]]
        if whole > last:
            with _reading(path):
                parts.append(array[last:whole])
        held, first = np.concatenate(parts), start
        return held[: stop - start]

    return shape[:2], read


def check_target(path: Path) -> None:
    """Raises `InputError` unless `write_rows` may write there."""
    if path.suffix.lower() != ".zarr":
        raise InputError(f"{path}: expected the ending .zarr")
    if path.exists() and not any(
        (path / name).is_file() for name in ("zarr.json", ".zarray")
    ):
        raise InputError(f"{path}: is there and not a Zarr array; expected a new name")


@contextlib.contextmanager
def write_rows(
    path: Path, *, shape: tuple[int, ...], dtype: type, table: LabelTable
) -> Iterator[Callable[[np.ndarray], None]]:
    """Writes an array that comes in strips, with the names and colours of its classes.

    Chunks are 512x512 pixels of labels or 128x512 of probabilities, compressed by
    Zstandard with checksums. The attributes are `class_names`, `class_colors` and
    `void` (255).

    Args:
      path: of the folder, ending in `.zarr`; its parent is made if missing. An array
        of this name is replaced. Written to `NAME.tmp` and renamed when it is whole;
        nothing is left of it otherwise.
      shape: `[h w]` of a label, `[h w k]` of probabilities.
      dtype: of the array.
      table: names and colours.

    Yields:
      A function that takes strips `[n *shape[1:]]` of this type, from top to bottom,
      any `n`.

    Raises:
      InputError: the array cannot be written (disk full, ...), or the strips do not
        add up to `shape`.
    """
    check_target(path)
    label = len(shape) == 2
    chunk = (512, 512) if label else (128, 512, shape[2])
    scratch, rows, done = path.with_name(path.name + ".tmp"), [], 0

    def store(band):
        nonlocal done
        # One chunk at a time: after an error, Zarr's threads would go on writing the
        # others while the folder is removed.
        with _writing(path):
            for left in range(0, shape[1], chunk[1]):
                place = np.s_[done : done + len(band), left : left + chunk[1]]
                array[place] = band[:, left : left + chunk[1]]
        done += len(band)

    def put(strip):
        held = sum(map(len, rows))
        seen = done + held + len(strip)
        if strip.dtype != dtype or strip.shape[1:] != shape[1:] or seen > shape[0]:
            raise InputError(
                f"{path}: strip is {strip.dtype} {strip.shape}, {seen} rows in all; "
                f"expected {np.dtype(dtype)} {shape}"
            )
        while held + len(strip) >= chunk[0]:
            need = chunk[0] - held
            store(np.concatenate([*rows, strip[:need]]))
            rows.clear()
            held, strip = 0, strip[need:]
        # A copy, so that what it is a part of can be freed.
        rows.append(strip.copy())

    try:
        with _writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            # What a killed process left.
            shutil.rmtree(scratch, ignore_errors=True)
            array = zarr.create_array(
                store=scratch,
                shape=shape,
                dtype=dtype,
                chunks=tuple(min(a, b) for a, b in zip(chunk, shape, strict=True)),
                compressors=ZstdCodec(level=1, checksum=True),
                fill_value=VOID if label else np.nan,
                dimension_names=("y", "x", "class")[: len(shape)],
                attributes={
                    "class_names": list(table.names),
                    "class_colors": [list(color) for color in table.colors],
                    "void": VOID,
                },
            )
        yield put
        if any(map(len, rows)):
            store(np.concatenate(rows))
        if done != shape[0]:
            raise InputError(f"{path}: strips have {done} rows; expected {shape[0]}")
        with _writing(path):
            _flush(scratch)
            _move(scratch, path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def open_prediction(path: Path) -> Prediction:
    """Opens what `write_rows` wrote.

    Raises:
      InputError: not an array, or one without the names and colours of its classes.
    """
    array = _open(path)
    try:
        names = tuple(array.attrs["class_names"])
        colors = tuple(map(tuple, array.attrs["class_colors"]))
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{path}: lacks class_names or class_colors among its attributes; expected "
            "a label or probabilities written by segjax"
        ) from error
    return Prediction(array, names, colors)


def _open(path):
    with _reading(path):
        return zarr.open_array(path, mode="r")


@contextlib.contextmanager
def _reading(path):
    # Zarr's and its codecs' errors have no common base.
    try:
        yield
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: not a readable Zarr array: {reason}") from error


@contextlib.contextmanager
def _writing(path):
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{path} cannot be written: {error.strerror or error}"
        ) from error


def _flush(folder):
    """Files to the disk; a full one may show only now."""
    for parent, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(parent, name), "rb") as file:
                os.fsync(file.fileno())


def _move(scratch, path):
    """A folder takes no other's place: the one before steps aside."""
    before = path.with_name(path.name + ".old.tmp")
    if path.exists():
        shutil.rmtree(before, ignore_errors=True)
        path.replace(before)
    scratch.replace(path)
    shutil.rmtree(before, ignore_errors=True)
