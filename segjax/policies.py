"""Policies: the rules by which tools turn the same pixels into different mIoUs.

Two tools agree on every pixel and still print different scores, because they differ in
one of five choices. A `Policy` names all five, so it can be read what a number means,
and one tool's number can be had from another's counts:

- **mean**: over the classes' IoUs ("macro"), or one IoU of all classes together, their
  intersections and unions added up ("micro").
- **pool**: over how many images counts are added up before a ratio is formed: all of
  them (one confusion matrix), each alone, or batches. Means of ratios are not the ratio
  of sums, and a ragged last batch weighs as much as a full one.
- **absent**: what a class counts that occurs neither in the labels nor in the
  predictions of a pool: nothing (it is left out of the mean), 0 or 1.
- **void**: whether pixels without a label count.
- **float32**: whether counts are added up in float32, which holds integers only up to
  2^24 = 16,777,216.

`POLICIES` has one row for each tool; `MISTAKES` has what goes wrong most often.
`segjax.explain` says how much each choice makes of a difference.

Sources, with `right`, `true` and `predicted` a class's pixels that are right, true and
predicted, and `union = true + predicted - right`:

mmseg
    MMSegmentation 1.2.2, `mmseg/evaluation/metrics/iou_metric.py`, `IoUMetric` with
    its defaults. Pixels with label 255 are dropped; `right / union` of the whole data
    set, 0/0 stays NaN and `np.nanmean` leaves it out: "absent" is union 0, so a class
    that is only predicted counts with 0. Each image's counts are float32 and are added
    up in float32, image by image, which is reproduced here bit by bit. It prints
    percent rounded to two decimals. Not reproduced: counts above 2^24 within one image
    (`torch.histc` on float32), and what several processes do to the order of images.
hrnet
    HRNet/HRNet-Semantic-Segmentation, `lib/core/function.py`, `validate` and `testval`
    (commit 06142dc). `right / max(1, union)` in float64, mean over all classes: an
    absent class counts with 0. Pixels with the ignored label are dropped.
torchmetrics
    TorchMetrics 1.9.0, `functional/classification/jaccard.py`, `JaccardIndex` with
    `task="multiclass"`, its default `average="macro"`, and an `ignore_index` that is no
    class. Counts are integers; a class with union 0 has weight 0 in the mean. So since
    1.0.0; in 0.11.4 such a class counted with 0, the number of `hrnet`. An
    `ignore_index` that is a class drops the pixels it is true on and the class from
    the mean, but where it is predicted elsewhere it still makes the true class's union
    larger. Not reproduced: the last division is float32 (about 7 digits).
smp-micro, smp-macro, smp-micro-imagewise, smp-macro-imagewise
    segmentation_models.pytorch 0.6.0, `metrics/functional.py`, `get_stats(...,
    mode="multiclass", ignore_index=255)` over all images and then
    `iou_score(..., reduction=...)` without class weights. Its `zero_division` is 1.0:
    a class that is absent from the data set ("macro") or from an image
    ("macro-imagewise") counts with 1, and so does an image without a label
    ("micro-imagewise"). Averaging what each batch gives, as training loops often do,
    is another number: see `named`. Not reproduced: the ratios are float32.
segnet-bf
    alexgkendall/SegNet-Tutorial, `Scripts/compute_test_results.m` (commit cf9ad7d),
    which stands beside the script of its boundary measure. IoU of the classes with a
    labelled pixel, divided by the number of all classes: absent classes count with 0,
    as in `hrnet`. (A class that is predicted but never true has IoU 0 either way.)
    Not reproduced: it drops pixels that are *predicted* void even where they have a
    label; here they are misses of their class. SegNet's boundary F1 itself is
    `segjax.boundary.boundary_f1` with `classes="either", void="other"`.

The mmseg, torchmetrics and smp rules were run beside the originals, with torch 2.15 on
a CPU, on 200 sets of random labels with void, absent classes and images without any
label: mmseg agrees to the last bit, the others to 1e-7. The HRNet and SegNet rules
were read, not run.
"""

import dataclasses
from typing import Literal, NamedTuple

import chex
import numpy as np

