"""Label taxonomies: a table that maps the classes of data sets to those of another one.

A CSV file (or TSV) with one row for each target class, in the order of the train ids,
and one column for each data set, which lists what becomes that class:

    class,   red, green, blue, camvid,   cityscapes
    road,    128, 64,    128,  Road,     road
    nature,  107, 142,   35,   Tree,     vegetation | terrain
    void,    ,    ,      ,     ,         train

Several names in a cell are parted by `|`, or stand in braces, `{vegetation, terrain}`.
Rows named `void` (or `unlabeled`) list what is ignored. Every class of a data set must be
listed, once. Colours may be missing, lines that start with `#` are comments, and columns
that no data set asks for do not matter. That is the form of MSeg's table of 194 classes
(Lambert et al., "MSeg: A Composite Dataset for Multi-domain Semantic Segmentation",
2020; `MSeg_master.tsv` of mseg-api), which is read as published: there the target's
column is `universal`.
"""

import csv
import dataclasses
import difflib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import TypeVar

import numpy as np

from segjax.data.labels import VOID, LabelTable, default_colors
from segjax.data.source import Example, Source
from segjax.errors import InputError

TARGETS = ("class", "universal")
VOIDS = ("void", "unlabeled")
_COLOR = ("red", "green", "blue")


@dataclasses.dataclass(frozen=True)
class Row:
    """A target class.

    Attributes:
      line: where it stands in the file.
      name: of the class; one of `VOIDS` for what is ignored.
      color: (red, green, blue) or None.
      cells: column -> names of a data set's classes.
    """

    line: int
    name: str
    color: tuple[int, int, int] | None
    cells: Mapping[str, tuple[str, ...]]


@dataclasses.dataclass(frozen=True)
class Taxonomy:
    """A table as read; `source` names its file in messages."""

    source: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]

    @property
    def classes(self) -> tuple[Row, ...]:
        """The rows of target classes, in the order of the train ids."""
        return tuple(row for row in self.rows if row.name not in VOIDS)


def shipped() -> tuple[str, ...]:
    """The names of the tables that come with segjax."""
    folder = resources.files("segjax.data").joinpath("taxonomies")
    names = (Path(str(file)) for file in folder.iterdir())
    return tuple(sorted(path.stem for path in names if path.suffix == ".csv"))


def read_taxonomy(file: Path | str) -> Taxonomy:
    """Reads a table: a file, or the name of one of `shipped()`.

    Raises:
      InputError: it cannot be read, or a line of it is wrong; the message names the line
        and what was expected.
    """
    if str(file) in shipped():
        folder = resources.files("segjax.data").joinpath("taxonomies")
        text = folder.joinpath(f"{file}.csv").read_text(encoding="utf-8")
        return _parse(text, f"taxonomy {file}", ",")
    path = Path(file).expanduser()
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: taxonomy cannot be read ({error}); expected a CSV or TSV file, or "
            f"{' or '.join(shipped())}"
        ) from error
    return _parse(text, str(path), "\t" if path.suffix.lower() == ".tsv" else ",")


def _parse(text: str, source: str, delimiter: str) -> Taxonomy:
    reader = csv.reader(text.splitlines(), delimiter=delimiter, skipinitialspace=True)
    header: list[str] | None = None
    target = ""
    rows: list[Row] = []
    try:
        for fields in reader:
            fields = [field.strip() for field in fields]
            if not any(fields) or fields[0].startswith("#"):
                continue
            where = f"{source}: line {reader.line_num}"
            if header is None:
                header, target = fields, _target_column(fields, where)
            else:
                rows.append(_row(header, fields, target, where, reader.line_num))
    except csv.Error as error:
        raise InputError(f"{source}: line {reader.line_num}: {error}") from error
    taxonomy = Taxonomy(source, tuple(header or ()), tuple(rows))
    if not taxonomy.classes:
        raise InputError(
            f"{source}: no class; expected a line of column names ('class' and the data "
            "sets) and one line for each class"
        )
    if len(taxonomy.classes) >= VOID:
        raise InputError(
            f"{source}: {len(taxonomy.classes)} classes; expected at most {VOID - 1}"
        )
    first: dict[str, int] = {}
    for row in taxonomy.classes:
        if first.setdefault(row.name, row.line) != row.line:
            raise InputError(
                f"{source}: line {row.line}: class {row.name!r} is listed twice, first in "
                f"line {first[row.name]}; expected one line for each class"
            )
    return taxonomy


def _target_column(header: list[str], where: str) -> str:
    for name in header:
        if name and header.count(name) > 1:
            raise InputError(f"{where}: column {name!r} is there twice")
    found = [name for name in TARGETS if name in header]
    if not found:
        raise InputError(
            f"{where}: no column 'class' (or 'universal') among {', '.join(header)}; "
            "expected it and one for each data set"
        )
    return found[0]


