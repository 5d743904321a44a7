"""An evaluation as files: JSON and CSV for programs, Markdown and figures for people."""

import csv
import io
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from segjax.errors import InputError
from segjax.evaluation import POLICY, Evaluation
from segjax.evaluation_scores import image_scores
from segjax.policies import Policy
from segjax.report.documents import write_text
from segjax.report.evaluation_tables import SCORES, evaluation_grids
from segjax.report.figures import draw_confusion, draw_reliability
from segjax.report.grids import Grid
from segjax.training.loop import json_scores

CLASS_SCORES = (
    "pixels",
    "share",
    "iou",
    "dice",
    "accuracy",
    "precision",
    "class_boundary_f1",
    "class_boundary_iou",
)
"""Scores by class that are one number; those not measured are left out."""


def check_folder(folder: Path) -> None:
    """Makes `folder` and makes sure that files can be written there.

    Raises:
      InputError: they cannot.
    """
    probe = folder / ".writable.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"{folder}: cannot be written: {reason}") from error


def write_evaluation(
    folder: Path, result: Evaluation, *, policies: Sequence[Policy] = ()
) -> tuple[Path, ...]:
    """Writes an evaluation into a folder, each file whole or not at all.

    `evaluation.json` holds everything, `evaluation.md` the tables for people;
    `scores.csv` has a line per score, `classes.csv` per class, `images.csv` per image;
    `confusion.png` is the confusion matrix, `reliability.png` (with calibration) the
    reliability diagram. Numbers have every digit. What is not defined is null in JSON
    and empty in CSV.

    Args:
      folder: made if missing.
      result: what to write.
      policies: other tools' rules, whose mIoU is written, too.

    Returns:
      The files.

    Raises:
      InputError: a file cannot be written.
    """
    texts = {
        "evaluation.json": _json(result, policies),
        "evaluation.md": _markdown(evaluation_grids(result, policies=policies)),
        "scores.csv": _csv(_score_lines(result)),
        "classes.csv": _csv(_class_lines(result)),
        "images.csv": _csv(_image_lines(result)),
    }
    for name, text in texts.items():
        write_text(folder / name, text)
    title = f"{result.model}, step {result.step}: {result.dataset} {result.split}"
    files = [folder / name for name in texts]
    files.append(
        draw_confusion(
            folder / "confusion.png",
            result.confusions.sum(axis=0),
            names=result.table.names,
            title=title,
        )
    )
    calibration = result.counts.calibration
    if calibration is not None and calibration[..., 0].sum():
        total = calibration.sum(axis=0)
        files.append(draw_reliability(folder / "reliability.png", total, title=title))
    return tuple(files)


def _json(result: Evaluation, policies: Sequence[Policy]) -> str:
    value = {
        "model": result.model,
        "step": result.step,
        "dataset": result.dataset,
        "split": result.split,
        "classes": list(result.table.names),
        "policy": POLICY,
        "scores": result.scores,
        "intervals": {
            name: {"low": i.low, "high": i.high, "level": i.level}
            for name, i in result.intervals.items()
        },
        "policies": {policy.name: policy(result.confusions) for policy in policies},
    }
    if result.counts.calibration is not None:
        value["calibration_counts"] = result.counts.calibration.sum(axis=0)
    return json.dumps(json_scores(value), indent=2, allow_nan=False) + "\n"


def _score_lines(result: Evaluation) -> list[dict]:
    lines = []
    for name in SCORES:
        if name in result.scores:
            interval = result.intervals.get(name)
            ends = (None, None) if interval is None else (interval.low, interval.high)
            value = result.scores[name]
            lines.append(
                {"score": name, "value": value, "low": ends[0], "high": ends[1]}
            )
    return lines


def _class_lines(result: Evaluation) -> list[dict]:
    fields = [name for name in CLASS_SCORES if name in result.scores]
    lines = []
    for i, name in enumerate(result.table.names):
        line = {"class": name} | {field: result.scores[field][i] for field in fields}
        for group in ("size_iou", "size_recall"):
            if group in result.scores:
                kind = group.removeprefix("size_")
                sizes = zip(
                    ("small", "medium", "large"), result.scores[group][i], strict=True
                )
                line |= {f"{kind}_{size}": value for size, value in sizes}
        lines.append(line)
    return lines


def _image_lines(result: Evaluation) -> list[dict]:
    columns = image_scores(result.counts)
    return [
        {"id": name} | {field: values[i].item() for field, values in columns.items()}
        for i, name in enumerate(result.ids)
    ]


def _csv(lines: list[dict]) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    for line in lines:
        # NaN is the one value that is not equal to itself.
        writer.writerow({k: None if v != v else v for k, v in line.items()})
    return stream.getvalue()


def _markdown(grids: Iterable[Grid]) -> str:
    parts = []
    for level, grid in enumerate(grids):
        rows = [
            grid.columns,
            ["---", *["---:"] * (len(grid.columns) - 1)],
            *([" ".join(cell) for cell in row] for row in grid.rows),
        ]
        table = [
            f"| {' | '.join(row if i == 1 else map(_escaped, row))} |"
            for i, row in enumerate(rows)
        ]
        heading = f"{'##' if level else '#'} {_escaped(grid.title)}"
        parts += [heading, "\n".join(table), *map(_escaped, grid.notes)]
    return "\n\n".join(parts) + "\n"


def _escaped(text: str) -> str:
    """Text that Markdown shows as it is."""
    return re.sub(r"([\\`*_\[\]|~$<&#>])", r"\\\1", " ".join(text.split()))
