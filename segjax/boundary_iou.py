"""Boundary IoU: the overlap of the classes' outlines, drawn with a broad pen.

The measure of Cheng, Girshick, Dollár, Berg and Kirillov, "Boundary IoU" (arXiv
2103.16562, section 4), with the details of their program
(github.com/bowenc0221/boundary-iou-api, `mask_to_boundary`). The boundary region of a
mask is what of the mask lies within a distance d of its outline. With regions G of the
label and P of the prediction, the boundary IoU of a class is `|G and P| / |G or P|`.

- d is 2 % of the image diagonal, rounded (halves to even), at least one pixel.
- Distances are those of a square: a pixel is in the region if the square of side
  `2 d + 1` around it holds a pixel outside the mask (d erosions by 3x3).
- The frame of the image is outline, too: a mask that the frame cuts off is taken to end
  there, so a pixel of a class less than d from the frame is in the region.

The authors score objects one by one. Here a class of an image is the mask, and the
counts add up: a data set's score is the quotient of the sums (`boundary_iou`), as its
IoU is, so that no image with a few pixels of a class counts as much as one full of them.

**Void** (`void`), as in `segjax.boundary`. `"masked"`, the default: where the label is
void, the prediction is made void, and void is neither inside nor outside of a mask. The
line where a class meets void is no outline, and what is predicted inside void changes
nothing. `"other"`: void is one more thing that is not the class.
"""

import math
from typing import Literal

import chex
import numpy as np
from scipy import ndimage

from segjax.data.labels import VOID
from segjax.errors import InputError
from segjax.label_maps import checked_pair, masked

DILATION_RATIO = 0.02
"""Width of the boundary region as a share of the image diagonal (the paper)."""


def boundary_counts(
    prediction: np.ndarray,
    label: np.ndarray,
    *,
    num_classes: int,
    dilation_ratio: float = DILATION_RATIO,
    void: Literal["masked", "other"] = "masked",
) -> np.ndarray:
    """Counts the pixels of the classes' boundary regions in one image.

    Args:
      prediction: integer `[h w]` in `0..num_classes-1`.
      label: integer `[h w]` in `0..num_classes-1` or `VOID`.
      num_classes: k.
      dilation_ratio: width of the region as a share of the diagonal
        `sqrt(h^2 + w^2)`.
      void: `"masked"` or `"other"`, see the module.

    Returns:
      int64 `[k 2]`: of each class, the pixels in both regions and the pixels in
      either. Sums over images are the counts of the data set.

    Raises:
      InputError: the sizes differ, an array is not an integer `[h w]`, a value is no
        class, or an option is out of range.
    """
    prediction, label = checked_pair(
        prediction, label, num_classes=num_classes, purpose="boundary IoU"
    )
    if not 0 < dilation_ratio <= 1:
        raise InputError(
            f"boundary IoU: dilation ratio {dilation_ratio}; expected a share of the "
            "image diagonal in 0..1, above 0"
        )
    if void not in ("masked", "other"):
        raise InputError(f"boundary IoU: void {void!r}; expected one of masked, other")
    if void == "masked":
        prediction = masked(prediction, label)
    distance = max(1, round(dilation_ratio * math.hypot(*label.shape)))
    predicted = _near_outline(prediction, distance, void)
    true = _near_outline(label, distance, void)

    def per_class(classes: np.ndarray) -> np.ndarray:
        # A label's void falls off the end.
        return np.bincount(classes, minlength=VOID + 1)[:num_classes]

    both = per_class(label[true & predicted & (prediction == label)])
    either = per_class(label[true]) + per_class(prediction[predicted]) - both
    return np.stack([both, either], axis=1).astype(np.int64)


def boundary_iou(counts: np.ndarray) -> np.ndarray:
    """Turns `boundary_counts`, of an image or summed over images, into scores.

    Args:
      counts: integer `[k 2]`.

    Returns:
      float64 `[k]` in 0..1, NaN where a class has no boundary on either side. Their
      mean without the NaN is the mean boundary IoU.
    """
    counts = np.asarray(counts)
    chex.assert_shape(counts, (None, 2))
    with np.errstate(invalid="ignore"):  # 0 / 0 is the NaN that is meant
        return counts[:, 0] / counts[:, 1]


def _near_outline(label: np.ndarray, distance: int, void: str) -> np.ndarray:
    """Where a pixel has another class, or the frame, within `distance`: bool `[h w]`.

    All classes in one pass: a square that is not uniform holds something outside of
    the mask of its centre, whichever class that is.
    """
    size = 2 * distance + 1
    # Beyond the frame and, if masked, in void: values that decide no extreme.
    lowest = ndimage.minimum_filter(label, size, mode="constant", cval=VOID)
    known = np.where(label == VOID, np.uint8(0), label) if void == "masked" else label
    highest = ndimage.maximum_filter(known, size, mode="constant", cval=0)
    near = lowest != highest
    near[:distance] = near[-distance:] = True
    near[:, :distance] = near[:, -distance:] = True
    return near & (label != VOID)
