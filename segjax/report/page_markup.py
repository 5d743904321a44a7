"""Pieces of markup for the report page: tables whose cells know what they are worth.

Everything that comes from outside goes through `escape`; a cell's `html` is markup
made here.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from html import escape

DASH = "&ndash;"
"""What stands where there is no number."""


@dataclasses.dataclass(frozen=True)
class Column:
    """One column: its title, and what its values are.

    Attributes:
      title: text of the head.
      kind: "text", "higher" or "lower" (numbers, which of them are better), or
        "number" (neither is).
      group: columns of equal group, side by side, share a head above.
    """

    title: str
    kind: str = "text"
    group: str = ""


@dataclasses.dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
      html: markup.
      value: that it is sorted by; None comes last.
      note: shown to who points at it.
      tint: strength of its shade in 0..1; None for none.
      best: whether it is set in bold.
    """

    html: str
    value: float | str | None = None
    note: str = ""
    tint: float | None = None
    best: bool = False


def number(
    value: float | None, show: Callable[[float | None], str], *, note: str = ""
) -> Cell:
    """A cell with a number; a dash that sorts last where there is none."""
    if value is None or math.isnan(value):
        return Cell(DASH)
    return Cell(print_signs(show(value)), value, note)


def embolden(
    cells: Sequence[Cell], best: Callable[[Sequence[float]], float]
) -> list[Cell]:
    """Marks the best value, by `max` or `min`, unless all are equal."""
    values = [cell.value for cell in cells if cell.value is not None]
    if len(set(values)) < 2:
        return list(cells)
    return [dataclasses.replace(c, best=c.value == best(values)) for c in cells]


def table(
    columns: Sequence[Column],
    rows: Sequence[Sequence[Cell]],
    *,
    label: str,
    foot: Sequence[Sequence[Cell]] = (),
    sortable: bool = True,
) -> str:
    """A table in a container that scrolls sideways; each row's first cell heads it."""
    body = "".join(_row(row, columns) for row in rows)
    feet = "".join(_row(row, columns) for row in foot)
    feet = f"<tfoot>{feet}</tfoot>" if feet else ""
    kind = ' class="sortable"' if sortable else ""
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(label)}">'
        f"<table{kind}><thead>{_head(columns)}</thead><tbody>{body}</tbody>{feet}"
        "</table></div>"
    )


def breakable(name: str) -> str:
    """A name as markup that may be broken after its punctuation."""
    text = escape(name)
    for sign in "_:+/":
        text = text.replace(sign, f"{sign}<wbr>")
    return text


def swatch(color: Sequence[int]) -> str:
    """A small square of a class's colour."""
    red, green, blue = (int(value) for value in color)
    return f'<i class="swatch" style="background:rgb({red},{green},{blue})"></i>'


def details(summary: str, body: str) -> str:
    """Folds `body` away under `summary`, both markup."""
    return f"<details><summary>{summary}</summary>{body}</details>"


def paragraph(sentences: Sequence[str]) -> str:
    """A paragraph of plain text in small type."""
    return f'<p class="note">{" ".join(escape(sentence) for sentence in sentences)}</p>'


def print_signs(text: str) -> str:
    """The signs of print for those of a terminal: 1.84x and -0.02."""
    if text.endswith("x"):
        return f"{escape(text[:-1])}&times;"
    return escape(text).replace("-", "&minus;")


def _head(columns: Sequence[Column]) -> str:
    def head(i: int, more: str = "") -> str:
        column = columns[i]
        return (
            f'<th scope="col" data-column="{i}" data-kind="{column.kind}"{more}>'
            f"{escape(column.title)}</th>"
        )

    grouped = [i for i, column in enumerate(columns) if column.group]
    if not grouped:
        return f"<tr>{''.join(head(i) for i in range(len(columns)))}</tr>"
    top, i = [], 0
    while i < len(columns):
        group = columns[i].group
        j = i + 1
        while group and j < len(columns) and columns[j].group == group:
            j += 1
        if group:
            top.append(
                f'<th scope="colgroup" class="group" colspan="{j - i}">'
                f"{escape(group)}</th>"
            )
        else:
            top.append(head(i, ' rowspan="2"'))
        i = j
    return f"<tr>{''.join(top)}</tr><tr>{''.join(map(head, grouped))}</tr>"


def _row(cells: Sequence[Cell], columns: Sequence[Column]) -> str:
    parts = []
    for i, (cell, column) in enumerate(zip(cells, columns, strict=True)):
        names = ["num"] if column.kind != "text" and i else []
        names += ["best"] if cell.best else []
        names += ["tinted"] if cell.tint is not None else []
        attributes = f' class="{" ".join(names)}"' if names else ""
        if cell.value is not None:
            attributes += f' data-value="{escape(str(cell.value))}"'
        if cell.note:
            attributes += f' title="{escape(cell.note)}"'
        if cell.tint is not None:
            attributes += f' style="--tint:{cell.tint:.3f}"'
        if i:
            parts.append(f"<td{attributes}>{cell.html}</td>")
        else:
            parts.append(f'<th scope="row"{attributes}>{cell.html}</th>')
    return f"<tr>{''.join(parts)}</tr>"
