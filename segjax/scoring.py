"""What a network scores on a split, and what a constant picture would."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from segjax import boundary, class_weights, metrics
from segjax.data.labels import LabelTable
from segjax.data.source import Source
from segjax.training import loop


def score(
    eval_step: Callable,
    variables: dict[str, Any],
    batches: Iterator[dict[str, np.ndarray]],
    source: Source,
    *,
    table: LabelTable,
    mesh: jax.sharding.Mesh,
    boundaries: bool = True,
    keep: Sequence[int] = (),
    visit: Callable[[int, np.ndarray, np.ndarray], None] | None = None,
) -> tuple[dict[str, Any], dict[int, np.ndarray]]:
    """Scores a whole split in one pass.

    Args:
      eval_step: jitted `segjax.training.steps.eval_step`.
      variables: of the model.
      batches: `segjax.data.pipeline.eval_batches` of `source`.
      source: the split.
      table: its classes.
      mesh: where batches go.
      boundaries: whether boundaries are scored, too.
      keep: indices of images whose predictions are returned.
      visit: called with the index, prediction and label, uint8 `[h w]`, of every image.

    Returns:
      The scores of `segjax.training.loop.evaluate` plus `thin_iou` (mean IoU of the
      data set's thin classes, NaN without any) and, if asked for, `boundary_f1`
      (one-to-one matching, `segjax.boundary`) and `boundary_f1_dilated` (what
      dilation would have given instead); and index -> prediction, uint8 `[h w]` of
      the label's size.
    """
    matched, dilated, kept = [], [], {}
    options = {"num_classes": table.num_classes}

    def take(index: int, prediction: np.ndarray) -> None:
        if not boundaries and visit is None and index not in keep:
            return
        label = source[index]["label"]
        prediction = prediction[: label.shape[0], : label.shape[1]]  # undoes padding
        if boundaries:
            matched.append(boundary.boundary_f1(prediction, label, **options))
            dilated.append(boundary.boundary_f1_dilated(prediction, label, **options))
        if index in keep:
            kept[index] = prediction.copy()
        if visit is not None:
            visit(index, prediction, label)

    scores = loop.evaluate(
        eval_step, variables, batches, mesh=mesh, num_examples=len(source), visit=take
    )
    scores["thin_iou"] = metrics.mean_iou_of(scores["iou"], table.thin_ids)
    if boundaries:
        scores["boundary_f1"] = boundary.mean_boundary_f1(matched)
        scores["boundary_f1_dilated"] = boundary.mean_boundary_f1(dilated)
    return scores, kept


def majority_baseline(
    train: Source, source: Source, table: LabelTable
) -> dict[str, Any]:
    """Scores on `source` of calling every pixel the commonest class of `train`."""
    num_classes = table.num_classes
    counts, _ = class_weights.class_pixel_counts(train, num_classes)
    true, _ = class_weights.class_pixel_counts(source, num_classes)
    confusion = np.zeros((num_classes, num_classes), np.int64)
    confusion[:, counts.sum(axis=0).argmax()] = true.sum(axis=0)
    scores = metrics.scores(confusion)
    thin = metrics.mean_iou_of(scores["iou"], table.thin_ids)
    # A constant picture has no boundary, and every image with one scores 0.
    return {
        **scores,
        "thin_iou": thin,
        "boundary_f1": 0.0,
        "num_images": len(source),
    }
