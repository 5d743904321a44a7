"""From the counts of every image to the scores of a split and their intervals."""

from collections.abc import Callable
from typing import Any

import numpy as np

from segjax import metrics
from segjax.boundary_iou import boundary_iou
from segjax.calibration import calibration
from segjax.data.labels import LabelTable
from segjax.evaluation_counts import Counts
from segjax.intervals import Interval, bootstrap_interval
from segjax.object_size import size_scores

REGIONS = ("miou", "pixel_accuracy", "class_accuracy", "fwiou", "mdice", "thin_iou")
"""Scores that follow from the confusion matrix."""

SIZES = ("small", "medium", "large")
"""Groups of objects, see `segjax.object_size.EDGES`."""

BOUNDARIES = ("boundary_f1", "boundary_f1_dilated")
"""Scores that are means over images."""

_UNIT = 2.0**-36


def all_scores(counts: Counts, table: LabelTable) -> dict[str, Any]:
    """Every score that the counts allow.

    Returns:
      `segjax.metrics.scores` with `thin_iou` (mean IoU of the data set's thin classes),
      `confusion` int64 `[k k]`, `num_images`, and the lists by class `accuracy`,
      `precision`, `share` and `pixels` (of `segjax.metrics.class_scores`). With
      boundaries `boundary_f1` and `boundary_f1_dilated` (mean over images of the mean
      over an image's classes), `boundary_iou` (mean over classes), and by class
      `class_boundary_f1` (mean over the images in which it counts) and
      `class_boundary_iou`. With sizes `iou_small`, `iou_medium` and `iou_large` (mean
      over classes) and `size_iou` and `size_recall`, lists `[k][3]`. With calibration
      `expected_calibration_error` and `maximum_calibration_error`. NaN where there is
      nothing to score.
    """
    total = counts.confusions.sum(axis=0)
    by_class = metrics.class_scores(total)
    scores = {
        **metrics.scores(total),
        "confusion": total,
        "num_images": len(counts.confusions),
        "accuracy": by_class.accuracy.tolist(),
        "precision": by_class.precision.tolist(),
        "share": by_class.share.tolist(),
        "pixels": by_class.pixels.tolist(),
    }
    scores["thin_iou"] = metrics.mean_iou_of(scores["iou"], table.thin_ids)
    if counts.boundary_f1 is not None:
        for name in BOUNDARIES:
            images = _mean(getattr(counts, name), axis=1)
            scores[name] = float(_mean(images, axis=0))
        scores["class_boundary_f1"] = _mean(counts.boundary_f1, axis=0).tolist()
        ious = boundary_iou(counts.boundary_iou.sum(axis=0))
        scores["boundary_iou"] = float(_mean(ious, axis=0))
        scores["class_boundary_iou"] = ious.tolist()
    if counts.sizes is not None:
        sizes = size_scores(counts.sizes.sum(axis=0))
        for name, value in zip(SIZES, _mean(sizes.iou, axis=0), strict=True):
            scores[f"iou_{name}"] = float(value)
        scores["size_iou"] = sizes.iou.tolist()
        scores["size_recall"] = sizes.recall.tolist()
    if counts.calibration is not None:
        errors = calibration(counts.calibration.sum(axis=0))
        scores["expected_calibration_error"] = errors.expected_error
        scores["maximum_calibration_error"] = errors.maximum_error
    return scores


def all_intervals(
    counts: Counts, table: LabelTable, scores: dict[str, Any]
) -> dict[str, Interval]:
    """95 % bootstrap intervals over images, by name of the score.

    Those that are functions of summed counts are scored again for every draw; those
    that are means over images are averaged again. Calibration errors have none: they
    are means of absolute values, which in every draw lie above what they estimate.
    Scores without a value have none either; empty for a single image.
    """
    if len(counts.confusions) < 2:
        return {}

    def region(name: str) -> Callable[[np.ndarray], float]:
        if name == "thin_iou":
            return lambda total: metrics.mean_iou_of(
                metrics.scores(total)["iou"], table.thin_ids
            )
        return lambda total: metrics.scores(total)[name]

    intervals = {
        name: bootstrap_interval(counts.confusions, score=region(name))
        for name in REGIONS
    }
    if counts.boundary_f1 is not None:
        for name in BOUNDARIES:
            images = _mean(getattr(counts, name), axis=1)
            intervals[name] = bootstrap_interval(
                _as_counts(images), score=_mean_of_counts
            )
        intervals["boundary_iou"] = bootstrap_interval(
            counts.boundary_iou,
            score=lambda total: float(_mean(boundary_iou(total), axis=0)),
        )
    if counts.sizes is not None:
        for i, name in enumerate(SIZES):
            intervals[f"iou_{name}"] = bootstrap_interval(
                counts.sizes[:, :, i : i + 1],
                score=lambda total: float(_mean(size_scores(total).iou[:, 0], axis=0)),
            )
    # The scores themselves: of whole units, or added in another order, the last digit
    # may differ.
    return {
        name: interval._replace(estimate=scores[name])
        for name, interval in intervals.items()
        if not np.isnan(scores[name])
    }


def image_scores(counts: Counts) -> dict[str, np.ndarray]:
    """Scores of each image alone, `[n]`, NaN where it has none.

    `pixels` (labelled ones), `pixel_accuracy`, `miou` (mean over the image's own
    classes) and, with boundaries, `boundary_f1`. Their means over images are not the
    split's scores, but for the last.
    """
    each = [metrics.scores(confusion) for confusion in counts.confusions]
    columns = {
        "pixels": counts.confusions.sum(axis=(1, 2)),
        "pixel_accuracy": np.array([scores["pixel_accuracy"] for scores in each]),
        "miou": np.array([scores["miou"] for scores in each]),
    }
    if counts.boundary_f1 is not None:
        columns["boundary_f1"] = _mean(counts.boundary_f1, axis=1)
    return columns


def _as_counts(values: np.ndarray) -> np.ndarray:
    """Floats of images as integers that add up: `[n 2]`, units of 2^-36 and how many.

    Exact sums of 2^16 images; a rounding of 1.5e-11 moves no printed digit.
    """
    defined = ~np.isnan(values)
    units = np.rint(np.where(defined, values, 0.0) / _UNIT)
    return np.stack([units.astype(np.int64), defined.astype(np.int64)], axis=1)


def _mean_of_counts(total: np.ndarray) -> float:
    return float(total[0] * _UNIT / total[1]) if total[1] else float("nan")


def _mean(values: np.ndarray, *, axis: int) -> np.ndarray:
    """Mean of what is defined; NaN, without a warning, where nothing is."""
    number = (~np.isnan(values)).sum(axis=axis)
    sums = np.nansum(values, axis=axis)
    nothing = np.full(np.shape(sums), np.nan)
    return np.divide(sums, number, out=nothing, where=number > 0)
