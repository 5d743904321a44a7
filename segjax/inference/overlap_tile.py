"""Overlap-tile prediction: an image of any size through a network of one size."""

from collections.abc import Callable

import chex
import numpy as np

from segjax.errors import InputError


def predict_tiles(
    image: np.ndarray,
    predict: Callable[[np.ndarray], np.ndarray],
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
    of a row and a column use more). With `align` 1 tiles are as large as can be, as
    in the paper, and the poolings' windows differ from tile to tile.

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
      InputError: the margin leaves no tile of at least `align` pixels, or the scores
        do not have the size that they should.
    """
    chex.assert_rank(image, 3)
    chex.assert_type(image, np.uint8)
    if margin < 0 or align < 1 or batch_size < 1:
        raise InputError(
            f"margin {margin}, align {align}, batch_size {batch_size}: expected "
            "margin >= 0, align >= 1 and batch_size >= 1"
        )
    tile_size = tuple(side - 2 * margin for side in input_size)
    if min(tile_size) < align:
        raise InputError(
            f"input_size {_text(input_size)} with a margin of {margin} leaves tiles "
            f"of {_text(tile_size)} pixels, expected at least {_text((align, align))}"
        )
    size = image.shape[:2]
    starts = [
        _starts(side, tile, align) for side, tile in zip(size, tile_size, strict=True)
    ]
    past = [
        max(0, axis[-1] + tile - side)
        for axis, tile, side in zip(starts, tile_size, size, strict=True)
    ]
    mirrored = np.pad(
        image, [*((margin, margin + n) for n in past), (0, 0)], mode="symmetric"
    )
    corners = [(top, left) for top in starts[0] for left in starts[1]]
    inputs = np.zeros((batch_size, *input_size, image.shape[2]), np.uint8)
    scores = None
    for first in range(0, len(corners), batch_size):
        batch = corners[first : first + batch_size]
        for row, (top, left) in enumerate(batch):
            inputs[row] = mirrored[
                top : top + input_size[0], left : left + input_size[1]
            ]
        inputs[len(batch) :] = 0
        # A copy: `predict` may still read its input when the next one is written.
        tiles = _middle(np.asarray(predict(inputs.copy())), input_size, tile_size)
        if scores is None:
            scores = np.empty((*size, tiles.shape[-1]), tiles.dtype)
        for tile, corner in zip(tiles, batch, strict=False):
            rows, columns = (
                # Up to where the next tile starts, or to the image's end.
                slice(start, next((s for s in axis if s > start), side))
                for start, axis, side in zip(corner, starts, size, strict=True)
            )
            scores[rows, columns] = tile[
                : rows.stop - rows.start, : columns.stop - columns.start
            ]
    return scores


def _starts(side, tile, align):
    """First pixels of the tiles along one axis; the last reaches the image's end."""
    step = tile // align * align
    return [step * i for i in range(1 + -(-max(0, side - tile) // step))]


def _middle(scores, input_size, tile_size):
    """The scores of the tile out of those of the input's middle."""
    around = [a - b for a, b in zip(scores.shape[1:3], tile_size, strict=True)]
    lost = [a - b for a, b in zip(input_size, scores.shape[1:3], strict=True)]
    if len({*around}) > 1 or min(around) < 0 or around[0] % 2 or min(lost) < 0:
        raise InputError(
            f"scores have {_text(scores.shape[1:3])} pixels, expected those of the "
            f"middle of {_text(input_size)}, at least {_text(tile_size)}"
        )
    before = around[0] // 2
    return scores[:, before : before + tile_size[0], before : before + tile_size[1]]


def _text(size):
    return f"{size[0]}x{size[1]}"
