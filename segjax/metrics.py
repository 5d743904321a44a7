"""Region metrics: confusion counts on the device, scores on the host.

Counts are int32 per batch; the caller adds them up in int64 over the data set, and
`scores` turns the total into numbers. Definitions: Long, Shelhamer and Darrell,
"Fully Convolutional Networks for Semantic Segmentation", section 5.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from segjax.data.labels import VOID


def confusion_matrix(
    prediction: jax.Array, label: jax.Array, num_classes: int
) -> jax.Array:
    """Counts labelled pixels by true and predicted class, exactly.

    Args:
      prediction: integer, any shape, in `0..num_classes-1`.
      label: integer of the same shape, in `0..num_classes-1` or `VOID`.
      num_classes: k.

    Returns:
      int32 `[k k]`, rows the true class, columns the predicted one; void pixels are
      not counted. Exact below 2^31 pixels.
    """
    chex.assert_equal_shape([prediction, label])
    chex.assert_type([prediction, label], int)
    cells = num_classes * num_classes
    cell = label.astype(jnp.int32) * num_classes + prediction.astype(jnp.int32)
    # Void goes to one cell more, which is dropped.
    cell = jnp.where(label == VOID, cells, cell)
    # An integer scatter-add: no rounding, and on a CPU several times as fast as the
    # product of one-hot matrices, whose cost grows with the number of classes.
    counts = jnp.zeros(cells + 1, jnp.int32).at[cell].add(1)
    return counts[:cells].reshape(num_classes, num_classes)


def image_confusions(
    prediction: jax.Array, label: jax.Array, num_classes: int
) -> jax.Array:
    """`confusion_matrix` of every image of a batch: int32 `[b k k]`.

    Args:
      prediction: integer `[b h w]`, in `0..num_classes-1`.
      label: integer `[b h w]`, in `0..num_classes-1` or `VOID`.
      num_classes: k.
    """
    chex.assert_rank([prediction, label], 3)
    return jax.vmap(lambda p, t: confusion_matrix(p, t, num_classes))(prediction, label)


def scores(confusion: np.ndarray) -> dict[str, Any]:
    """Turns the confusion counts of a data set into scores.

    With n_ij the pixels of class i predicted as j and t_i those of class i, a
    class's IoU is `n_ii / (t_i + sum_j n_ji - n_ii)` and its Dice coefficient (F1)
    `2 n_ii / (t_i + sum_j n_ji)`. A class that occurs neither in the labels nor in the
    predictions has none (NaN) and is left out of the mean; one that is predicted but
    never true counts with 0 (`segjax.policies` has other rules, by name). Class
    accuracy is the mean of `n_ii / t_i` over the classes that occur in the labels.

    Args:
      confusion: integer `[k k]`, rows the true class, columns the predicted one.

    Returns:
      dict of `pixel_accuracy`, `class_accuracy`, `miou`, `fwiou`, `mdice` (mean Dice;
      floats in 0..1) and `iou`, `dice` (lists of k floats, NaN where a class has
      none). Without any labelled pixel all are NaN.
    """
    confusion = np.asarray(confusion)
    chex.assert_rank(confusion, 2)
    chex.assert_equal(*confusion.shape)
    # float64 holds counts up to 2^53 exactly.
    confusion = confusion.astype(np.float64)
    right = np.diag(confusion)
    true = confusion.sum(axis=1)
    predicted = confusion.sum(axis=0)
    iou = _ratio(right, true + predicted - right)
    dice = _ratio(2 * right, true + predicted)
    return {
        "pixel_accuracy": float(_ratio(right.sum(), true.sum())),
        "class_accuracy": _mean_of_defined(_ratio(right, true)),
        "miou": _mean_of_defined(iou),
        "fwiou": float(_ratio(np.sum(true * np.nan_to_num(iou)), true.sum())),
        "mdice": _mean_of_defined(dice),
        "iou": iou.tolist(),
        "dice": dice.tolist(),
    }


class ClassScores(NamedTuple):
    """The row of every class in an evaluation's table, `[k]` each.

    Attributes:
      pixels: int64, labelled pixels of the class.
      share: float64, of all labelled pixels; NaN without any.
      iou: float64, NaN where the class is neither in the labels nor predicted.
      dice: float64, likewise.
      accuracy: float64, share of its pixels that are predicted as it (recall); NaN
        where the labels do not have it.
      precision: float64, share of what is predicted as it that is it; NaN where it is
        not predicted.
    """

    pixels: np.ndarray
    share: np.ndarray
    iou: np.ndarray
    dice: np.ndarray
    accuracy: np.ndarray
    precision: np.ndarray


def class_scores(confusion: np.ndarray) -> ClassScores:
    """Scores of each class from confusion counts, integer `[k k]`, rows true."""
    overall = scores(confusion)
    confusion = np.asarray(confusion)
    right, true, predicted = (
        x.astype(np.float64)
        for x in (np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0))
    )
    return ClassScores(
        pixels=confusion.sum(axis=1),
        share=_ratio(true, np.broadcast_to(true.sum(), true.shape)),
        iou=np.array(overall["iou"]),
        dice=np.array(overall["dice"]),
        accuracy=_ratio(right, true),
        precision=_ratio(right, predicted),
    )


def mean_iou_of(iou: Sequence[float], ids: Sequence[int]) -> float:
    """Mean IoU of the classes `ids`, those without one left out; NaN if none has."""
    return _mean_of_defined(np.asarray(iou, np.float64)[list(ids)])


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Elementwise quotient, NaN where the denominator is 0."""
    undefined = np.full(np.shape(denominator), np.nan)
    return np.divide(numerator, denominator, out=undefined, where=denominator > 0)


def _mean_of_defined(values: np.ndarray) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else float("nan")
