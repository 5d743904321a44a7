"""Test-time augmentation: the mean over scales and mirror images of one picture."""

from collections.abc import Callable, Sequence
from typing import Literal

import chex
import numpy as np
from PIL import Image

from segjax.errors import InputError

Average = Literal["probabilities", "logits"]


def predict_augmented(
    image: np.ndarray,
    predict_image: Callable[[np.ndarray], np.ndarray],
    *,
    scales: Sequence[float] = (1.0,),
    horizontal_flip: bool = False,
    vertical_flip: bool = False,
    average: Average = "probabilities",
) -> np.ndarray:
    """Averages the predictions of an image at several scales, as is and mirrored.

    Every view counts the same: there are `len(scales)` of them, times two for each
    flip. A view is the image resized to `round(scale * side)` pixels (bilinear, with
    smoothing where it shrinks), then mirrored. Its probabilities are mirrored back and
    resized to the image (bilinear, in float64, pixel centres at `i + 1/2`, as
    `ops.resampling.resize_bilinear`); a label is never resized.

    By default probabilities are averaged, so that one overconfident view cannot
    outvote the others, and what comes out is a distribution that fits entropy and
    calibration. With `average="logits"` the views' log-probabilities are averaged and
    normalised again by a softmax: at scale 1 what averaged logits give.

    Args:
      image: uint8 `[h w 3]`.
      predict_image: maps an image uint8 `[h' w' 3]` of any size to probabilities
        `[h' w' k]`, by whatever means: whole, by windows or by tiles.
      scales: of the views, positive.
      horizontal_flip: whether to add the views with left and right exchanged.
      vertical_flip: whether to add the views with top and bottom exchanged.
      average: what is averaged.

    Returns:
      Probabilities float32 `[h w k]`.

    Raises:
      InputError: no scale, one that is not positive or leaves no pixel, an unknown
        average, or probabilities of another size than the view.
    """
    chex.assert_shape(image, (None, None, 3))
    chex.assert_type(image, np.uint8)
    if not scales or not all(0 < scale < np.inf for scale in scales):
        raise InputError(f"scales {tuple(scales)}: expected positive numbers")
    if average not in ("probabilities", "logits"):
        raise InputError(f"average {average!r}: expected probabilities or logits")
    size = image.shape[:2]
    flips = [
        (*rows, *columns)
        for rows in ([(), (0,)] if vertical_flip else [()])
        for columns in ([(), (1,)] if horizontal_flip else [()])
    ]
    total, count = 0.0, 0
    for scale in scales:
        scaled = _resize_image(image, scale)
        for axes in flips:
            view = np.ascontiguousarray(np.flip(scaled, axes))
            scores = np.asarray(predict_image(view))
            if scores.ndim != 3 or scores.shape[:2] != view.shape[:2]:
                raise InputError(
                    f"probabilities have shape {scores.shape}, expected [h w k] with "
                    f"{view.shape[0]}x{view.shape[1]} pixels"
                )
            scores = resize_scores(np.flip(scores, axes), size)
            total = total + (_log(scores) if average == "logits" else scores)
            count += 1
    mean = total / count
    return (_softmax(mean) if average == "logits" else mean).astype(np.float32)


def resize_scores(scores: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes scores by bilinear interpolation, without smoothing when they shrink.

    The host's twin of `ops.resampling.resize_bilinear` with `align_corners=False`.

    Args:
      scores: floating point `[h w k]`.
      size: height and width of the result.

    Returns:
      float64 `[*size k]`.
    """
    chex.assert_rank(scores, 3)
    scores = scores.astype(np.float64)
    for axis, target in enumerate(size):
        source = scores.shape[axis]
        if source == target:
            continue
        position = (np.arange(target) + 0.5) * (source / target) - 0.5
        position = np.clip(position, 0, source - 1)
        before = np.floor(position).astype(np.int64)
        after = np.minimum(before + 1, source - 1)
        share = (position - before).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        first, second = scores.take(before, axis), scores.take(after, axis)
        scores = first * (1 - share) + second * share
    return scores


def _resize_image(image, scale):
    height, width = (round(scale * side) for side in image.shape[:2])
    if min(height, width) < 1:
        raise InputError(
            f"scale {scale} leaves {height}x{width} pixels of an image of "
            f"{image.shape[0]}x{image.shape[1]}; expected at least 1x1"
        )
    if (height, width) == image.shape[:2]:
        return image
    resample = Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(image).resize((width, height), resample))


def _log(probabilities):
    # A probability of exactly 0 stands for one that float32 cannot hold.
    return np.log(np.maximum(probabilities, np.finfo(np.float32).tiny))


def _softmax(logits):
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)
