"""`python -m segjax data`: list, prepare, check, show."""

import dataclasses
import shlex
import sys
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from segjax.data.catalog import catalog
from segjax.data.datasets import DATASETS, Dataset, open_dataset
from segjax.data.mixing import read_mix
from segjax.data.perceptual_hash import NEAR
from segjax.data.prepared import prepared_root
from segjax.data.validation import Validation, validate
from segjax.errors import InputError

_MOST_LINES = 20

Name = Annotated[str, tyro.conf.Positional]


@dataclasses.dataclass(frozen=True)
class List:
    """Lists the data sets: classes, splits, how to get each, where it is prepared."""

    name: Annotated[str | None, tyro.conf.Positional] = None
    """Of one data set, to read all about it: what to put where, classes, licence."""

    prepared_dir: Path | None = None
    """Where prepared records lie. None is TFDS_DATA_DIR or ~/tensorflow_datasets."""


@dataclasses.dataclass(frozen=True)
class Prepare:
    """Writes the records that training reads, once; downloads what may be downloaded."""

    name: Name
    """Of the data set (`data list`), or a .toml file that mixes several."""

    data_dir: Path | None = None
    """Its folder as published. None downloads or draws it."""

    prepared_dir: Path | None = None
    """Where prepared records lie. None is TFDS_DATA_DIR or ~/tensorflow_datasets."""


@dataclasses.dataclass(frozen=True)
class Check:
    """Reads every file before a run does: sizes, label values, frequencies, copies.

    Names files that cannot be read, label values that are no class, and images that two
    splits have in common. The exit status is 1 if it finds an error, and 0 if it finds
    warnings only. Of a mixture, every data set is checked, each in its own classes.
    """

    name: Name
    """Of the data set, or a .toml file that mixes several."""

    data_dir: Path | None = None
    """Its folder as published. None downloads or draws it."""

    prepared_dir: Path | None = None
    """Where prepared records and downloads lie."""

    near: int = NEAR
    """Bits of 64 in which the hashes of two images may differ for them to count as
    looking the same."""

    all: bool = False
    """Print every finding, and not the first 20 of a kind."""


@dataclasses.dataclass(frozen=True)
class Show:
    """Writes a contact sheet: images beside labels, a legend, class frequencies."""

    name: Name
    """Of the data set, or a .toml file that mixes several."""

    data_dir: Path | None = None
    """Its folder as published. None downloads or draws it."""

    prepared_dir: Path | None = None
    """Where prepared records lie. None is TFDS_DATA_DIR or ~/tensorflow_datasets."""

    taxonomy: str | None = None
    """Table that maps the classes to others: a CSV or TSV file, or "urban"."""

    split: str = "train"
    """Which split."""

    count: int = 12
    """How many examples."""

    first: int | None = None
    """Show the examples from this one on, and not some spread over the split."""

    seed: int | None = None
    """Draw the examples at random."""

    output: Path | None = None
    """The sheet: .html (one file, no network) or .png. None is
    runs/data/NAME-SPLIT.html."""

    most: int = 2000
    """Examples whose classes are counted at most, spread over the split."""

    max_side: int = 640
    """Longer side in pixels at which examples are shown at most."""


Action = (
    Annotated[List, tyro.conf.subcommand("list")]
    | Annotated[Prepare, tyro.conf.subcommand("prepare")]
    | Annotated[Check, tyro.conf.subcommand("check")]
    | Annotated[Show, tyro.conf.subcommand("show")]
)


def data(
    action: tyro.conf.OmitSubcommandPrefixes[tyro.conf.OmitArgPrefixes[Action]],
) -> None:
    """Looks after data sets: lists them, prepares, checks and shows one.

    Args:
      action: what to do.
    """
    match action:
        case List():
            _list(action)
        case Prepare():
            _prepare(action)
        case Check():
            _check(action)
        case Show():
            _show(action)


def _list(options: List) -> None:
    console = Console()
    entries = {entry.name: entry for entry in catalog(options.prepared_dir)}
    if options.name is not None:
        if options.name not in entries:
            raise InputError(
                f"unknown data set {options.name!r}; known: {', '.join(DATASETS)}"
            )
        entry = entries[options.name]
        _print(console, entry.page)
        _print(console, "")
        if entry.data_dir:
            _print(console, f"--data-dir: {entry.data_dir}")
        if entry.classes:
            _print(console, f"classes: {', '.join(entry.classes)}")
        for folder in entry.prepared:
            _print(console, f"prepared: {folder}")
        return
    for entry in entries.values():
        classes = f"{len(entry.classes)} classes" if entry.classes else "your classes"
        counts = ", ".join(
            f"{count:,} {split}" for split, count in entry.splits.items()
        )
        counts = counts or f"{'' if entry.classes else 'your '}splits as in the files"
        lines = [f"{classes}; {counts}", entry.summary]
        how = {"downloads itself": "; or --data-dir: ", "drawn": ""}.get(
            entry.get, ": "
        )
        lines.append(f"{entry.get}{how}{entry.data_dir}")
        lines += [f"prepared in {folder}" for folder in entry.prepared]
        grid = Table.grid(padding=(0, 2))
        grid.add_column(no_wrap=True, min_width=14, style="bold")
        for number, line in enumerate(lines):
            grid.add_row("" if number else entry.name, Text(line, overflow="fold"))
        console.print(grid)
    root = prepared_root(options.prepared_dir)
    _print(console, f"\nprepared records go to {root}")
    _print(console, "data list NAME says what to put where; a .toml file mixes several")