from segjax.data.labels import VOID
from segjax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Policy:
    """How confusion counts become one score; call it with them.

    Attributes:
      name: as in `POLICIES`.
      description: one line.
      mean: `"classes"`, the mean of the classes' IoUs, or `"pixels"`, the IoU of all
        classes together.
      pool: over how many images, in their order, counts are added up before a ratio is
        formed; the last pool may be smaller. None is all. The score is the mean over
        the pools; pools in which nothing is defined are left out.
      absent: what counts for a class (with `mean="pixels"`: for a pool) without a
        pixel in labels and predictions; None leaves it out.
      void: what becomes of pixels without a label. `"excluded"`: they do not count.
        `"wrong"`: whatever is predicted there is wrong. `"class"`: void is one more
        class, that can be predicted. `"background"`: they are of class 0.
      float32: whether counts are added up and divided in float32 rather than exactly.
    """

    name: str
    description: str
    mean: Literal["classes", "pixels"] = "classes"
    pool: int | None = None
    absent: float | None = None
    void: Literal["excluded", "wrong", "class", "background"] = "excluded"
    float32: bool = False

    def __call__(
        self, confusions: np.ndarray, *, num_classes: int | None = None
    ) -> float:
        """Scores a data set.

        Args:
          confusions: integer `[n k k]`, one matrix per image, rows the true class,
            columns the predicted one, void pixels left out; or `[n k+1 k+1]`
            (`count_pixels`), the last row and column being void.
          num_classes: k; needed for the second form.

        Returns:
          A share in 0..1, NaN where nothing is defined.

        Raises:
          InputError: the policy counts void and `confusions` has none.
        """
        return score(class_counts(confusions, self.void, num_classes), self)


class ClassCounts(NamedTuple):
    """All of a confusion matrix that an IoU depends on; int64 `[n c]` each.

    Attributes:
      right: pixels of the class that are predicted as it.
      true: pixels of the class.
      predicted: pixels predicted as the class.
    """

    right: np.ndarray
    true: np.ndarray
    predicted: np.ndarray

    @property
    def union(self) -> np.ndarray:
        """Pixels that are of the class or predicted as it."""
        return self.true + self.predicted - self.right


POLICIES: dict[str, Policy] = {
    policy.name: policy
    for policy in (
        Policy("segjax", "one confusion matrix; absent classes are left out"),
        Policy(
            "mmseg",
            "MMSegmentation: absent classes are left out; sums in float32",
            float32=True,
        ),
        Policy("hrnet", "HRNet: absent classes count with 0", absent=0.0),
        Policy("torchmetrics", "TorchMetrics 1.x: absent classes are left out"),
        Policy("smp-micro", "smp 'micro': one IoU of all classes", mean="pixels"),
        Policy("smp-macro", "smp 'macro': absent classes count with 1", absent=1.0),
        Policy(
            "smp-micro-imagewise",
            "smp 'micro-imagewise': one IoU per image, its mean",
            mean="pixels",
            pool=1,
            absent=1.0,
        ),
        Policy(
            "smp-macro-imagewise",
            "smp 'macro-imagewise': classes absent from an image count with 1",
            pool=1,
            absent=1.0,
        ),
        Policy(
            "segnet-bf",
            "SegNet's own script: absent classes count with 0",
            absent=0.0,
        ),
    )
}
"""What other tools print; every row takes confusions `[n k k]`."""

MISTAKES: dict[str, Policy] = {
    policy.name: policy
    for policy in (
        Policy("image-means", "mean over images of each image's mIoU", pool=1),
        Policy("void-class", "void is scored as one more class", void="class"),
        Policy("void-wrong", "void pixels are wrong, whatever is said", void="wrong"),
        Policy("void-background", "void counts as class 0", void="background"),
    )
}
"""What is not meant as a rule; those with void take confusions `[n k+1 k+1]` only."""


def named(name: str) -> Policy:
    """Finds a policy by name.

    Args:
      name: a key of `POLICIES` or `MISTAKES`; with `/8` behind it, the mean over
        batches of 8 images of what it gives for each batch.

    Raises:
      InputError: there is no such policy.
    """
    base, slash, batch = name.partition("/")
    known = {**POLICIES, **MISTAKES}
    if base not in known:
        raise InputError(
            f"unknown policy {name!r}: expected one of {', '.join(known)}, or one of "
            "them with /8 for means over batches of 8"
        )
    policy = known[base]
    if not slash:
        return policy
    if not (batch.isascii() and batch.isdigit() and int(batch) > 0):
        raise InputError(f"policy {name!r}: expected a number of images behind the /")
    return dataclasses.replace(
        policy,
        name=name,
        description=f"{policy.description}; mean over batches of {batch}",
        pool=int(batch),
    )


