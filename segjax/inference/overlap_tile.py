"""Overlap-tile prediction: an image of any size through a network of one size.

As in `segjax.inference.windows`, scores leave as blocks, so that the same code serves
images in memory (`predict_tiles`) and larger ones (`segjax.inference.strips`).
"""

from collections.abc import Callable, Iterator
from typing import TypedDict

import chex
import numpy as np

from segjax.errors import InputError
from segjax.inference.windows import (
    Block,
    Predict,
    ReadRows,
    cut_inputs,
    join_blocks,
    predict_batches,
    text,
)


class TileOptions(TypedDict):
    """Options of `predict_tiles` and `tile_blocks` that belong together."""

    input_size: tuple[int, int]
    margin: int
    align: int


def exact_tiles(
    network_input_size: Callable[[tuple[int, int]], tuple[int, int]],
    network_margin: int,
    *,
    tile: tuple[int, int],
    context: int | None = None,
) -> TileOptions:
    """Options with which tiles give what a valid network gives for the whole image.

    Args:
      network_input_size: the network's, `Segmenter.input_size` or
        `Predictor.input_size`: height and width to those of the smallest input whose
        scores cover them.
      network_margin: pixels that the network loses on every side.
      tile: least height and width of a tile.
      context: least number of pixels around a tile that the network sees; None is its
        margin, which is all that a valid network looks at.

    Returns:
      The input's size; the context, raised to where the poolings fall as they do
      without it; and the step from one size that the network takes to the next, at
      whose multiples the whole image's poolings start a window.

    Raises:
      InputError: the context is smaller than the margin.
    """
    context = network_margin if context is None else context
    if context < network_margin:
        raise InputError(
            f"context {context}: the network needs {network_margin} pixels around a tile"
        )
    smallest = network_input_size((1, 1))
    next_size = network_input_size(
        tuple(side - 2 * network_margin + 1 for side in smallest)
    )
    align = max(b - a for a, b in zip(smallest, next_size, strict=True))
    more = -(-(context - network_margin) // align) * align
    # A tile that starts at multiples of `align` needs that many pixels.
    wanted = tuple(max(align, side) + 2 * more for side in tile)
    return TileOptions(
        input_size=network_input_size(wanted),
        margin=network_margin + more,
        align=align,
    )


def predict_tiles(
    image: np.ndarray,
    predict: Predict,
    *,
    input_size: tuple[int, int],
    margin: int,
    align: int = 1,
    batch_size: int = 1,
) -> np.ndarray:
    """Predicts an image tile by tile; every pixel comes from exactly one tile.

    A tile is the middle of the network's input: the input less `margin` on every side.
    Tiles cover the image without overlap, inputs overlap by `2 * margin`, and where an
    input reaches past the image, the image is continued by its mirror image (edge
    pixels are repeated, as everywhere in segjax).

    Source: U-Net (arXiv 1505.04597), figure 2: `input_size` (572, 572), `margin` 92,
    so tiles of 388x388 pixels.

    With a `margin` that covers the receptive field, the result is what the network
    would give for the whole mirrored image at once, provided that tiles start where
    the poolings of the whole image start a window: at multiples of `align` = the
    deepest stride (16 for U-Net, which makes tiles of 384 pixels; only the last ones
    of a row and a column use more); `exact_tiles` says which options these are. With
    `align` 1 tiles are as large as can be, as in the paper, and the poolings' windows
    differ from tile to tile.

    Args:
      image: uint8 `[h w c]`, any size.
      predict: maps inputs uint8 `[n *input_size c]` to scores `[n h' w' k]` of their
        middle: `input_size` less the same number of pixels, at most `margin`, on
        every side. The scores beyond the tile are dropped. It is always called with
        `n = batch_size`, so it is compiled once; a last batch is filled with zeros.
      input_size: height and width of the network's input in pixels.
      margin: pixels around a tile that give it context.
      align: tiles start at multiples of it.
      batch_size: inputs in one call of `predict`.

    Returns:
      Scores `[h w k]` in the type of `predict`'s.

    Raises:
      InputError: the image has no pixel, the margin leaves no tile of at least
        `align` pixels, or the scores do not have the size that they should.
    """
    chex.assert_rank(image, 3)
    chex.assert_type(image, np.uint8)
    size = image.shape[:2]
    blocks = tile_blocks(
        lambda start, stop: image[start:stop],
        predict,
        size=size,
        input_size=input_size,
        margin=margin,
        align=align,
        batch_size=batch_size,
    )
    return join_blocks(blocks, size=size)


def tile_blocks(
    read_rows: ReadRows,
    predict: Predict,
    *,
    size: tuple[int, int],
    input_size: tuple[int, int],
    margin: int,
    align: int = 1,
    batch_size: int = 1,
) -> Iterator[Block]:
    """Predicts an image that is read row by row; see `predict_tiles`.

    Holds `input height x image width` pixels of the image and a few batches of tiles.
    Nothing else grows with the image.

    Args:
      read_rows: gives rows `start` up to `stop` of the image, uint8 `[n w c]`. It is
        called with rows that follow one another and never asked twice for a row.
      predict: as in `predict_tiles`. The next batch is handed to it before the scores
        of the last one are looked at, so a device need not wait.
      size: height and width of the image.
      input_size: as in `predict_tiles`, and so are the other options.
      margin: pixels around a tile that give it context.
      align: tiles start at multiples of it.
      batch_size: inputs in one call of `predict`.

    Yields:
      One block for each tile, in reading order; together they cover every pixel
      exactly once.

    Raises:
      InputError: as `predict_tiles`.
    """
    if min(size) < 1:
        raise InputError(f"image has {text(size)} pixels; expected at least 1x1")
    if margin < 0 or align < 1 or batch_size < 1:
        raise InputError(
            f"margin {margin}, align {align}, batch_size {batch_size}: expected "
            "margin >= 0, align >= 1 and batch_size >= 1"
        )
    tile = (input_size[0] - 2 * margin, input_size[1] - 2 * margin)
    if min(tile) < align:
        raise InputError(
            f"input_size {text(input_size)} with a margin of {margin} leaves tiles "
            f"of {text(tile)} pixels, expected at least {text((align, align))}"
        )
    starts = tuple(
        _starts(side, length, align) for side, length in zip(size, tile, strict=True)
    )
    inputs = cut_inputs(
        read_rows, size=size, input_size=input_size, margin=margin, starts=starts
    )
    scores = predict_batches(inputs, predict, batch_size=batch_size)
    return _tiles(scores, size, input_size, tile, starts)


def _starts(side, tile, align):
    """First pixels of the tiles along one axis; the last reaches the image's end."""
    step = tile // align * align
    return [step * i for i in range(1 + -(-max(0, side - tile) // step))]


def _tiles(scores, size, input_size, tile, starts):
    # A tile counts up to where the next one starts, or to the image's end.
    (tops, lefts), (height, width) = starts, size
    for top, bottom in zip(tops, [*tops[1:], height], strict=True):
        for left, right in zip(lefts, [*lefts[1:], width], strict=True):
            one = _middle(next(scores), input_size, tile)
            yield Block(top, left, one[: bottom - top, : right - left])


def _middle(scores, input_size, tile):
    """The scores of the tile out of those of the input's middle."""
    around = [a - b for a, b in zip(scores.shape[:2], tile, strict=True)]
    lost = [a - b for a, b in zip(input_size, scores.shape[:2], strict=True)]
    if len({*around}) > 1 or min(around) < 0 or around[0] % 2 or min(lost) < 0:
        raise InputError(
            f"scores have {text(scores.shape[:2])} pixels, expected those of the "
            f"middle of {text(input_size)}, at least {text(tile)}"
        )
    before = around[0] // 2
    return scores[before : before + tile[0], before : before + tile[1]]
