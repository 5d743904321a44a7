"""Calibration: is a pixel predicted with 80 % confidence right in 80 % of cases?

The measures of Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural
Networks" (arXiv 1706.04599, section 2). A pixel's confidence is the probability of its
predicted class, the most probable one. The confidences fall into M bins of equal width,
open below and closed above: bin m holds those in `((m - 1) / M, m / M]`. In every bin,
the accuracy is the share of pixels whose predicted class is the true one. Then, with
n_m of n pixels in bin m,

- expected calibration error: `sum over m of n_m / n * |accuracy_m - confidence_m|`,
- maximum calibration error: the largest `|accuracy_m - confidence_m|` of a bin that is
  not empty. A bin with a handful of pixels can make it; look at the diagram.

Void pixels are not counted. The counts of images add up to those of the data set, in
any order to the same bits: confidences are summed in whole units of 2^-24, which is
exact for float32 from 1/2 up and rounds smaller ones by less than 3e-8.
"""

from typing import NamedTuple

import chex
import numpy as np

from segjax.data.labels import VOID
from segjax.errors import InputError

BINS = 15
"""Number of bins (Guo et al., section 5)."""

_UNIT = 2.0**-24


class Calibration(NamedTuple):
    """How well confidence and accuracy agree.

    Attributes:
      expected_error: in 0..1, NaN without any pixel.
      maximum_error: in 0..1, NaN without any pixel.
      accuracy: float64 `[M]`, the reliability curve, NaN in empty bins.
      confidence: float64 `[M]`, mean confidence in each bin, NaN in empty bins.
      pixels: int64 `[M]`.
    """

    expected_error: float
    maximum_error: float
    accuracy: np.ndarray
    confidence: np.ndarray
    pixels: np.ndarray


def calibration_counts(
    probabilities: np.ndarray, label: np.ndarray, *, bins: int = BINS
) -> np.ndarray:
    """Counts pixels, right ones and confidence by bin of confidence.

    Args:
      probabilities: float `[... k]` in 0..1, adding up to 1 over the classes.
      label: integer `[...]` in `0..k-1` or `VOID`.
      bins: M.

    Returns:
      int64 `[M 3]`: pixels, pixels predicted right, and the sum of their confidences
      in units of 2^-24. Sums over images are the counts of the data set.

    Raises:
      InputError: values are no probabilities, or there is no bin.
    """
    probabilities = np.asarray(probabilities)
    chex.assert_type(probabilities, float)
    # Loose enough for probabilities stored as float16 or bfloat16.
    sums = probabilities.sum(axis=-1, dtype=np.float32)
    if not np.all(np.abs(sums - 1) < 0.02):  # fails for NaN, too
        raise InputError(
            "calibration: probabilities of a pixel add up to "
            f"{sums.flat[np.abs(sums - 1).argmax()]:.4g}; expected 1 (softmax, not "
            "logits)"
        )
    return confidence_counts(
        probabilities.max(axis=-1), probabilities.argmax(axis=-1), label, bins=bins
    )


def confidence_counts(
    confidence: np.ndarray,
    prediction: np.ndarray,
    label: np.ndarray,
    *,
    bins: int = BINS,
) -> np.ndarray:
    """`calibration_counts` where the device has reduced the probabilities already.

    Args:
      confidence: float `[...]` in 0..1, probability of the predicted class.
      prediction: integer `[...]`, the most probable class.
      label: integer `[...]`, a class or `VOID`.
      bins: M.

    Returns:
      int64 `[M 3]` as `calibration_counts`.

    Raises:
      InputError: a confidence is outside of 0..1, or there is no bin.
    """
    confidence, prediction, label = map(np.asarray, (confidence, prediction, label))
    chex.assert_type([confidence, prediction, label], [float, int, int])
    chex.assert_equal_shape([confidence, prediction, label])
    if bins < 1:
        raise InputError(f"calibration: {bins} bins; expected at least 1")
    counted = label != VOID
    right = (prediction == label)[counted]
    # In the type of the probabilities, so that one of exactly m / M is equal to its
    # edge. The sum of a softmax may exceed 1 by rounding.
    confidence = confidence[counted].astype(np.float32)
    if confidence.size and not 0 <= confidence.min() <= confidence.max() <= 1 + 1e-3:
        raise InputError(
            f"calibration: confidence in {confidence.min():.4g}.."
            f"{confidence.max():.4g}; expected probabilities in 0..1"
        )
    confidence = np.minimum(confidence, np.float32(1))
    upper = (np.arange(1, bins + 1) / bins).astype(np.float32)
    place = np.searchsorted(upper, confidence, side="left")
    units = np.rint(confidence.astype(np.float64) / _UNIT)
    # float64 adds whole numbers exactly below 2^53: up to 2^29 pixels a call.
    columns = (None, right, units)
    sums = [np.bincount(place, weights=w, minlength=bins) for w in columns]
    return np.stack(sums, axis=1).astype(np.int64)


def calibration(counts: np.ndarray) -> Calibration:
    """Turns the counts of an image, or summed over images, into errors and curve.

    Args:
      counts: integer `[M 3]` of `calibration_counts`.
    """
    counts = np.asarray(counts)
    chex.assert_shape(counts, (None, 3))
    pixels, right, units = counts.T
    with np.errstate(invalid="ignore"):  # 0 / 0 is the NaN that is meant
        accuracy = right / pixels
        confidence = units * _UNIT / pixels
    gaps = np.abs(accuracy - confidence)[pixels > 0]
    shares = pixels[pixels > 0] / max(1, pixels.sum())
    return Calibration(
        expected_error=float(np.sum(shares * gaps)) if gaps.size else float("nan"),
        maximum_error=float(gaps.max()) if gaps.size else float("nan"),
        accuracy=accuracy,
        confidence=confidence,
        pixels=pixels.copy(),
    )
