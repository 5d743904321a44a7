"""`python -m segjax data`."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from segjax.data.perceptual_hash import NEAR
from segjax.data.validation import Validation, validate

_MOST_LINES = 20


def data(
    action: Annotated[Literal["check"], tyro.conf.Positional],
    name: Annotated[str, tyro.conf.Positional],
    data_dir: Path | None = None,
    prepared_dir: Path | None = None,
    near: int = NEAR,
    all: bool = False,
) -> None:
    """Looks after data sets: `data check NAME --data-dir FOLDER`.

    `check` reads every file before a run does: sizes, label values, frequencies of
    the classes, files that cannot be read, images that two splits have in common. The
    exit status is 1 if it finds an error, and 0 if it finds warnings only.

    Args:
      action: what to do.
      name: of the data set.
      data_dir: its folder as published.
      prepared_dir: where prepared records and downloads lie.
      near: bits of 64 in which the hashes of two images may differ for them to count
        as looking the same.
      all: print every finding, and not the first 20 of a kind.
    """
    del action  # there is one
    console = Console()
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task(f"checking {name}", total=None)
        found = validate(
            name,
            data_dir=data_dir,
            prepared_dir=prepared_dir,
            near=near,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    for table in (_split_table(found), _class_table(found)):
        console.print(table)
    for severity in ("error", "warning"):
        messages = [f.message for f in found.findings if f.severity == severity]
        shown = messages if all else messages[:_MOST_LINES]
        for message in shown:
            console.print(f"{severity}: {message}", soft_wrap=True, markup=False)
        if len(shown) < len(messages):
            more = len(messages) - len(shown)
            console.print(f"... and {more} {severity}s more (--all prints them)")
    warnings = len(found.findings) - found.errors
    console.print(f"{found.errors} errors, {warnings} warnings")
    if found.errors:
        sys.exit(1)


def _split_table(found: Validation) -> Table:
    table = Table("split", "examples", "unreadable", "sizes (height x width)", "void")
    for split, summary in found.splits.items():
        sizes = sorted(summary.sizes.items(), key=lambda item: -item[1])
        text = ", ".join(f"{h}x{w} ({count})" for (h, w), count in sizes[:3])
        if len(sizes) > 3:
            text += f", {len(sizes) - 3} more"
        pixels = summary.void + int(summary.pixels.sum())
        table.add_row(
            split,
            str(summary.examples),
            str(summary.unreadable),
            text,
            f"{summary.void / pixels:.2%}" if pixels else "",
        )
    return table


def _class_table(found: Validation) -> Table:
    table = Table("class", title="labelled pixels (images that have the class)")
    for split in found.splits:
        table.add_column(split, justify="right")
    for index, name in enumerate(found.table.names):
        cells = []
        for summary in found.splits.values():
            labelled = summary.pixels.sum()
            share = summary.pixels[index] / labelled if labelled else 0.0
            cells.append(f"{share:.2%} ({summary.images[index]})")
        table.add_row(name, *cells)
    return table
