"""The tables of `python -m segjax evaluate`."""

from collections.abc import Sequence

import numpy as np

from segjax.evaluation import POLICY, Evaluation
from segjax.evaluation_scores import SIZES
from segjax.object_size import EDGES
from segjax.policies import Policy
from segjax.report import units
from segjax.report.grids import Cell, Grid

SCORES = {
    "pixel_accuracy": "pixel accuracy",
    "class_accuracy": "class accuracy",
    "miou": "mIoU",
    "fwiou": "frequency-weighted IoU",
    "mdice": "Dice (F1), mean of classes",
    "thin_iou": "IoU of thin classes",
    "boundary_f1": "boundary F1",
    "boundary_f1_dilated": "boundary F1 by dilation",
    "boundary_iou": "boundary IoU",
    "iou_small": "IoU of small objects",
    "iou_medium": "IoU of medium objects",
    "iou_large": "IoU of large objects",
    "expected_calibration_error": "expected calibration error",
    "maximum_calibration_error": "maximum calibration error",
}
"""Names of single scores, in the order of the table; those not measured are not in it."""


def evaluation_grids(
    result: Evaluation, *, policies: Sequence[Policy] = ()
) -> tuple[Grid, ...]:
    """Tables of an evaluation.

    Keys: "scores", "classes", with boundaries or sizes "shapes" (by class), and with
    policies "policies": what other tools would call the mIoU of these predictions.
    """
    grids = [_scores(result), _classes(result)]
    if "boundary_f1" in result.scores or "size_iou" in result.scores:
        grids.append(_shapes(result))
    if policies:
        grids.append(_policies(result, policies))
    return tuple(grids)


def _scores(result: Evaluation) -> Grid:
    where = f"{result.dataset} {result.split}, {len(result.ids)} images"
    rows = []
    for name, words in SCORES.items():
        if name in result.scores:
            interval = result.intervals.get(name)
            ends = units.MISSING
            if interval is not None and not np.isnan(interval.low):
                ends = f"{units.share(interval.low)} to {units.share(interval.high)}"
            rows.append(_row(words, units.share(result.scores[name]), ends))
    notes = [POLICY]
    if result.intervals:
        notes.append(
            "Intervals are of other images of the same kind and this network (2000 "
            "bootstrap draws of the images); they know nothing of other seeds."
        )
    if "boundary_f1" in result.scores:
        notes.append(
            "Boundary F1 pairs boundary pixels one to one within 0.75 % of the image "
            "diagonal, mean over images; by dilation, any pixel may answer for many."
        )
    return Grid(
        key="scores",
        title=f"{result.model}, step {result.step}: {where}",
        columns=("score", "value", "95 % interval"),
        rows=tuple(rows),
        notes=tuple(notes),
        codes=(),
    )


def _classes(result: Evaluation) -> Grid:
    columns = ("IoU", "Dice", "accuracy", "precision", "share")
    fields = ("iou", "dice", "accuracy", "precision", "share")
    return Grid(
        key="classes",
        title="By class",
        columns=("class", *columns, "pixels"),
        rows=tuple(
            _row(
                name,
                *(units.share(result.scores[field][i]) for field in fields),
                f"{result.scores['pixels'][i]:,}",
            )
            for i, name in enumerate(result.table.names)
        ),
        notes=(
            "Accuracy is the share of a class's pixels that are predicted as it, "
            "precision the share of what is predicted as it that is it.",
        ),
    )


def _shapes(result: Evaluation) -> Grid:
    scores = result.scores
    columns, notes = {}, []
    if "boundary_f1" in scores:
        columns["boundary F1"] = scores["class_boundary_f1"]
        columns["boundary IoU"] = scores["class_boundary_iou"]
    if "size_iou" in scores:
        for i, size in enumerate(SIZES):
            columns[f"IoU {size}"] = [row[i] for row in scores["size_iou"]]
        notes.append(
            f"Objects are connected pixels of a class, small below {EDGES[0]:,} "
            f"pixels, large from {EDGES[1]:,} on."
        )
    return Grid(
        key="shapes",
        title="Outlines and objects by class",
        columns=("class", *columns),
        rows=tuple(
            _row(name, *(units.share(values[i]) for values in columns.values()))
            for i, name in enumerate(result.table.names)
        ),
        notes=tuple(notes),
    )


def _policies(result: Evaluation, policies: Sequence[Policy]) -> Grid:
    return Grid(
        key="policies",
        title="The same predictions as other tools score them",
        columns=("policy", "score"),
        rows=tuple(
            _row(policy.name, _precise(policy(result.confusions)))
            for policy in policies
        ),
        notes=tuple(f"{policy.name}: {policy.description}." for policy in policies),
    )


def _precise(share: float) -> str:
    """With the digits in which policies differ."""
    return units.MISSING if np.isnan(share) else f"{share:.6f}"


def _row(*cells: str) -> tuple[Cell, ...]:
    return tuple((cell,) for cell in cells)
