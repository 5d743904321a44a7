"""The difference that predictions make: two folders, the same labels."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from segjax.data.labels import VOID, LabelTable
from segjax.data.source import Source
from segjax.errors import InputError
from segjax.explain.explanation import Explanation, Step
from segjax.explain.policies import as_policy, check_labelled, policy_steps
from segjax.inference.label_files import read_label
from segjax.policies import ClassCounts, Policy, class_counts, count_pixels, score

Resize = Literal["refuse", "predictions", "labels"]


@dataclasses.dataclass(frozen=True)
class Side:
    """Predictions and how they are scored.

    Attributes:
      folder: indexed PNGs (`segjax.inference.label_files`), each named as its example:
        `ID.png`. Others in the folder are not read.
      policy: a name that `segjax.policies.named` knows, or a policy.
      resize: what happens if a prediction has another size than its label.
        `"refuse"`: an error. `"predictions"`: it is resized to the label's size.
        `"labels"`: the label is resized to the prediction's, which is a common mistake
        (thin things vanish from the labels). To the nearest pixel centre each.
        Resizing logits instead, before the arg-max, is better than either, but cannot
        be made up for from label files.
    """

    folder: Path
    policy: str | Policy = "segjax"
    resize: Resize = "refuse"


def explain_predictions(
    a: Side, b: Side, *, labels: Source, table: LabelTable, top: int = 10
) -> Explanation:
    """Explains the difference of the scores of two folders of predictions.

    Args:
      a: the predictions to start from.
      b: the predictions to arrive at.
      labels: examples whose `label` both predict, each found by its `id`.
      table: the classes.
      top: how many images are named.

    Raises:
      InputError: a folder or a prediction is missing or broken, has another size than
        its label (with `resize="refuse"`) or a value that is no class and not void;
        an unknown policy; no pixel has a label. The message names the file.
    """
    k = table.num_classes
    policy_a, policy_b = as_policy(a.policy), as_policy(b.policy)
    read = _read_both(a, b, labels, k)
    for side, one in ((a, read.a), (b, read.b)):
        check_labelled(one.scored, k, f"{side.folder}: the labels")

    def scored(one: _Counted, policy: Policy) -> float:
        return policy(one.scored, num_classes=k)

    def at_label_size(one: _Counted, policy: Policy) -> float:
        return policy(one.at_label_size, num_classes=k)

    steps = []
    if read.a.labels_resized:
        steps.append(
            Step(
                "sizes: labels resized -> predictions of A resized",
                scored(read.a, policy_a),
                at_label_size(read.a, policy_a),
            )
        )
    rules, notes = policy_steps(read.a.at_label_size, policy_a, policy_b, k)
    steps.extend(rules)
    counts = [
        class_counts(one.at_label_size, policy_b.void, k) for one in (read.a, read.b)
    ]
    classes = images = ()
    changed = read.gained.any() or read.lost.any()
    if changed or any(np.any(x != y) for x, y in zip(*counts, strict=True)):
        swap = Step(
            "predictions: A -> B",
            score(counts[0], policy_b),
            score(counts[1], policy_b),
            gained=int(read.gained.sum()),
            lost=int(read.lost.sum()),
        )
        steps.append(swap)
        names = (*table.names, "void")
        classes = _class_steps(*counts, policy_b, names, read.gained, read.lost)
        images = _image_steps(
            *counts, policy_b, read.ids, read.gained, read.lost, top=top
        )
    if read.b.labels_resized:
        steps.append(
            Step(
                "sizes: predictions of B resized -> labels resized",
                at_label_size(read.b, policy_b),
                scored(read.b, policy_b),
            )
        )
    for name, one in (("A", read.a), ("B", read.b)):
        if one.other_size:
            notes += (
                f"{one.other_size} of {len(read.ids)} predictions of {name} have "
                "another size than their label.",
            )
    return Explanation(
        a=f"{a.folder}, {policy_a.name} ({policy_a.description})",
        b=f"{b.folder}, {policy_b.name} ({policy_b.description})",
        start=scored(read.a, policy_a),
        end=scored(read.b, policy_b),
        steps=tuple(steps),
        classes=classes,
        images=images,
        notes=notes,
    )


class _Counted(NamedTuple):
    """One folder, counted.

    Attributes:
      scored: int64 `[n k+1 k+1]`, at the size at which the folder is scored.
      at_label_size: the same at the size of the labels.
      other_size: number of predictions that have another size.
      labels_resized: whether `scored` is of resized labels.
    """

    scored: np.ndarray
    at_label_size: np.ndarray
    other_size: int
    labels_resized: bool


class _Read(NamedTuple):
    """Both folders; `gained` and `lost` are pixels, int64 `[n k+1]` by true class."""

    a: _Counted
    b: _Counted
    ids: list[str]
    gained: np.ndarray
    lost: np.ndarray


def _read_both(a: Side, b: Side, labels: Source, num_classes: int) -> _Read:
    if not len(labels):
        raise InputError(f"{a.folder}: no labels to compare the predictions with")
    for side in (a, b):
        if not side.folder.is_dir():
            raise InputError(f"{side.folder}: no such folder")
    ids, gained, lost = [], [], []
    scored, fitting, other = ([], []), ([], []), [0, 0]
    for example in _examples(labels):
        name, label = example["id"], example["label"]
        if name in ids:
            raise InputError(f"labels: two examples are named {name!r}")
        true = np.where(label == VOID, num_classes, label).ravel()
        right = []
        for i, side in enumerate((a, b)):
            prediction = _read(side, name, label.shape, num_classes)
            fitted = _nearest(prediction, label.shape)
            counts = count_pixels(fitted, label, num_classes)
            fitting[i].append(counts)
            if prediction.shape != label.shape:
                other[i] += 1
                if side.resize == "labels":
                    small = _nearest(label, prediction.shape)
                    counts = count_pixels(prediction, small, num_classes)
            scored[i].append(counts)
            right.append(((fitted == label) & (label != VOID)).ravel())
        ids.append(name)
        only_a, only_b = right[0] & ~right[1], right[1] & ~right[0]
        gained.append(np.bincount(true[only_b], minlength=num_classes + 1))
        lost.append(np.bincount(true[only_a], minlength=num_classes + 1))
    counted = []
    for i, side in enumerate((a, b)):
        labels_resized = other[i] > 0 and side.resize == "labels"
        at_label_size = np.stack(fitting[i])
        as_scored = np.stack(scored[i]) if labels_resized else at_label_size
        counted.append(_Counted(as_scored, at_label_size, other[i], labels_resized))
    return _Read(*counted, ids, np.stack(gained), np.stack(lost))


def _examples(labels: Source) -> Iterator:
    """Every example once; a `Source` need not be iterable."""
    return (labels[i] for i in range(len(labels)))


def _read(side: Side, name: str, size: tuple[int, int], num_classes: int) -> np.ndarray:
    """The prediction for example `name`, checked, as stored."""
    path = side.folder / f"{name}.png"
    if not path.is_file():
        number = sum(1 for _ in side.folder.glob("*.png"))
        raise InputError(
            f"{path}: no such prediction; expected one PNG for every label, the folder "
            f"has {number}"
        )
    prediction = read_label(path)
    if prediction.shape != size and side.resize == "refuse":
        raise InputError(
            f"{path}: is {prediction.shape[0]}x{prediction.shape[1]} (height x width), "
            f"its label {size[0]}x{size[1]}; expected equal sizes, or a choice of what "
            "to resize"
        )
    outside = (prediction >= num_classes) & (prediction != VOID)
    if outside.any():
        raise InputError(
            f"{path}: value {prediction[outside][0]}; expected 0..{num_classes - 1} or "
            f"{VOID} (void)"
        )
    return prediction


def _nearest(label: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes `[h w]` to the nearest pixel centre, exactly (in integers)."""
    rows, columns = (
        (2 * np.arange(new) + 1) * old // (2 * new)
        for new, old in zip(size, label.shape, strict=True)
    )
    return label[rows[:, None], columns[None, :]]


