"""Tables of results, for the terminal."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from rich.table import Table

from segjax.data.labels import LabelTable


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
            _share(row.scores["miou"]),
            _share(row.scores["pixel_accuracy"]),
            _share(row.scores["class_accuracy"]),
            _share(row.scores["fwiou"]),
            "-" if row.parameters is None else f"{row.parameters:,}",
            "-" if row.step_seconds is None else f"{1000 * row.step_seconds:.0f}",
        )
    return table


def class_table(rows: Sequence[Row], labels: LabelTable, *, title: str) -> Table:
    """IoU per class, one column per row; "-" where a class does not occur."""
    table = Table(title=title)
    table.add_column("class")
    for row in rows:
        table.add_column(row.name, justify="right")
    for i, name in enumerate(labels.names):
        table.add_row(name, *(_share(row.scores["iou"][i]) for row in rows))
    return table


def _share(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"
