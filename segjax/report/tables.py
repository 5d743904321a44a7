"""Tables of results, for the terminal."""

import dataclasses
import re
import textwrap
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from segjax.data.labels import LabelTable
from segjax.report import units
from segjax.report.comparison import Comparison
from segjax.report.grids import Grid, comparison_grids

WIDTH = 80
"""Columns of a terminal that the tables of a comparison fit."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One measured network.

    Attributes:
      name: of the network.
      scores: `segjax.metrics.scores`.
      parameters: trainable parameters; None where there are none to count.
      step_seconds: median wall time of a training step; None if not measured.
    """

    name: str
    scores: dict[str, Any]
    parameters: int | None
    step_seconds: float | None


def comparison_table(rows: Sequence[Row], *, title: str) -> Table:
    """One line per row; scores are shares in 0..1, "-" where not measured."""
    table = Table(title=title)
    table.add_column("network", no_wrap=True)
    for name in ("mIoU", "pixel acc", "class acc", "fwIoU", "params", "step ms"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            row.name,
            units.share(row.scores["miou"]),
            units.share(row.scores["pixel_accuracy"]),
            units.share(row.scores["class_accuracy"]),
            units.share(row.scores["fwiou"]),
            units.MISSING if row.parameters is None else f"{row.parameters:,}",
            units.milliseconds(row.step_seconds, unit=False),
        )
    return table


def class_table(rows: Sequence[Row], labels: LabelTable, *, title: str) -> Table:
    """IoU per class, one column per row; "-" where a class does not occur."""
    table = Table(title=title)
    table.add_column("class")
    for row in rows:
        table.add_column(row.name, justify="right")
    for i, name in enumerate(labels.names):
        table.add_row(name, *(units.share(row.scores["iou"][i]) for row in rows))
    return table


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Prints the tables of `comparison` for a terminal of 80 columns or more.

    Left out for brevity, but in the Markdown: the single differences with their p
    values and the single arrays that cross from encoder to decoder.

    Raises:
      InputError: the rows cannot be compared (`segjax.report.statistics.summarize`).
    """
    for grid in comparison_grids(comparison):
        if grid.key in ("differences", "border"):
            continue
        if grid.key == "classes":
            grid = _transposed(grid)
        console.print(rich_table(grid))
        for note in grid.notes:
            console.print(Text(note, style="dim"))
        console.print()
    for note in comparison.notes:
        console.print(Text(note))


def rich_table(grid: Grid, *, width: int = WIDTH) -> Table:
    """Draws a grid for a terminal of `width` columns or more."""
    table = Table(title=Text(grid.title), title_justify="left")
    if grid.prose:
        table.width = width
        table.show_lines = True
        for name in grid.columns:
            table.add_column(Text(name), overflow="fold")
        for row in grid.rows:
            table.add_row(*(Text("\n".join(cell)) for cell in row))
        return table
    headings = [
        textwrap.fill(name, 9, break_long_words=False) for name in grid.columns[1:]
    ]
    figures = [tuple("\n".join(cell) for cell in row[1:]) for row in grid.rows]
    # A column takes its widest line and three characters of border and padding.
    taken = 4 + sum(
        3 + max(len(line) for text in column for line in text.split("\n"))
        for column in zip(headings, *figures, strict=True)
    )
    names = [_folded(row[0][0], max(8, width - taken)) for row in grid.rows]
    table.add_column(Text(grid.columns[0]), no_wrap=True)
    for heading in headings:
        table.add_column(Text(heading), justify="right", no_wrap=True)
    tall = any("\n" in text for texts in figures for text in texts)
    for name, texts in zip(names, figures, strict=True):
        # A nameless row goes with the one before.
        if name and (tall or not all(names)):
            table.add_section()
        table.add_row(Text(name), *(Text(text) for text in texts))
    return table


def _transposed(grid: Grid) -> Grid:
    """Strategies as columns, by number where their names are too long for 80."""
    names = [row[0][0] for row in grid.rows]
    columns = names
    legend = ()
    if sum(max(6, len(name)) + 3 for name in names) > WIDTH - 16:
        columns = [str(i) for i in range(1, len(names) + 1)]
        numbered = zip(columns, names, strict=True)
        legend = ("; ".join(f"{number} = {name}" for number, name in numbered),)
    return Grid(
        key=grid.key,
        title=grid.title,
        columns=("class", *columns),
        rows=tuple(
            ((name,), *cells)
            for name, *cells in zip(
                grid.columns[1:], *(row[1:] for row in grid.rows), strict=True
            )
        ),
        notes=(*legend, *grid.notes),
    )


def _folded(name: str, width: int) -> str:
    """Breaks a long name after `_ : + -`, or anywhere if it has none."""
    lines = [""]
    for part in re.findall(r"[^_:+\-]*[_:+\-]|[^_:+\-]+", name):
        if lines[-1] and len(lines[-1]) + len(part) > width:
            lines.append("")
        lines[-1] += part
        while len(lines[-1]) > width:
            lines[-1:] = [lines[-1][:width], lines[-1][width:]]
    return "\n".join(lines)