def _class_steps(
    a: ClassCounts,
    b: ClassCounts,
    policy: Policy,
    names: Sequence[str],
    gained: np.ndarray,
    lost: np.ndarray,
) -> tuple[Step, ...]:
    """Takes the counts of one class after the other from B."""
    here, value, steps = ClassCounts(*(x.copy() for x in a)), score(a, policy), []
    for c in range(a.true.shape[1]):
        same = all((x[:, c] == y[:, c]).all() for x, y in zip(a, b, strict=True))
        if same and not gained[:, c].any() and not lost[:, c].any():
            continue
        for x, y in zip(here, b, strict=True):
            x[:, c] = y[:, c]
        after = score(here, policy)
        pixels = int(gained[:, c].sum()), int(lost[:, c].sum())
        steps.append(Step(names[c], value, after, *pixels))
        value = after
    return tuple(steps)


def _image_steps(
    a: ClassCounts,
    b: ClassCounts,
    policy: Policy,
    ids: Sequence[str],
    gained: np.ndarray,
    lost: np.ndarray,
    *,
    top: int,
) -> tuple[Step, ...]:
    """Takes the counts of one image after the other from B, the weightiest first."""
    here, value, steps = ClassCounts(*(x.copy() for x in a)), score(a, policy), []

    def take(i: int, source: ClassCounts) -> float:
        for x, y in zip(here, source, strict=True):
            x[i] = y[i]
        return score(here, policy)

    changed = [
        i
        for i in range(len(ids))
        if any((x[i] != y[i]).any() for x, y in zip(a, b, strict=True))
        or gained[i].any()
        or lost[i].any()
    ]
    alone = {}
    for i in changed:
        alone[i] = abs(take(i, b) - value)
        take(i, a)
    # A stable sort: images of equal weight stay in the order of the data set.
    order = sorted(changed, key=lambda i: -alone[i])
    for i in order[:top]:
        after = take(i, b)
        pixels = int(gained[i].sum()), int(lost[i].sum())
        steps.append(Step(ids[i], value, after, *pixels))
        value = after
    others = order[top:]
    if others:
        name = f"{len(others):,} other images"
        pixels = int(gained[others].sum()), int(lost[others].sum())
        steps.append(Step(name, value, score(b, policy), *pixels))
    return tuple(steps)
