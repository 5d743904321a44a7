"""Evaluation of a finished run on any split of any data set with its classes."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np

from segjax import configuration, experiment, metrics
from segjax.data.labels import VOID, LabelTable
from segjax.errors import InputError
from segjax.intervals import Interval, bootstrap_interval
from segjax.training import checkpoint

INTERVALS = ("miou", "pixel_accuracy", "class_accuracy", "fwiou")
"""Scores that get a confidence interval."""


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What a run scores on a split.

    Attributes:
      model: name of the network.
      step: updates that its weights have seen.
      dataset: name of the data set.
      split: of it.
      table: its classes.
      ids: of the images.
      confusions: int64 `[images k k]`, rows true, columns predicted.
      scores: `segjax.scoring.score`.
      intervals: name of a score of INTERVALS -> its 95 % bootstrap interval over
        images; empty for a single image.
    """

    model: str
    step: int
    dataset: str
    split: str
    table: LabelTable
    ids: tuple[str, ...]
    confusions: np.ndarray
    scores: dict[str, Any]
    intervals: dict[str, Interval]


def evaluate(
    run: Path,
    *,
    split: str | None = None,
    data_dir: Path | None = None,
    prepared_dir: Path | None = None,
) -> Evaluation:
    """Scores the weights that a run's results are of, from its checkpoint alone.

    Args:
      run: folder of the run.
      split: of its data set; None is the one that the run reported.
      data_dir: the data set's folder, if it lies elsewhere than when the run trained.
      prepared_dir: likewise of the prepared records.

    Raises:
      InputError: no checkpoint, no such split, or data with other classes.
      RuntimeError: the counts of device and host differ.
    """
    folder = run / "checkpoints"
    saved = checkpoint.read(folder)
    config = configuration.from_plain(saved.meta["config"])
    if config.select != "last":
        saved = checkpoint.read(folder, best=config.select)
    config = dataclasses.replace(
        config,
        data_dir=data_dir or config.data_dir,
        prepared_dir=prepared_dir or config.prepared_dir,
        init_from=None,
    )
    prepared = experiment.prepare(config)
    dataset = prepared.dataset
    names = tuple(saved.meta["labels"]["names"])
    if dataset.table.names != names:
        raise InputError(
            f"run {run} knows {len(names)} classes ({', '.join(names)}), but data set "
            f"{dataset.name!r} has {dataset.table.num_classes} "
            f"({', '.join(dataset.table.names)})"
        )
    split = split or prepared.report_split
    if split not in prepared.eval_sizes:
        raise InputError(
            f"split is {split!r}, expected one of {', '.join(prepared.eval_sizes)}"
        )
    ids, confusions = [], []
    classes = dataset.table.num_classes

    def visit(index: int, prediction: np.ndarray, label: np.ndarray) -> None:
        ids.append(dataset.splits[split][index]["id"])
        labelled = label != VOID
        cells = label[labelled].astype(np.int64) * classes + prediction[labelled]
        counts = np.bincount(cells, minlength=classes * classes)
        confusions.append(counts.reshape(classes, classes))

    scores, _ = experiment.score_split(
        prepared,
        jax.device_put({"params": saved.params, "batch_stats": saved.batch_stats}),
        split,
        visit=visit,
    )
    confusions = np.stack(confusions)
    # Counted twice, on the device and here.
    if not np.array_equal(confusions.sum(axis=0), scores["confusion"]):
        raise RuntimeError("the confusion counts of device and host differ")
    intervals = {}
    if len(confusions) > 1:
        intervals = {
            name: bootstrap_interval(
                confusions, score=lambda total, name=name: metrics.scores(total)[name]
            )
            for name in INTERVALS
        }
    return Evaluation(
        model=config.model,
        step=saved.step,
        dataset=dataset.name,
        split=split,
        table=dataset.table,
        ids=tuple(ids),
        confusions=confusions,
        scores=scores,
        intervals=intervals,
    )
