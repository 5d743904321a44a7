"""Sliding-window prediction: overlapping windows, blended by a smooth weight.

An image of any size goes through a network of one input size. The blended scores
leave as blocks, in reading order, as soon as no later window reaches them, so that
the same code serves images in memory (`predict_windows`) and images that do not fit
there (`segjax.inference.strips`).
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

import chex
import numpy as np

from segjax.errors import InputError

Blend = Literal["gaussian", "cosine", "uniform"]
Predict = Callable[[np.ndarray], np.ndarray]
ReadRows = Callable[[int, int], np.ndarray]


class Block(NamedTuple):
    """Finished scores of a part of the image.

    Attributes:
      top: first row.
      left: first column.
      scores: float32 `[rows columns k]`.
    """

    top: int
    left: int
    scores: np.ndarray


def predict_windows(
    image: np.ndarray,
    predict: Predict,
    *,
    input_size: tuple[int, int],
    margin: int = 0,
    overlap: float = 0.5,
    blend: Blend = "gaussian",
    batch_size: int = 1,
) -> np.ndarray:
    """Predicts an image by overlapping windows.

    The score of a pixel is `sum(weight * score) / sum(weight)` over the windows that
    hold it, taken in float64. A window's weights are the products of
    `blend_weights` of its rows and of its columns.

    Args:
      image: uint8 `[h w c]`, any size. One smaller than a window is continued by its
        mirror image (edge pixels are repeated, as everywhere in segjax).
      predict: maps inputs uint8 `[n *input_size c]` to scores `[n H W k]` of their
        windows. A window is the input, less `margin` on every side. It is always
        called with `n = batch_size`, so it is compiled once; a last batch is filled
        with zeros.
      input_size: height and width of the network's input in pixels.
      margin: pixels that the network loses on every side; 0 for all networks but those
        with valid padding. Past the image's edge they are filled by its mirror image.
      overlap: least share of a window that it has in common with the next one, along
        each axis, in `[0, 1)`. Windows are spread evenly over the image.
      blend: the weight, see `blend_weights`.
      batch_size: inputs in one call of `predict`.

    Returns:
      Scores float32 `[h w k]`.

    Raises:
      InputError: an option out of range, or scores that do not have the window's size.
    """
    chex.assert_rank(image, 3)
    chex.assert_type(image, np.uint8)
    size = image.shape[:2]
    blocks = blended_blocks(
        lambda start, stop: image[start:stop],
        predict,
        size=size,
        input_size=input_size,
        margin=margin,
        overlap=overlap,
        blend=blend,
        batch_size=batch_size,
    )
    return join_blocks(blocks, size=size)


def join_blocks(blocks: Iterator[Block], *, size: tuple[int, int]) -> np.ndarray:
    """Puts blocks together that cover an image: scores `[*size k]`."""
    scores = None
    for top, left, block in blocks:
        if scores is None:
            scores = np.empty((*size, block.shape[-1]), block.dtype)
        scores[top : top + block.shape[0], left : left + block.shape[1]] = block
    return scores


def blended_blocks(
    read_rows: ReadRows,
    predict: Predict,
    *,
    size: tuple[int, int],
    input_size: tuple[int, int],
    margin: int = 0,
    overlap: float = 0.5,
    blend: Blend = "gaussian",
    batch_size: int = 1,
) -> Iterator[Block]:
    """Predicts an image that is read row by row; see `predict_windows`.

    Holds `window height x image width` pixels of the image, and scores (float64) of
    the rows that two rows of windows share, for the whole width. Nothing else grows
    with the image.

    Args:
      read_rows: gives rows `start` up to `stop` of the image, uint8 `[n w c]`. It is
        called with rows that follow one another and never asked twice for a row.
      predict: as in `predict_windows`. The next batch is handed to it before the
        scores of the last one are looked at, so a device need not wait.
      size: height and width of the image.
      input_size: as in `predict_windows`, and so are the other options.
      margin: pixels that the network loses on every side.
      overlap: least share of a window in common with the next one.
      blend: the weight.
      batch_size: inputs in one call of `predict`.

    Yields:
      Blocks in reading order; together they cover every pixel exactly once.

    Raises:
      InputError: as `predict_windows`.
    """
    if min(size) < 1:
        raise InputError(f"image has {text(size)} pixels; expected at least 1x1")
    if margin < 0 or batch_size < 1:
        raise InputError(
            f"margin {margin}, batch_size {batch_size}: expected margin >= 0 and "
            "batch_size >= 1"
        )
    window = (input_size[0] - 2 * margin, input_size[1] - 2 * margin)
    if min(window) < 1:
        raise InputError(
            f"input_size {text(input_size)} with a margin of {margin} leaves windows "
            f"of {text(window)} pixels, expected at least 1x1"
        )
    starts = tuple(
        window_starts(side, length, overlap=overlap)
        for side, length in zip(size, window, strict=True)
    )
    inputs = cut_inputs(
        read_rows, size=size, input_size=input_size, margin=margin, starts=starts
    )
    scores = predict_batches(inputs, predict, batch_size=batch_size)
    return _blend(_of_size(scores, window), size, window, starts, blend)


def blend_weights(length: int, *, blend: Blend) -> np.ndarray:
    """Weights of the pixels of a window along one axis, all positive.

    With `t` the pixel's centre, from 0 to 1 across the window:

    - `gaussian`: `exp(-((t - 1/2) / (1/8))^2 / 2)`, a standard deviation of an eighth
      of the window as in the code of nnU-Net (arXiv:1809.10486). At a window's edge it
      is about 3e-4.
    - `cosine`: `sin(pi * t)^2`, the Hann window; at an overlap of one half, neighbours
      add up to 1.
    - `uniform`: 1, the plain mean of the windows.

    Args:
      length: pixels of the window.
      blend: which weight.

    Returns:
      float64 `[length]`.

    Raises:
      InputError: no such weight, or `length` is not positive.
    """
    if length < 1:
        raise InputError(f"a window of {length} pixels; expected at least 1")
    centre = (np.arange(length) + 0.5) / length
    if blend == "gaussian":
        return np.exp(-0.5 * ((centre - 0.5) * 8) ** 2)
    if blend == "cosine":
        return np.sin(np.pi * centre) ** 2
    if blend == "uniform":
        return np.ones(length)
    raise InputError(f"blend {blend!r}: expected gaussian, cosine or uniform")


def window_starts(side: int, window: int, *, overlap: float) -> list[int]:
    """First pixels of the windows along one axis, spread evenly.

    The first window starts at 0, the last ends at `side` (or later, if the image is
    smaller than a window). The next one starts after at most `(1 - overlap) * window`
    pixels, rounded, and at least one.

    Args:
      side: pixels of the image.
      window: pixels of a window.
      overlap: least share of a window in common with the next one.

    Raises:
      InputError: `overlap` is not in `[0, 1)`.
    """
    if not 0 <= overlap < 1:
        raise InputError(f"overlap {overlap}: expected a share in [0, 1)")
    step = max(1, round(window * (1 - overlap)))
    room = max(0, side - window)
    gaps = -(-room // step)
    return [room * i // max(1, gaps) for i in range(gaps + 1)]


def cut_inputs(
    read_rows: ReadRows,
    *,
    size: tuple[int, int],
    input_size: tuple[int, int],
    margin: int,
    starts: tuple[list[int], list[int]],
) -> Iterator[np.ndarray]:
    """Cuts a network's inputs out of an image that is read row by row.

    Args:
      read_rows: as in `blended_blocks`.
      size: height and width of the image.
      input_size: height and width of an input.
      margin: pixels of an input around its window. Past the image's edges all inputs
        are filled by its mirror image.
      starts: first rows and first columns of the windows, in rising order; each
        begins before the one before it has ended, or where it ends.

    Yields:
      Inputs uint8 `[*input_size c]`, in reading order.
    """
    # Which row (column) of the image each row of its mirrored continuation is.
    rows, columns = (
        np.pad(
            np.arange(side),
            (margin, max(margin, axis[-1] + length - margin - side)),
            mode="symmetric",
        )
        for side, axis, length in zip(size, starts, input_size, strict=True)
    )
    held, first = None, 0
    for top in starts[0]:
        wanted = rows[top : top + input_size[0]]
        # No later window looks above the first row of this one.
        lowest, stop = int(wanted.min()), int(wanted.max()) + 1
        last = 0 if held is None else first + len(held)
        parts = [] if held is None else [held[lowest - first :]]
        if stop > last:
            parts.append(read_rows(last, stop))
        held, first = np.concatenate(parts), lowest
        # Freed before the strip is made, which is as large.
        del parts
        strip = held[wanted - first]
        for left in starts[1]:
            yield strip[:, columns[left : left + input_size[1]]]


def predict_batches(
    inputs: Iterator[np.ndarray], predict: Predict, *, batch_size: int
) -> Iterator[np.ndarray]:
    """Predicts inputs batch by batch and gives their scores one by one.

    The next batch is handed to `predict` before the scores of the last one are looked
    at. A last batch is filled with zeros.

    Args:
      inputs: uint8 `[h w c]`, all of one size, at least one.
      predict: maps `[batch_size h w c]` to scores `[batch_size h' w' k]`.
      batch_size: inputs in one call.

    Yields:
      Scores `[h' w' k]`.

    Raises:
      InputError: scores of another rank, or of fewer inputs.
    """
    inputs, running = iter(inputs), None
    while chunk := list(itertools.islice(inputs, batch_size)):
        batch = np.zeros((batch_size, *chunk[0].shape), np.uint8)
        for row, pixels in enumerate(chunk):
            batch[row] = pixels
        started = predict(batch), len(chunk)
        if running is not None:
            yield from _first(*running)
        running = started
    yield from _first(*running)


def _first(scores, count):
    scores = np.asarray(scores)
    if scores.ndim != 4 or len(scores) < count:
        raise InputError(
            f"scores have shape {scores.shape}, expected [n h w k] of {count} inputs"
        )
    return scores[:count]


def _of_size(scores, window):
    for one in scores:
        if one.shape[:2] != window:
            raise InputError(
                f"scores have {text(one.shape[:2])} pixels, expected those of a "
                f"window, {text(window)}"
            )
        yield one


def _blend(
    scores: Iterator[np.ndarray],
    size: tuple[int, int],
    window: tuple[int, int],
    starts: Sequence[list[int]],
    blend: Blend,
) -> Iterator[Block]:
    """Adds up weighted windows and gives each block when its last window is in.

    Two sums are kept: `recent`, one window in size, which moves along with the windows
    of a row of windows, and `below`, rows that the next row of windows adds to, for
    the whole width.
    """
    weights = [blend_weights(length, blend=blend) for length in window]
    # Windows stand on a grid and weights are products: so is the sum of the weights.
    totals = [
        _total_weight(weight, axis)
        for weight, axis in zip(weights, starts, strict=True)
    ]
    (height, width), (tops, lefts) = window, starts
    ends = [[*axis[1:], len(total)] for axis, total in zip(starts, totals, strict=True)]
    recent = None
    for top, bottom in zip(tops, ends[0], strict=True):
        for left, right in zip(lefts, ends[1], strict=True):
            one = next(scores)
            if recent is None:
                k = one.shape[-1]
                weight = np.empty((height, width, k))
                weight[:] = (weights[0][:, None] * weights[1])[..., None]
                recent, share = np.zeros_like(weight), np.empty_like(weight)
                shared = max(
                    (height - b + a for a, b in itertools.pairwise(tops)), default=0
                )
                below, kept_before = np.zeros((shared, len(totals[1]), k)), 0
            recent += np.multiply(one, weight, out=share)
            done = recent[:, : right - left]
            done[:kept_before] += below[:kept_before, left:right]
            kept = height - (bottom - top)
            below[:kept, left:right] = done[bottom - top :]
            total = totals[0][top:bottom, None] * totals[1][left:right]
            # Less what lies beyond an image that is smaller than a window.
            rows, columns = min(bottom, size[0]) - top, min(right, size[1]) - left
            part = done[:rows, :columns] / total[:rows, :columns, None]
            yield Block(top, left, part.astype(np.float32))
            recent[:, : left + width - right] = recent[:, right - left :]
            recent[:, left + width - right :] = 0
        kept_before = kept


def _total_weight(weight, starts):
    total = np.zeros(starts[-1] + len(weight))
    for start in starts:
        total[start : start + len(weight)] += weight
    return total


def text(size: tuple[int, int]) -> str:
    """`HEIGHTxWIDTH`, for messages."""
    return f"{size[0]}x{size[1]}"
