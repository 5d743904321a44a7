"""How far a score would move with other images: bootstrap confidence intervals.

The images of a split are a sample. The bootstrap draws as many images from them, with
replacement, again and again, and scores each draw (Efron and Tibshirani, "An
Introduction to the Bootstrap", 1993, chapters 13 and 14). Images are drawn and not
pixels, because the pixels of an image are right or wrong together; an interval from
pixels would be far too narrow. Frames of one video are not independent either: then
pass one count per scene, not per image.

It takes what adds up over images: the confusion counts of every image, and a score that
is a function of their sum, such as `lambda c: segjax.metrics.scores(c)["miou"]`. A draw
is a multinomial vector of how often each image occurs, its counts are a product of
matrices, and no image is read twice.

What an interval says: had other images of the same kind been taken, to score the same
trained network. It knows nothing about training again with another seed.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from scipy import special

from segjax.errors import InputError

RESAMPLES = 2000
LEVEL = 0.95


class Interval(NamedTuple):
    """A score and the interval around it.

    Attributes:
      estimate: score of all images.
      low: lower end.
      high: upper end.
      level: share of such intervals that are meant to hold the true value.
      undefined: share of the draws that had no score (NaN), for instance because the
        class did not occur in them; the ends are those of the other draws.
    """

    estimate: float
    low: float
    high: float
    level: float
    undefined: float


def bootstrap_interval(
    counts: np.ndarray,
    *,
    score: Callable[[np.ndarray], float],
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    method: Literal["percentile", "bca"] = "percentile",
    seed: int = 0,
) -> Interval:
    """Confidence interval of a score over images.

    Args:
      counts: integer `[images ...]`, the counts of each image.
      score: float of summed counts, int64 `[...]`; NaN where it has no value.
      resamples: number of draws.
      level: of the interval, in 0..1.
      method: `"percentile"` cuts `(1 - level) / 2` of the draws off at either end.
        `"bca"` (bias-corrected and accelerated) shifts where to cut by how skewed the
        draws are; better for scores near 0 or 1 and many images, unsteady where a
        class hangs on two or three of them. It needs a score for all images but any
        one, and gives NaN where a score is undefined or no draw is on one side of the
        estimate.
      seed: of the draws; the same seed and images, the same interval.

    Raises:
      InputError: fewer than two images, counts that are not integers, or an option
        out of range.
    """
    counts = np.asarray(counts)
    _check(counts, resamples, level, method)
    images = len(counts)
    # float64 products are exact below 2^53 and far faster than those of integers.
    flat = counts.reshape(images, -1).astype(np.float64)

    def scored(sums: np.ndarray) -> list[float]:
        sums = sums.astype(np.int64).reshape(-1, *counts.shape[1:])
        return [float(score(each)) for each in sums]

    rng = np.random.default_rng(seed)
    draws: list[float] = []
    # A draw holds one weight per image and one sum per cell: bounded to 64 MiB.
    at_once = max(1, 2**23 // (images + flat.shape[1]))
    for start in range(0, resamples, at_once):
        rows = min(at_once, resamples - start)
        weights = rng.multinomial(images, np.full(images, 1 / images), size=rows)
        draws += scored(weights.astype(np.float64) @ flat)

    total = flat.sum(axis=0)
    (estimate,) = scored(total)
    values = np.array(draws)
    defined = values[~np.isnan(values)]
    ends = np.array([(1 - level) / 2, (1 + level) / 2])
    if method == "bca":
        without = np.array([scored(total - each)[0] for each in flat])
        ends = _bca_ends(ends, defined, estimate, without)
    undefined = float(np.mean(np.isnan(values)))
    if not defined.size or np.isnan(ends).any():
        low = high = float("nan")
    else:
        low, high = map(float, np.quantile(defined, ends))
    return Interval(estimate, low, high, level, undefined)


def bootstrap_difference(
    first: np.ndarray,
    second: np.ndarray,
    *,
    score: Callable[[np.ndarray], float],
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    method: Literal["percentile", "bca"] = "percentile",
    seed: int = 0,
) -> Interval:
    """Confidence interval of `score(first) - score(second)` on the same images.

    Every draw takes the same images for both. What makes an image hard for both
    cancels, so the interval is narrower than the two scores' own intervals suggest: they
    may overlap where this one excludes 0.

    Args:
      first: integer `[images ...]`, counts of one method.
      second: counts of the other, the same images in the same order.
      score: of the summed counts of one method.
      resamples: as in `bootstrap_interval`.
      level: likewise.
      method: likewise.
      seed: likewise.

    Raises:
      InputError: as `bootstrap_interval`, or the two differ in shape.
    """
    first, second = np.asarray(first), np.asarray(second)
    if first.shape != second.shape:
        raise InputError(
            f"bootstrap: counts of shapes {first.shape} and {second.shape}; expected "
            "the same images and classes"
        )
    return bootstrap_interval(
        np.stack([first, second], axis=1) if first.ndim else first,
        score=lambda pair: float(score(pair[0])) - float(score(pair[1])),
        resamples=resamples,
        level=level,
        method=method,
        seed=seed,
    )


def _bca_ends(
    ends: np.ndarray, draws: np.ndarray, estimate: float, without: np.ndarray
) -> np.ndarray:
    """Which quantiles of the draws BCa takes (Efron and Tibshirani, 14.3): `[2]`."""
    if not draws.size:
        return np.full(2, np.nan)
    if np.all(draws == estimate):
        return ends
    below = (np.mean(draws < estimate) + np.mean(draws <= estimate)) / 2
    if not 0 < below < 1:
        return np.full(2, np.nan)
    bias = special.ndtri(below)
    influence = without.mean() - without
    spread = np.sum(influence**2) ** 1.5
    # A score that no single image moves is not skewed; NaN stays NaN.
    acceleration = 0.0 if spread == 0 else np.sum(influence**3) / (6 * spread)
    shifted = bias + special.ndtri(ends)
    return special.ndtr(bias + shifted / (1 - acceleration * shifted))


def _check(counts: np.ndarray, resamples: int, level: float, method: str) -> None:
    if not np.issubdtype(counts.dtype, np.integer) or counts.ndim < 1:
        raise InputError(
            f"bootstrap: counts are {counts.dtype} with shape {counts.shape}; expected "
            "integers [images ...]"
        )
    if len(counts) < 2:
        raise InputError(
            f"bootstrap: counts of {len(counts)} images; expected at least 2, one "
            "image says nothing about others"
        )
    if resamples < 1:
        raise InputError(f"bootstrap: {resamples} resamples; expected at least 1")
    if not 0 < level < 1:
        raise InputError(f"bootstrap: level {level}; expected a share in 0..1")
    if method not in ("percentile", "bca"):
        raise InputError(
            f"bootstrap: method {method!r}; expected one of percentile, bca"
        )
