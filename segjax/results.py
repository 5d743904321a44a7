"""Result: what a run measured, as it is on disk."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from segjax.data.labels import LabelTable
from segjax.errors import InputError
from segjax.inference.label_files import read_label, write_label
from segjax.training.loop import json_scores
from segjax.training.workdir import write_json


@dataclasses.dataclass(frozen=True)
class Result:
    """What a run measured, as it is on disk.

    Attributes:
      workdir: folder of the run.
      split: the split that was scored.
      step: the step whose weights were scored.
      scores: of that split, see `segjax.scoring.score`; lists and floats, NaN where undefined.
      baseline: the scores of calling every pixel the training set's commonest class.
      bad_records: of the training split, skipped.
      parameters: trainable parameters.
      step_seconds: median wall time of one training step; None if none was timed.
      indices: which images of the split `predictions` are of.
      predictions: the network's predictions for them, uint8 `[h w]` each.
    """

    workdir: Path
    split: str
    step: int
    scores: dict[str, Any]
    baseline: dict[str, Any]
    bad_records: int
    parameters: int
    step_seconds: float | None
    indices: tuple[int, ...]
    predictions: tuple[np.ndarray, ...]


def write_result(result: Result, table: LabelTable) -> None:
    """Writes `predictions/` and then `result.json`, whose presence says "finished"."""
    (result.workdir / "predictions").mkdir(exist_ok=True)
    for index, prediction in zip(result.indices, result.predictions, strict=True):
        write_label(_prediction_file(result.workdir, index), prediction, table)
    write_json(
        result.workdir / "result.json",
        {
            "split": result.split,
            "step": result.step,
            "scores": json_scores(result.scores),
            "baseline": json_scores(result.baseline),
            "bad_records": result.bad_records,
            "parameters": result.parameters,
            "step_seconds": result.step_seconds,
            "indices": list(result.indices),
        },
    )


def read_result(workdir: Path) -> Result:
    """Reads what `write_result` left in a run's folder.

    Raises:
      InputError: the run has not finished, or its files are broken.
    """
    path = workdir / "result.json"
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        return Result(
            workdir=workdir,
            split=result["split"],
            step=result["step"],
            scores=_with_nan(result["scores"]),
            baseline=_with_nan(result["baseline"]),
            # Older results are of runs that skipped none.
            bad_records=result.get("bad_records", 0),
            parameters=result["parameters"],
            step_seconds=result["step_seconds"],
            indices=tuple(result["indices"]),
            predictions=tuple(
                read_label(_prediction_file(workdir, index))
                for index in result["indices"]
            ),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: not the result of a finished run ({error!r}): remove it to score "
            "the run again"
        ) from error


def _prediction_file(workdir: Path, index: int) -> Path:
    return workdir / "predictions" / f"{index:06d}.png"


def _with_nan(scores: dict[str, Any]) -> dict[str, Any]:
    """JSON has no NaN: undefined scores are null in files."""

    def value(x):
        if isinstance(x, list):
            return [value(v) for v in x]
        return math.nan if x is None else x

    return {name: value(x) for name, x in scores.items()}
