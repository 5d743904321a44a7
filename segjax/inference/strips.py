"""Prediction of images that do not fit into memory, strip by strip.

A strip of the image is read, cut into overlapping windows, predicted, blended and
reduced to labels, which are written before the next strip is read. Host memory
depends on the width of the image and the height of a window, not on the height of the
image: about `width * window height * (3 + 8 * num_classes * overlap)` bytes, plus a
few batches of windows.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from segjax.data.labels import VOID, LabelTable
from segjax.errors import InputError
from segjax.inference.row_files import check_label_path, open_rows, write_label_rows
from segjax.inference.windows import Blend, Predict, ReadRows, blended_blocks


def label_strips(
    read_rows: ReadRows,
    predict: Predict,
    *,
    size: tuple[int, int],
    input_size: tuple[int, int],
    margin: int = 0,
    overlap: float = 0.5,
    blend: Blend = "gaussian",
    batch_size: int = 1,
) -> Iterator[np.ndarray]:
    """Predicts the label of an image that is read and returned in strips.

    Equal, bit for bit, to the arg max of `windows.predict_windows`.

    Args:
      read_rows: gives rows `start` up to `stop` of the image, uint8 `[n w 3]`; called
        with rows that follow one another.
      predict: as all other options, see `windows.predict_windows`.
      size: height and width of the image.
      input_size: height and width of the network's input in pixels.
      margin: pixels that the network loses on every side.
      overlap: least share of a window in common with the next one.
      blend: the weight.
      batch_size: inputs in one call of `predict`.

    Yields:
      Labels uint8 `[rows w]`, from top to bottom, `size[0]` rows in all.

    Raises:
      InputError: as `windows.predict_windows`; more classes than a label can name.
    """
    strip = None
    blocks = blended_blocks(
        read_rows,
        predict,
        size=size,
        input_size=input_size,
        margin=margin,
        overlap=overlap,
        blend=blend,
        batch_size=batch_size,
    )
    for block in blocks:
        rows, columns, num_classes = block.scores.shape
        if num_classes > VOID:
            raise InputError(
                f"scores of {num_classes} classes; a label holds at most {VOID}"
            )
        if block.left == 0:
            strip = np.empty((rows, size[1]), np.uint8)
        right = block.left + columns
        strip[:, block.left : right] = np.argmax(block.scores, axis=-1)
        if right == size[1]:
            yield strip


def predict_file(
    source: Path,
    target: Path,
    predict: Predict,
    *,
    table: LabelTable,
    input_size: tuple[int, int],
    margin: int = 0,
    overlap: float = 0.5,
    blend: Blend = "gaussian",
    batch_size: int = 1,
    progress: Callable[[int, int], None] = lambda done, rows: None,
) -> None:
    """Predicts an image file of any size into an indexed label file.

    Args:
      source: the image, see `row_files.open_rows`.
      target: of the label, see `row_files.write_label_rows`: `.png`, `.tif` or `.npy`.
        Written whole or not at all.
      predict: as all other options, see `windows.predict_windows`.
      table: class colours, the palette of the label file.
      input_size: height and width of the network's input in pixels.
      margin: pixels that the network loses on every side.
      overlap: least share of a window in common with the next one.
      blend: the weight.
      batch_size: inputs in one call of `predict`.
      progress: called with the rows done and the rows in all after each strip.

    Raises:
      InputError: the image cannot be read, or the label cannot be written, or as
        `windows.predict_windows`.
    """
    check_label_path(target)
    with open_rows(source) as image:
        strips = label_strips(
            image.read,
            predict,
            size=image.size,
            input_size=input_size,
            margin=margin,
            overlap=overlap,
            blend=blend,
            batch_size=batch_size,
        )
        write_label_rows(
            target,
            _counted(strips, image.size[0], progress),
            size=image.size,
            table=table,
        )


def _counted(strips, rows, progress):
    done = 0
    for strip in strips:
        yield strip
        done += len(strip)
        progress(done, rows)
