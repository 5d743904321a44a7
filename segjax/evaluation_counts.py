"""What an evaluation counts in every image; its scores are functions of the counts."""

import dataclasses

import numpy as np

from segjax import boundary, boundary_iou, object_size
from segjax.calibration import confidence_counts


@dataclasses.dataclass(frozen=True)
class Parts:
    """What is measured beside the confusion counts.

    Attributes:
      boundaries: boundary F1, both ways, and boundary IoU.
      sizes: IoU and recall by the size of objects.
      calibration: calibration errors; the step must return confidences.
      intervals: bootstrap intervals over images.
    """

    boundaries: bool = True
    sizes: bool = True
    calibration: bool = False
    intervals: bool = True

    @property
    def maps(self) -> bool:
        """Whether the host needs predictions, and not counts alone."""
        return self.boundaries or self.sizes or self.calibration


ALL = Parts()
"""All but calibration."""


@dataclasses.dataclass(frozen=True)
class Counts:
    """What was counted in each of n images.

    Attributes:
      confusions: int64 `[n k k]`, rows true, columns predicted.
      boundary_f1: float64 `[n k]` of `segjax.boundary.boundary_f1`, NaN where a class
        does not count; None, as all below, if not asked for.
      boundary_f1_dilated: float64 `[n k]` of `boundary_f1_dilated`.
      boundary_iou: int64 `[n k 2]` of `segjax.boundary_iou.boundary_counts`.
      sizes: int64 `[n k s 3]` of `segjax.object_size.object_counts`.
      calibration: int64 `[n M 3]` of `segjax.calibration.confidence_counts`.
    """

    confusions: np.ndarray
    boundary_f1: np.ndarray | None = None
    boundary_f1_dilated: np.ndarray | None = None
    boundary_iou: np.ndarray | None = None
    sizes: np.ndarray | None = None
    calibration: np.ndarray | None = None


def count_image(
    prediction: np.ndarray,
    label: np.ndarray,
    confidence: np.ndarray | None,
    *,
    num_classes: int,
    parts: Parts,
) -> dict[str, np.ndarray]:
    """The fields of `Counts` of one image that the host counts.

    Args:
      prediction: uint8 `[h w]`, a class of every pixel.
      label: uint8 `[h w]`, a class or `VOID`.
      confidence: float32 `[h w]`, probability of the prediction; needed for
        calibration.
      num_classes: k.
      parts: what to count.
    """
    counts = {}
    if parts.boundaries:
        matched, dilated = boundary.boundary_f1_both_ways(
            prediction, label, num_classes=num_classes
        )
        counts["boundary_f1"] = matched.f1
        counts["boundary_f1_dilated"] = dilated.f1
        counts["boundary_iou"] = boundary_iou.boundary_counts(
            prediction, label, num_classes=num_classes
        )
    if parts.sizes:
        counts["sizes"] = object_size.object_counts(
            prediction, label, num_classes=num_classes
        )
    if parts.calibration:
        counts["calibration"] = confidence_counts(confidence, prediction, label)
    return counts


def stack_counts(confusions: np.ndarray, images: list[dict[str, np.ndarray]]) -> Counts:
    """Puts together the images' confusion counts and their `count_image`."""
    names = images[0] if images else ()
    stacked = {name: np.stack([image[name] for image in images]) for name in names}
    return Counts(confusions=confusions.astype(np.int64), **stacked)
