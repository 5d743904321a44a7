"""IoU and recall by the size of objects.

Label maps know classes, not objects. An object here is a connected component of a
class: pixels that touch, also at a corner (a pole drawn diagonally is one object). Its
size is its number of pixels at the label's resolution, and `edges` divide the sizes
into groups: with COCO's 32^2 and 96^2 (cocodataset.org, "detection evaluation"), small
is below 1024 pixels, medium below 9216, large from there on. Two cars that touch are
one object, a car behind a pole is two.

For every class and group three pixel counts are kept, which add up over images:

- true: labelled pixels of the class in label objects of the group,
- right: those of them that are predicted as the class,
- false: labelled pixels of other classes predicted as the class, in *predicted*
  objects of the group.

`recall = right / true` says how much of the objects of a size is found; it depends on
the label's objects alone. `IoU = right / (true + false)` charges a false pixel to the
size of the predicted object that it lies in, since there is no true one that it belongs
to; so it does not punish finding small objects for a false large one (COCO likewise
ignores unmatched detections of other sizes). Every labelled pixel falls into exactly
one group: summed over the groups the counts are those of the confusion matrix, and
their IoU is the class's.

Void is as in `segjax.boundary`: where the label is void the prediction is made void
first, in both maps void parts objects and adds nothing to their size, and what is
predicted inside void changes nothing.
"""

from collections.abc import Sequence
from typing import NamedTuple

import chex
import numpy as np
from scipy import ndimage

from segjax.data.labels import VOID
from segjax.errors import InputError
from segjax.label_maps import checked_pair, masked

EDGES = (32**2, 96**2)
"""Sizes in pixels at which medium and large objects begin (COCO)."""

_TOUCHING = np.ones((3, 3), bool)


class SizeScores(NamedTuple):
    """Scores by class and group of sizes, float64 `[k s]` in 0..1.

    Attributes:
      recall: NaN where the label has no object of the class and group.
      iou: NaN where there is no false pixel either.
    """

    recall: np.ndarray
    iou: np.ndarray


def object_counts(
    prediction: np.ndarray,
    label: np.ndarray,
    *,
    num_classes: int,
    edges: Sequence[int] = EDGES,
) -> np.ndarray:
    """Counts the pixels of one image by class and size of object.

    Args:
      prediction: integer `[h w]` in `0..num_classes-1`.
      label: integer `[h w]` in `0..num_classes-1` or `VOID`.
      num_classes: k.
      edges: rising sizes in pixels; an object of exactly that size belongs to the
        larger group. `s = len(edges) + 1` groups.

    Returns:
      int64 `[k s 3]`: right, true and false pixels, see the module. Sums over images
      are the counts of the data set.

    Raises:
      InputError: the sizes differ, an array is not an integer `[h w]`, a value is no
        class, or the edges do not rise from at least 1.
    """
    prediction, label = checked_pair(
        prediction, label, num_classes=num_classes, purpose="object sizes"
    )
    if any(low >= high for low, high in zip((0, *edges), edges, strict=False)):
        raise InputError(
            f"object sizes: edges {tuple(edges)}; expected rising sizes from 1 pixel"
        )
    prediction = masked(prediction, label)
    groups = len(edges) + 1
    right = (prediction == label) & (label != VOID)
    false = (prediction != label) & (label != VOID)

    counts = np.zeros((num_classes, groups, 3), np.int64)
    for k in np.unique(label[label != VOID]):
        mask = label == k
        group = _size_groups(mask, edges)
        counts[k, :, 0] = np.bincount(group[right[mask]], minlength=groups)
        counts[k, :, 1] = np.bincount(group, minlength=groups)
    for k in np.unique(prediction[false]):
        mask = prediction == k
        group = _size_groups(mask, edges)
        counts[k, :, 2] = np.bincount(group[false[mask]], minlength=groups)
    return counts


def size_scores(counts: np.ndarray) -> SizeScores:
    """Turns `object_counts`, of an image or summed over images, into scores."""
    counts = np.asarray(counts)
    chex.assert_shape(counts, (None, None, 3))
    right, true, false = np.moveaxis(counts, -1, 0)
    with np.errstate(invalid="ignore"):  # 0 / 0 is the NaN that is meant
        return SizeScores(recall=right / true, iou=right / (true + false))


def _size_groups(mask: np.ndarray, edges: Sequence[int]) -> np.ndarray:
    """Of every pixel of the mask, in order, the group of its object: int64 `[n]`."""
    objects, _ = ndimage.label(mask, structure=_TOUCHING)
    objects = objects[mask]
    return np.searchsorted(edges, np.bincount(objects), side="right")[objects]