def count_pixels(
    prediction: np.ndarray, label: np.ndarray, num_classes: int
) -> np.ndarray:
    """Counts the pixels of one image by true and predicted class, void included.

    Args:
      prediction: integer `[h w]`, in `0..num_classes-1` or `VOID`.
      label: of the same shape, likewise.
      num_classes: k.

    Returns:
      int64 `[k+1 k+1]`, rows the true class, columns the predicted one, void last.
    """
    chex.assert_equal_shape([prediction, label])
    side = num_classes + 1

    def ids(values: np.ndarray) -> np.ndarray:
        return np.where(values == VOID, num_classes, values).astype(np.int64).ravel()

    cells = np.bincount(ids(label) * side + ids(prediction), minlength=side * side)
    return cells.astype(np.int64).reshape(side, side)


def class_counts(
    confusions: np.ndarray, void: str = "excluded", num_classes: int | None = None
) -> ClassCounts:
    """Reduces confusion matrices to what IoUs depend on.

    Args:
      confusions: integer `[n k k]`, or `[n k+1 k+1]` with void last.
      void: as in `Policy`.
      num_classes: k; None if `confusions` has no void.

    Returns:
      Counts `[n k]`, or `[n k+1]` for `void="class"`. A labelled pixel that is
      predicted as void is a miss of its class.

    Raises:
      InputError: `confusions` has no void, and `void` needs it.
    """
    confusions = np.asarray(confusions)
    chex.assert_rank(confusions, 3)
    chex.assert_type(confusions, int)
    chex.assert_equal(confusions.shape[1], confusions.shape[2])
    side = confusions.shape[1]
    k = side if num_classes is None else num_classes
    if side not in (k, k + 1):
        raise InputError(f"confusions of {side} classes; expected {k}, or {k + 1}")
    if void != "excluded" and side == k:
        raise InputError(
            f"void {void!r}: void pixels are not in these confusion counts; "
            f"expected {k + 1} rows, void last"
        )
    confusions = confusions.astype(np.int64)
    if void == "class":
        k = side
    elif void == "background":
        confusions[:, 0] += confusions[:, k]
        confusions[:, :, 0] += confusions[:, :, k]
        confusions = confusions[:, :k, :k]
    labelled = confusions[:, :k]
    predicted = (confusions if void == "wrong" else labelled)[:, :, :k].sum(axis=1)
    right = np.diagonal(labelled, axis1=1, axis2=2)[:, :k].copy()
    return ClassCounts(right, labelled.sum(axis=2), predicted)


def score(counts: ClassCounts, policy: Policy) -> float:
    """The score of counts that `class_counts` made with the policy's `void`."""
    iou = _mean(_ious(counts, policy), axis=1)
    return float(_mean(iou, axis=0))


def undefined(counts: ClassCounts, policy: Policy) -> tuple[int, int]:
    """How many of the ratios under the policy are 0/0, and how many there are."""
    ious = _ious(counts, dataclasses.replace(policy, absent=None))
    return int(np.isnan(ious).sum()), ious.size


def _ious(counts: ClassCounts, policy: Policy) -> np.ndarray:
    """IoUs float `[pools classes]`, or `[pools 1]`, NaN where nothing counts."""
    right = _pooled(counts.right, policy)
    union = _pooled(counts.union, policy)
    if policy.mean == "pixels":
        right, union = (x.sum(axis=1, keepdims=True) for x in (right, union))
    # float64 holds counts up to 2^53 exactly.
    exact = np.float32 if policy.float32 else np.float64
    right, union = right.astype(exact), union.astype(exact)
    empty = np.nan if policy.absent is None else policy.absent
    return np.divide(right, union, out=np.full_like(union, empty), where=union > 0)


def _pooled(counts: np.ndarray, policy: Policy) -> np.ndarray:
    """Sums over the images of each pool, `[pools classes]`."""
    size = policy.pool or len(counts)
    starts = range(0, len(counts), size)
    if not policy.float32:
        return np.stack([counts[i : i + size].sum(axis=0) for i in starts])
    # A running sum: np.sum may add in pairs, which rounds less.
    rounded = counts.astype(np.float32)
    return np.stack([np.cumsum(rounded[i : i + size], axis=0)[-1] for i in starts])


def _mean(values: np.ndarray, axis: int) -> np.ndarray:
    """Mean of what is defined; NaN, without a warning, where nothing is."""
    number = (~np.isnan(values)).sum(axis=axis).astype(values.dtype)
    nothing = np.full_like(number, np.nan)
    return np.divide(
        np.nansum(values, axis=axis), number, out=nothing, where=number > 0
    )
