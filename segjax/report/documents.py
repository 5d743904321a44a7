"""The comparison as files: Markdown for people, CSV for other programs."""

import csv
import io
import re
from pathlib import Path

import numpy as np

from segjax.data.labels import LabelTable
from segjax.report.comparison import METRICS, Comparison, Strategy
from segjax.report.grids import Cell, Grid, comparison_grids
from segjax.whole_file import whole_file


def write_markdown(path: Path, comparison: Comparison) -> None:
    """Writes the report as GitHub Markdown, whole or not at all.

    The same tables as in the terminal, the single differences with their p values and
    the single arrays that cross from encoder to decoder, and the command, settings,
    environment and notes.

    Raises:
      InputError: the rows cannot be compared (`segjax.report.statistics.summarize`),
        or the file cannot be written.
    """
    parts = [f"# {_text(comparison.title)}", f"Scored on {_text(comparison.split)}."]
    parts.append(_fenced(comparison.command))
    if comparison.notes:
        parts.append("\n".join(f"- {_text(note)}" for note in comparison.notes))
    for grid in comparison_grids(comparison):
        parts += [f"## {_text(grid.title)}", _table(grid)]
        parts += [_text(note) for note in grid.notes]
    parts += ["## Strategies", _descriptions(comparison)]
    for title, values in (
        ("Settings", comparison.settings),
        ("Environment", comparison.environment),
    ):
        if values:
            rows = tuple(((name,), (value,)) for name, value in values.items())
            grid = Grid(title, title, ("name", "value"), rows, prose=True, codes=())
            parts += [f"## {title}", _table(grid)]
    write_text(path, "\n\n".join(parts) + "\n")


def write_csv(path: Path, comparison: Comparison) -> None:
    """Writes one line per strategy and seed, whole or not at all.

    Columns: `csv_columns`. Numbers have every digit, so that reading them back gives
    the same floats; NaN, a score that is not defined, is `nan`; a cost that was not
    measured is empty. Scores are shares in 0..1, bytes and seconds are not scaled.

    Raises:
      InputError: the file cannot be written.
    """
    stream = io.StringIO()
    writer = csv.DictWriter(stream, csv_columns(comparison.table), lineterminator="\n")
    writer.writeheader()
    for strategy in comparison.strategies:
        for i, seed in enumerate(strategy.seeds):
            scores = {m: float(strategy.scores[m][i]) for m in METRICS}
            ious = zip(
                comparison.table.names, map(float, strategy.class_iou[i]), strict=True
            )
            writer.writerow(
                {"strategy": strategy.name, "seed": seed}
                | scores
                | {f"iou: {name}": iou for name, iou in ious}
                | _costs(strategy)
            )
    write_text(path, stream.getvalue())


def csv_columns(table: LabelTable) -> list[str]:
    """Columns of `write_csv`: `strategy`, `seed`, METRICS, `iou: CLASS`, costs."""
    return ["strategy", "seed", *METRICS, *(f"iou: {n}" for n in table.names), *COSTS]


COSTS = (
    "parameters",
    "flops",
    "border_bytes",
    "train_memory_bytes",
    "inference_memory_bytes",
    "train_seconds",
    "inference_seconds",
    "train_ratio",
    "train_ratio_low",
    "train_ratio_high",
    "inference_ratio",
    "inference_ratio_low",
    "inference_ratio_high",
)
"""Columns of costs, of `segjax.costs.Costs`; the same for every seed of a strategy."""


def write_text(path: Path, text: str) -> None:
    """Writes `text` to `path` as UTF-8, making its folder; whole or not at all.

    Raises:
      InputError: the file cannot be written.
    """
    with whole_file(path) as scratch:
        scratch.write_text(text, encoding="utf-8", newline="")


def _costs(strategy: Strategy) -> dict[str, float | int | None]:
    costs = strategy.costs
    if costs is None:
        return dict.fromkeys(COSTS)
    values = (
        costs.parameters,
        costs.flops,
        costs.border_bytes,
        costs.train_memory,
        costs.inference_memory,
        costs.train_seconds,
        costs.inference_seconds,
        costs.train_ratio,
        *costs.train_spread,
        costs.inference_ratio,
        *costs.inference_spread,
    )
    # Python's own numbers: numpy's do not all print with every digit.
    return {
        name: value.item() if isinstance(value, np.generic) else value
        for name, value in zip(COSTS, values, strict=True)
    }


def _descriptions(comparison: Comparison) -> str:
    return "\n".join(
        f"- {_code(s.name)}: {_text(s.description)}" for s in comparison.strategies
    )


def _table(grid: Grid) -> str:
    """A table of GitHub Markdown; figures to the right, words to the left."""
    aligned = "---" if grid.prose else "---:"
    lines = [
        [_text(name) for name in grid.columns],
        ["---", *([aligned] * (len(grid.columns) - 1))],
        *([_cell(grid, i, c) for i, c in enumerate(row)] for row in grid.rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(grid: Grid, column: int, cell: Cell) -> str:
    if column in grid.codes:
        # Also within code a pipe would end the cell.
        return " ".join(_code(line).replace("|", r"\|") for line in cell)
    return " ".join(_text(line) for line in cell)


def _text(value: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    line = _SPECIAL.sub(r"\\\g<0>", " ".join(value.split()))
    return _LIST.sub(r"\1\\\2", line)


# An underscore within a word, a lone "<" and a lone "&" mean nothing to Markdown.
_SPECIAL = re.compile(
    r"[\\`*\[\]|~$]|(?<![^\W_])_|_(?![^\W_])|<(?=[A-Za-z/!?])|&(?=[#A-Za-z])|^[#>]"
)
_LIST = re.compile(r"^(\d*)([-+.)])(?= )")


def _code(value: str) -> str:
    """A code span: delimiters longer than any run of backticks within."""
    line = " ".join(value.split())
    if not line:
        return ""
    fence = "`" * (_longest_run(line) + 1)
    pad = " " if line[0] == "`" or line[-1] == "`" else ""
    return f"{fence}{pad}{line}{pad}{fence}"


def _fenced(value: str) -> str:
    fence = "`" * max(3, _longest_run(value) + 1)
    return f"{fence}\n{value}\n{fence}"


def _longest_run(value: str) -> int:
    return max((len(run) for run in re.findall("`+", value)), default=0)
