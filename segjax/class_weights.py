"""Class weights that balance the loss over rare and frequent classes.

Host side, from the labels of a training set. Median-frequency balancing divides by a
class's frequency, so a class that never occurs has no weight there: an `InputError`,
as any number in its place would be silently wrong once the class turns up.
"""

import math
from typing import Literal

import numpy as np

from segjax.data.labels import VOID
from segjax.data.source import Source
from segjax.errors import InputError

WeightsName = Literal[
    "none",
    "median_frequency",
    "median_frequency_present",
    "enet",
    "segnet_camvid",
]

# Published with SegNet for CamVid's 11 classes (SegNet-Tutorial, segnet_train and
# segnet_basic_train.prototxt): Sky, Building, Pole, Road, Pavement, Tree, SignSymbol,
# Fence, Car, Pedestrian, Bicyclist. They are constants of that recipe: neither form
# of median-frequency balancing gives them from the labels released with it.
SEGNET_CAMVID = (
    0.2595,
    0.1826,
    4.5640,
    0.1417,
    0.9051,
    0.3826,
    9.6446,
    1.8418,
    0.6823,
    6.2478,
    7.3614,
)


def loss_weights(
    rule: WeightsName | tuple[float, ...], source: Source, num_classes: int
) -> np.ndarray | None:
    """Class weights, float32 `[k]`, by rule or as given; None for all one.

    Raises:
      InputError: not one finite, non-negative number per class, or a class that the
        rule needs does not occur in `source`.
    """
    if rule == "none":
        return None
    if isinstance(rule, str) and rule != "segnet_camvid":
        counts, sizes = class_pixel_counts(source, num_classes)
        match rule:
            case "median_frequency":
                values = median_frequency(counts)
            case "median_frequency_present":
                values = median_frequency_present(counts, sizes)
            case "enet":
                values = enet(counts)
            case _:
                raise InputError(f"class_weights {rule!r}: no such rule")
    else:
        values = SEGNET_CAMVID if rule == "segnet_camvid" else rule
    if len(values) != num_classes:
        raise InputError(
            f"class_weights has {len(values)} numbers, but the data set has "
            f"{num_classes} classes"
        )
    if not all(math.isfinite(v) and v >= 0 for v in values) or not any(values):
        raise InputError(
            f"class_weights {tuple(values)}: expected finite numbers >= 0, not all 0"
        )
    return np.asarray(values, np.float32)


def class_pixel_counts(
    source: Source, num_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Counts the pixels of each class in each example; reads them all.

    Args:
      source: random-access examples with `label` uint8 `[h w]` and `id`.
      num_classes: k.

    Returns:
      `(counts, sizes)`: int64 `[n k]` pixels by example and class, void excluded, and
      int64 `[n]` pixels of each example, void included.

    Raises:
      InputError: for an empty source, or a label value that is neither a class nor
        void.
    """
    if len(source) < 1:
        raise InputError("the source has no examples, expected at least one")
    counts = np.zeros((len(source), num_classes), np.int64)
    sizes = np.zeros(len(source), np.int64)
    for index in range(len(source)):
        example = source[index]
        histogram = np.bincount(example["label"].reshape(-1), minlength=VOID + 1)
        strays = np.flatnonzero(histogram[num_classes:VOID]) + num_classes
        if strays.size:
            raise InputError(
                f"example {example['id']}: label value {strays[0]}, expected "
                f"0..{num_classes - 1} or {VOID} (void)"
            )
        counts[index] = histogram[:num_classes]
        sizes[index] = histogram.sum()
    return counts, sizes


def median_frequency(counts: np.ndarray) -> np.ndarray:
    """Median-frequency balancing with the frequencies of the entire training set.

    `w_c = median(f) / f_c` with `f_c` the share of class c in all labelled pixels, as
    the text of SegNet (section 3.2) has it.

    Args:
      counts: integer `[n k]` from `class_pixel_counts`.

    Returns:
      float64 `[k]`.

    Raises:
      InputError: for a class without pixels.
    """
    total = _class_totals(counts)
    # Dividing by the number of pixels would cancel.
    return np.median(total) / total


def median_frequency_present(counts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Median-frequency balancing over the images in which a class is present.

    `w_c = median(f) / f_c` with `f_c` the pixels of class c over all pixels, void
    included, of the images that show it (Eigen and Fergus, "Predicting Depth, Surface
    Normals and Semantic Labels with a Common Multi-Scale Convolutional Architecture").

    Args:
      counts: integer `[n k]` from `class_pixel_counts`.
      sizes: integer `[n]` from `class_pixel_counts`.

    Returns:
      float64 `[k]`.

    Raises:
      InputError: for a class without pixels.
    """
    total = _class_totals(counts)
    present = np.asarray(counts) > 0
    frequency = total / (present * np.asarray(sizes)[:, None]).sum(axis=0)
    return np.median(frequency) / frequency


def enet(counts: np.ndarray, *, c: float = 1.02) -> np.ndarray:
    """ENet's weighting, `w_k = 1 / ln(c + p_k)` with the share of labelled pixels.

    Paszke et al., "ENet: A Deep Neural Network Architecture for Real-Time Semantic
    Segmentation". Bounded, unlike inverse frequencies: a class that never occurs gets
    the largest weight, `1 / ln(c)`.

    Args:
      counts: integer `[n k]` from `class_pixel_counts`.
      c: > 1; 1.02 in the paper.

    Returns:
      float64 `[k]`.

    Raises:
      InputError: if no pixel is labelled, or c <= 1.
    """
    if not c > 1:
        raise InputError(f"c {c}: expected a number > 1")
    total = np.asarray(counts).sum(axis=0)
    if not total.any():
        raise InputError("the training labels have no labelled pixel")
    return 1.0 / np.log(c + total / total.sum())


def _class_totals(counts: np.ndarray) -> np.ndarray:
    total = np.asarray(counts).sum(axis=0)
    unseen = np.flatnonzero(total == 0)
    if unseen.size:
        raise InputError(
            f"class {unseen[0]} has no pixels in the training labels, so it has no "
            "weight; give class weights by hand"
        )
    return total
