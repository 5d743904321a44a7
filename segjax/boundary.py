"""Boundary F1: how well a prediction draws the outlines of the classes.

The score of Csurka, Larlus and Perronnin, "What is a good evaluation measure for
semantic segmentation?" (BMVC 2013), as Badrinarayanan, Kendall and Cipolla, "SegNet"
(PAMI 2017, section 3.3) use it, and as their script
(github.com/alexgkendall/SegNet-Tutorial, `Scripts/computeBFmeasure.m`) computes it:

1. Per class, the mask of its pixels becomes a boundary map (`boundary_pixels`), for
   the label and for the prediction.
2. Boundary pixels of the two maps are matched one to one, at most 0.75 % of the image
   diagonal apart (4.5 pixels at 360x480, the distance itself included). With m
   matches, `precision = m / predicted`, `recall = m / true` and `F1 = 2 P R / (P + R)`.
3. The score of an image is the mean F1 of its classes, that of a data set the mean
   over its images (`mean_boundary_f1`).

Everything here is numpy and scipy on the host: sets of a few thousand pixels whose
number changes from image to image are no work for an accelerator.

**Which classes count** (`classes`). The paper's text says those present in the label,
`"ground_truth"`. The authors' script counts those with a boundary in the label or in
the prediction, `"either"`: a class that is predicted where there is none counts with
0. That is the default, because it is what the published program computes, because it
is the rule of `segjax.metrics.scores`, and because a false class would go free
otherwise.

**Void** (`void`). The default, `"masked"`: where the label is void, nothing is known,
and nothing counts. The prediction is made void there first, and in either map void
neither makes nor breaks a boundary: a pixel is on one if the labelled pixels of its
2x2 block differ. So the line where a class meets void is no boundary (nobody knows
whether the class goes on behind it), and what is predicted inside void changes no
score. The authors' script knows no void and is offered as `"other"`: void is one
more thing that is not the class. The true mask then has a boundary along it, and
boundaries predicted inside it are wrong unless something true is near.
`classes="either", void="other"` is the script; it differs only where an image has no
boundary at all, which it counts with 0 and this module leaves out.

**One to one.** The script matches with `correspondPixels` of the Berkeley
segmentation benchmark (BSDS), which minimises the summed distance of the matched pairs
plus a cost for pixels left alone; each further pair saves 100 times the largest
allowed distance. A further pair that forces `n` others to change partners adds at most
`n + 1` allowed distances, so while `n < 99` the minimum has as many pairs as any
matching can have, and their number is all that enters the score. This module computes
that number alone, as a maximum-cardinality matching. The original is approximate in
turn: it joins every pixel to 6 outlier nodes drawn at random instead of all of them,
rounds distances to 1/100 pixel, and can only find fewer pairs.

Counting every boundary pixel that has any counterpart within the distance, as
dilation or a distance transform does, is faster and gives another, larger number:
many predicted pixels may then lean on the same true one. It is `boundary_f1_dilated`
here, never `boundary_f1`.

A 360x480 image of 11 classes takes about 26 ms of one core one to one and 8 ms by
dilation; where outlines are ragged or doubled one to one takes longer, up to 34 ms as
median of a kind of prediction (`experiments/benchmarks/boundary.py`, drawn scenes, AMD
EPYC at 2.25 GHz).
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Literal, NamedTuple

import numpy as np

from segjax.boundary_matching import matched_one_to_one, matched_to_any, pairs_within
from segjax.boundary_pixels import class_boundaries
from segjax.data.labels import VOID
from segjax.errors import InputError
from segjax.label_maps import checked_pair, masked

TOLERANCE = 0.0075
"""Largest distance of a matched pair as a share of the image diagonal (SegNet)."""


class BoundaryScores(NamedTuple):
    """The boundary scores of one image.

    Attributes:
      f1: float64 `[k]` in 0..1, NaN where the class does not count.
      precision: float64 `[k]`, NaN where the prediction has no boundary of the class.
      recall: float64 `[k]`, NaN where the label has no boundary of the class.
      image: mean of `f1` over the classes that count, NaN if none does.
    """

    f1: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    image: float


def boundary_f1(
    prediction: np.ndarray,
    label: np.ndarray,
    *,
    num_classes: int,
    tolerance: float = TOLERANCE,
    classes: Literal["either", "ground_truth"] = "either",
    void: Literal["masked", "other"] = "masked",
) -> BoundaryScores:
    """Scores the class boundaries of one image, pixels matched one to one.

    Args:
      prediction: integer `[h w]` in `0..num_classes-1`.
      label: integer `[h w]` in `0..num_classes-1` or `VOID`.
      num_classes: k.
      tolerance: largest distance of a matched pair as a share of the diagonal
        `sqrt(h^2 + w^2)`.
      classes: `"either"` counts the classes with a boundary in the label or in the
        prediction (the authors' script), `"ground_truth"` the classes in the label
        (the paper's text) unless neither side has a boundary of it.
      void: `"masked"` ignores void and its edges, `"other"` takes it for one more
        class that is not scored (the authors' script). See the module.

    Returns:
      `BoundaryScores`; a class that counts and has no match has F1 0.

    Raises:
      InputError: the sizes differ, an array is not an integer `[h w]`, a value is no
        class, or an option is unknown.
    """
    (scores,) = _scores(
        prediction,
        label,
        (matched_one_to_one,),
        num_classes=num_classes,
        tolerance=tolerance,
        classes=classes,
        void=void,
    )
    return scores


def boundary_f1_dilated(
    prediction: np.ndarray,
    label: np.ndarray,
    *,
    num_classes: int,
    tolerance: float = TOLERANCE,
    classes: Literal["either", "ground_truth"] = "either",
    void: Literal["masked", "other"] = "masked",
) -> BoundaryScores:
    """Scores the class boundaries of one image without matching them one to one.

    Precision is the share of predicted boundary pixels within the tolerance of any
    true one, recall the reverse: what comparing with dilated boundaries or with a
    distance transform gives. Never below `boundary_f1`, and not comparable with
    published boundary F1 of SegNet: it forgives doubled and frayed outlines.

    Arguments, result and errors are those of `boundary_f1`.
    """
    (scores,) = _scores(
        prediction,
        label,
        (matched_to_any,),
        num_classes=num_classes,
        tolerance=tolerance,
        classes=classes,
        void=void,
    )
    return scores


class BoundaryPair(NamedTuple):
    """`boundary_f1` and `boundary_f1_dilated` of one image."""

    matched: BoundaryScores
    dilated: BoundaryScores


def boundary_f1_both_ways(
    prediction: np.ndarray,
    label: np.ndarray,
    *,
    num_classes: int,
    tolerance: float = TOLERANCE,
    classes: Literal["either", "ground_truth"] = "either",
    void: Literal["masked", "other"] = "masked",
) -> BoundaryPair:
    """`boundary_f1` and `boundary_f1_dilated`, for little more than the first alone.

    Both start from the same pairs of pixels within the tolerance. Arguments and errors
    are those of `boundary_f1`.
    """
    return BoundaryPair(
        *_scores(
            prediction,
            label,
            (matched_one_to_one, matched_to_any),
            num_classes=num_classes,
            tolerance=tolerance,
            classes=classes,
            void=void,
        )
    )


def mean_boundary_f1(scores: Iterable[BoundaryScores]) -> float:
    """The boundary F1 of a data set: the mean over its images.

    Images in which no class counts (NaN) are left out; NaN if none remains.
    """
    images = np.array([score.image for score in scores], np.float64)
    return _mean_of_defined(images)


def _scores(
    prediction: np.ndarray,
    label: np.ndarray,
    matches: Sequence[Callable],
    *,
    num_classes: int,
    tolerance: float,
    classes: str,
    void: str,
) -> list[BoundaryScores]:
    """One result for each way to match."""
    prediction, label = checked_pair(
        prediction, label, num_classes=num_classes, purpose="boundary F1"
    )
    if not 0 <= tolerance <= 1:
        raise InputError(
            f"boundary F1: tolerance {tolerance}; expected a share of the image "
            "diagonal in 0..1"
        )
    _check_option("classes", classes, ("either", "ground_truth"))
    _check_option("void", void, ("masked", "other"))
    if void == "masked":
        prediction = masked(prediction, label)
    predicted = class_boundaries(prediction, void=void)
    true = class_boundaries(label, void=void)
    radius = tolerance * np.hypot(*label.shape)

    pairs = pairs_within(predicted, true, radius=radius, size=label.shape)
    predicted_count = _per_class(predicted.classes, num_classes)
    true_count = _per_class(true.classes, num_classes)
    counted = (predicted_count > 0) | (true_count > 0)
    if classes == "ground_truth":
        counted &= _per_class(label[label != VOID], num_classes) > 0

    def score(match: Callable) -> BoundaryScores:
        predicted_matched, true_matched = match(pairs)
        right = _per_class(predicted.classes[predicted_matched], num_classes)
        found = _per_class(true.classes[true_matched], num_classes)
        precision, recall = _ratio(right, predicted_count), _ratio(found, true_count)
        f1 = _harmonic_mean(np.nan_to_num(precision), np.nan_to_num(recall))
        f1 = np.where(counted, f1, np.nan)
        return BoundaryScores(f1, precision, recall, _mean_of_defined(f1))

    return [score(match) for match in matches]


def _per_class(classes: np.ndarray, num_classes: int) -> np.ndarray:
    return np.bincount(classes, minlength=num_classes)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Elementwise quotient, NaN where the denominator is 0."""
    undefined = np.full(denominator.shape, np.nan)
    return np.divide(numerator, denominator, out=undefined, where=denominator > 0)


def _harmonic_mean(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Elementwise `2 a b / (a + b)`, 0 where both are 0."""
    return np.nan_to_num(_ratio(2 * first * second, first + second))


def _mean_of_defined(values: np.ndarray) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else float("nan")


def _check_option(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InputError(
            f"boundary F1: {name} {value!r}; expected one of {', '.join(choices)}"
        )