def _row(header, fields, target, where, line) -> Row:
    if len(fields) > len(header):
        raise InputError(
            f"{where}: {len(fields)} fields; expected {len(header)} as in the first line"
        )
    values = dict(zip(header, fields, strict=False))
    name = values.get(target, "")
    if not name:
        raise InputError(
            f"{where}: column {target!r} is empty; expected a class or void"
        )
    color = [values.get(part, "") for part in _COLOR]
    if any(color) and not all(
        c.isascii() and c.isdigit() and int(c) < 256 for c in color
    ):
        raise InputError(
            f"{where}: colour {', '.join(color)!r}; expected red, green and blue in 0..255"
        )
    cells = {
        column: _names(cell)
        for column, cell in values.items()
        if column not in (target, *_COLOR)
    }
    return Row(line, name, tuple(map(int, color)) if all(color) else None, cells)


def _names(cell: str) -> tuple[str, ...]:
    if cell.startswith("{") and cell.endswith("}"):
        parts = cell[1:-1].split(",")
    else:
        parts = cell.split("|")
    return tuple(part.strip() for part in parts if part.strip())


def target_ids(taxonomy: Taxonomy, table: LabelTable, *, column: str) -> np.ndarray:
    """What becomes of the train ids of a data set.

    Args:
      taxonomy: the table.
      table: of the data set.
      column: of the data set in the taxonomy.

    Returns:
      uint8 `[256]`: train id -> target's train id or `VOID`.

    Raises:
      InputError: no such column; a name in it that is no class of the data set, or is
        there twice; a class of the data set that is not in it.
    """
    source = taxonomy.source
    if column not in taxonomy.columns:
        raise InputError(
            f"{source}: no column {column!r}, only {', '.join(taxonomy.columns)}; "
            "expected one for the data set"
        )
    ids = np.full(VOID + 1, VOID, np.uint8)
    first: dict[str, int] = {}
    order = {row.name: index for index, row in enumerate(taxonomy.classes)}
    for row in taxonomy.rows:
        for name in row.cells.get(column, ()):
            where = f"{source}: line {row.line}, column {column!r}"
            if name not in table.names:
                raise InputError(f"{where}: {_stranger(name, table)}")
            if name in first:
                raise InputError(
                    f"{where}: {name!r} is mapped twice, first in line {first[name]}; "
                    "expected it once"
                )
            first[name] = row.line
            ids[table.names.index(name)] = order.get(row.name, VOID)
    missing = [name for name in table.names if name not in first]
    if missing:
        raise InputError(
            f"{source}: column {column!r} lacks {', '.join(map(repr, missing[:5]))}"
            f"{f' and {len(missing) - 5} more' if len(missing) > 5 else ''}; expected "
            "every class of the data set, in the row void if it is to be ignored"
        )
    return ids


def _stranger(name: str, table: LabelTable) -> str:
    folded = {known.lower(): known for known in table.names}
    near = difflib.get_close_matches(name.lower(), folded, n=1)
    if near:
        return (
            f"{name!r} is no class of the data set; did you mean {folded[near[0]]!r}?"
        )
    return (
        f"{name!r} is no class of the data set; expected one of "
        f"{', '.join(table.names[:12])}{', ...' if table.num_classes > 12 else ''}"
    )


def target_table(taxonomy: Taxonomy) -> LabelTable:
    """Names and colours of the target's classes; raw values are the train ids."""
    classes = taxonomy.classes
    return LabelTable(
        names=tuple(row.name for row in classes),
        colors=tuple(
            row.color or color
            for row, color in zip(classes, default_colors(len(classes)), strict=True)
        ),
        raw_ids={**{index: index for index in range(len(classes))}, VOID: VOID},
    )


def thin_targets(ids: np.ndarray, table: LabelTable, target: LabelTable) -> LabelTable:
    """`target` with the classes as thin that are made of thin ones only."""
    parts: dict[int, list[int]] = {}
    for train_id in range(table.num_classes):
        parts.setdefault(int(ids[train_id]), []).append(train_id)
    thin = tuple(
        name
        for index, name in enumerate(target.names)
        if index in parts and set(parts[index]) <= set(table.thin_ids)
    )
    return dataclasses.replace(target, thin=thin)


D = TypeVar("D")


def in_taxonomy(dataset: D, taxonomy: Taxonomy, *, column: str) -> D:
    """A data set (`segjax.data.datasets.Dataset`) in the classes of a taxonomy.

    Nothing is read: labels are looked up as they are.

    Raises:
      InputError: see `target_ids`.
    """
    ids = target_ids(taxonomy, dataset.table, column=column)
    return dataclasses.replace(
        dataset,
        table=thin_targets(ids, dataset.table, target_table(taxonomy)),
        splits={name: Remapped(each, ids) for name, each in dataset.splits.items()},
    )


class Remapped:
    """A source whose labels are looked up in a table as they are read."""

    def __init__(self, source: Source, ids: np.ndarray):
        """Wraps `source`; `ids` is uint8 `[256]`, train id -> train id or void."""
        self._source = source
        self._ids = ids

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Example:
        example = self._source[index]
        return {**example, "label": self._ids[example["label"]]}

    def __repr__(self) -> str:
        return f"Remapped({self._source!r})"

    def decoded_bytes(self) -> int:
        """See `segjax.data.cache`."""
        return self._source.decoded_bytes()
