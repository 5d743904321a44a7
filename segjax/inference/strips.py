"""Prediction of images that do not fit into memory, strip by strip.

A strip of the image is read, cut into windows or tiles, predicted, blended and reduced
to labels, which are written before the next strip is read. Host memory depends on the
width of the image and the height of a window, not on the height of the image: about
`width * window height * (12 + 8 * num_classes * overlap)` bytes, plus a few batches of
windows, plus `3 * width * window height * num_classes` if probabilities are written.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from segjax.data.labels import VOID, LabelTable
from segjax.errors import InputError
from segjax.inference import zarr_files
from segjax.inference.members import Views
from segjax.inference.overlap_tile import exact_tiles, tile_blocks
from segjax.inference.predictor import Predictor
from segjax.inference.row_files import check_label_path, open_rows, write_label_rows
from segjax.inference.windows import Block, blended_blocks


def label_strips(
    blocks: Iterable[Block],
    *,
    size: tuple[int, int],
    keep: Callable[[np.ndarray], None] | None = None,
) -> Iterator[np.ndarray]:
    """Reduces the scores of an image to labels, a row of blocks at a time.

    Equal, bit for bit, to the arg max of the blocks put together
    (`windows.predict_windows`, `overlap_tile.predict_tiles`).

    Args:
      blocks: of `windows.blended_blocks` or `overlap_tile.tile_blocks`.
      size: height and width of the image.
      keep: is given the scores of each strip, float16 `[rows w k]`, before its label.

    Yields:
      Labels uint8 `[rows w]`, from top to bottom, `size[0]` rows in all.

    Raises:
      InputError: more classes than a label can name.
    """
    strip = kept = None
    for _, left, scores in blocks:
        rows, columns, num_classes = scores.shape
        if num_classes > VOID:
            raise InputError(
                f"scores of {num_classes} classes; a label holds at most {VOID}"
            )
        if left == 0:
            strip = np.empty((rows, size[1]), np.uint8)
            if keep is not None:
                kept = np.empty((rows, size[1], num_classes), np.float16)
        right = left + columns
        strip[:, left:right] = np.argmax(scores, axis=-1)
        if keep is not None:
            kept[:, left:right] = scores
        if right == size[1]:
            if keep is not None:
                keep(kept)
            # Freed before the next one is made.
            kept = None
            yield strip


def predict_file(
    source: Path,
    target: Path,
    blocks: Callable[..., Iterator[Block]],
    *,
    table: LabelTable,
    probabilities: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, rows: None,
) -> None:
    """Predicts an image file of any size into an indexed label file.

    Args:
      source: the image, see `row_files.open_rows`.
      target: of the label, see `row_files.write_label_rows`: `.png`, `.tif`, `.npy` or
        `.zarr`. Written whole or not at all.
      blocks: called as `blocks(read_rows, size=(height, width))`:
        `network_blocks(...)`, or `partial` of `windows.blended_blocks` or
        `overlap_tile.tile_blocks` with everything but these two.
      table: class names and colours.
      probabilities: `.zarr` that the scores are written to, too, float16 `[h w k]`,
        see `zarr_files.write_rows`; finished before the label. None does not.
      progress: called with the rows done and the rows in all after each strip.

    Raises:
      InputError: the image cannot be read, the label cannot be written or would
        replace the image, or as `blocks`.
    """
    check_label_path(target)
    if target.exists() and source.exists() and target.samefile(source):
        raise InputError(f"{source}: its label would replace it; give another name")
    if probabilities is not None:
        zarr_files.check_target(probabilities)
    with open_rows(source) as image:
        strips = _strips(
            blocks(image.read, size=image.size), image.size, table, probabilities
        )
        # Closed at once after a failure, which removes unfinished probabilities.
        with contextlib.closing(strips):
            write_label_rows(
                target,
                _counted(strips, image.size[0], progress),
                size=image.size,
                table=table,
            )


def network_blocks(
    predictor: Predictor, views: Views, *, batch_size: int = 1
) -> Callable[..., Iterator[Block]]:
    """What `predict_file` wants: a network's probabilities by windows or by tiles.

    Args:
      predictor: the network.
      views: with `window`, blended by `overlap` and `blend`, or with `tile` and
        `context`. Tiles start where the poolings of the whole image start a window, so
        that a network with valid padding gives what it gives for the whole image.
      batch_size: inputs that the network sees at once.

    Raises:
      InputError: neither a window nor a tile; scales or a mirror image, which need the
        whole image.
    """
    if views.window is None and views.tile is None:
        raise InputError("strips need the size of a window or of a tile")
    if views.scales != (1.0,) or views.flip:
        raise InputError("strips cannot be averaged over scales or mirror images")
    if views.tile is not None:
        options = exact_tiles(
            predictor.input_size,
            predictor.margin,
            tile=views.tile,
            context=views.context,
        )
        return partial(
            tile_blocks, predict=predictor.tile, batch_size=batch_size, **options
        )
    return partial(
        blended_blocks,
        predict=predictor.tile,
        input_size=predictor.input_size(views.window),
        margin=predictor.margin,
        overlap=views.overlap,
        blend=views.blend,
        batch_size=batch_size,
    )


def _strips(blocks, size, table, probabilities):
    if probabilities is None:
        yield from label_strips(blocks, size=size)
        return
    shape = (*size, table.num_classes)
    with zarr_files.write_rows(
        probabilities, shape=shape, dtype=np.float16, table=table
    ) as keep:
        yield from label_strips(blocks, size=size, keep=keep)


def _counted(strips, rows, progress):
    done = 0
    for strip in strips:
        yield strip
        done += len(strip)
        progress(done, rows)