def _print(console: Console, text: str) -> None:
    console.print(text, soft_wrap=True, highlight=False, markup=False)


def _prepare(options: Prepare) -> None:
    console = Console()
    dataset = _opened(options, console)
    for split, source in dataset.splits.items():
        console.print(
            f"{split}: {len(source):,} examples", soft_wrap=True, highlight=False
        )


def _opened(options: Prepare | Show, console: Console, **more) -> Dataset:
    """The data set of the options, prepared if need be, with a sign of life."""
    root = prepared_root(options.prepared_dir)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        bar.add_task(f"opening {options.name}, records in {root}")
        return open_dataset(
            options.name,
            data_dir=options.data_dir,
            prepared_dir=options.prepared_dir,
            **more,
        )


def _show(options: Show) -> None:
    # Here: matplotlib takes a second that the other actions need not wait for.
    from segjax.report.contact_page import write_contact_page
    from segjax.report.contact_sheet import choose, draw_sheet, make_sheet

    output = options.output
    if output is None:
        output = Path("runs/data") / f"{Path(options.name).stem}-{options.split}.html"
    if output.suffix.lower() not in (".html", ".png"):
        raise InputError(f"output {output}: expected a name that ends in .html or .png")
    console = Console()
    dataset = _opened(options, console, taxonomy=options.taxonomy)
    if options.split not in dataset.splits:
        raise InputError(
            f"split is {options.split!r}, expected one of {', '.join(dataset.splits)}"
        )
    source = dataset.splits[options.split]
    indices = choose(len(source), options.count, first=options.first, seed=options.seed)
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task(f"reading {options.split}", total=None)
        sheet = make_sheet(
            source,
            indices,
            table=dataset.table,
            title=f"{dataset.name}, {options.split}",
            most=options.most,
            max_side=options.max_side,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    if output.suffix.lower() == ".png":
        draw_sheet(output, sheet)
    else:
        write_contact_page(output, sheet, command=_command(options))
    console.print(f"{len(indices)} examples: {output}", soft_wrap=True, highlight=False)


def _command(options: Show) -> str:
    """The command line that `options` are of."""
    words = ["python", "-m", "segjax", "data", "show", options.name]
    for field in dataclasses.fields(options)[1:]:
        value = getattr(options, field.name)
        if value != field.default:
            words += [f"--{field.name.replace('_', '-')}", str(value)]
    return shlex.join(words)


def _check(options: Check) -> None:
    console = Console()
    errors = sum(_checked(each, console) for each in _members(options))
    if errors:
        sys.exit(1)


def _members(options: Check) -> list[Check]:
    """A check for each data set of a mixture, or the one that is asked for."""
    if not options.name.endswith(".toml"):
        return [options]
    if options.data_dir is not None:
        raise InputError(
            f"{options.name} names the folders of its data sets: expected no data_dir"
        )
    found = {(m.dataset, m.data_dir) for m in read_mix(Path(options.name)).members}
    return [
        dataclasses.replace(options, name=name, data_dir=folder)
        for name, folder in sorted(found, key=str)
    ]


def _checked(options: Check, console: Console) -> int:
    """Checks one data set, prints what was found, and returns the number of errors."""
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task(f"checking {options.name}", total=None)
        found = validate(
            options.name,
            data_dir=options.data_dir,
            prepared_dir=options.prepared_dir,
            near=options.near,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    _print(console, " ".join(map(str, filter(None, (options.name, options.data_dir)))))
    for table in (_split_table(found), _class_table(found)):
        console.print(table)
    for severity in ("error", "warning"):
        messages = [f.message for f in found.findings if f.severity == severity]
        shown = messages if options.all else messages[:_MOST_LINES]
        for message in shown:
            console.print(f"{severity}: {message}", soft_wrap=True, markup=False)
        if len(shown) < len(messages):
            more = len(messages) - len(shown)
            console.print(f"... and {more} {severity}s more (--all prints them)")
    warnings = len(found.findings) - found.errors
    console.print(f"{found.errors} errors, {warnings} warnings")
    return found.errors


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
