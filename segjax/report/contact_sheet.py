"""A contact sheet: what a data set looks like, and how often its classes occur."""

import concurrent.futures
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from segjax.data.labels import VOID, LabelTable, colorize
from segjax.data.source import Example, Source, checked
from segjax.errors import InputError
from segjax.whole_file import whole_file

VOID_STRIPES = ((98, 98, 98), (158, 158, 158))
"""Void is drawn in diagonal stripes of two greys, which no class has."""

_INK = "#222222"
_FAINT = "#6a6a6a"


@dataclasses.dataclass(frozen=True)
class Sheet:
    """What a contact sheet shows of one split.

    Attributes:
      title: e.g. "camvid, train".
      table: names and colours of the classes.
      examples: that are shown, not larger than asked for.
      sizes: (height, width) of each as it is in the data set.
      total: examples of the split.
      counted: of them, whose pixels were counted.
      pixels: labelled pixels by class in the counted examples, int64 `[k]`.
      images: counted examples in which a class occurs, int64 `[k]`.
      void: unlabelled pixels of the counted examples.
    """

    title: str
    table: LabelTable
    examples: tuple[Example, ...]
    sizes: tuple[tuple[int, int], ...]
    total: int
    counted: int
    pixels: np.ndarray
    images: np.ndarray
    void: int

    @property
    def shares(self) -> np.ndarray:
        """Share of each class in the labelled pixels, float64 `[k]`."""
        return self.pixels / max(int(self.pixels.sum()), 1)

    @property
    def void_share(self) -> float:
        """Share of void in all pixels."""
        return self.void / max(int(self.pixels.sum()) + self.void, 1)


def choose(
    length: int, count: int, *, first: int | None = None, seed: int | None = None
) -> list[int]:
    """Which examples of a split to show, in order.

    Args:
      length: of the split.
      count: how many, at least 1; fewer if there are fewer.
      first: the first of as many in a row.
      seed: draws them; with neither they are spread evenly over the split.

    Raises:
      InputError: `first` and `seed` together, or one out of range.
    """
    if count < 1:
        raise InputError(f"count {count}: expected at least 1")
    if first is not None and seed is not None:
        raise InputError("first and seed exclude each other")
    if first is not None:
        if not 0 <= first < length:
            raise InputError(f"first {first}: expected 0..{length - 1}")
        return list(range(first, min(first + count, length)))
    count = min(count, length)
    if seed is not None:
        if seed < 0:
            raise InputError(f"seed {seed}: expected 0 or more")
        drawn = np.random.default_rng(seed).choice(length, count, replace=False)
        return sorted(int(index) for index in drawn)
    return [(2 * i + 1) * length // (2 * count) for i in range(count)]


def make_sheet(
    source: Source,
    indices: Sequence[int],
    *,
    table: LabelTable,
    title: str,
    most: int = 2000,
    max_side: int = 640,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> Sheet:
    """Reads the examples of a contact sheet and counts classes.

    Args:
      source: a split.
      indices: of the examples to show.
      table: its classes.
      title: above the sheet.
      most: how many examples to count at most, spread evenly over the split.
      max_side: pixels of the longer side that examples are shown with at most.
      progress: called with the examples read, and all.

    Raises:
      InputError: the source is empty, or an example cannot be read; `most` or
        `max_side` is too small.
    """
    if not len(source):
        raise InputError(f"{title}: no examples")
    if most < 1 or max_side < 16:
        raise InputError(
            f"most {most}, max_side {max_side}: expected at least 1 and 16"
        )
    counted = choose(len(source), most)
    total = len(counted) + len(indices)
    histograms = []
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for values in pool.map(lambda index: _histogram(source[index]), counted):
            histograms.append(values)
            progress(len(histograms), total)
    counts = np.array(histograms, np.int64)
    examples = [checked(source[index]) for index in indices]
    progress(total, total)
    classes = counts[:, : table.num_classes]
    return Sheet(
        title=title,
        table=table,
        examples=tuple(_smaller(example, max_side) for example in examples),
        sizes=tuple(example["label"].shape for example in examples),
        total=len(source),
        counted=len(counted),
        pixels=classes.sum(axis=0),
        images=(classes > 0).sum(axis=0),
        void=int(counts[:, VOID].sum()),
    )


def striped(label: np.ndarray, table: LabelTable) -> np.ndarray:
    """A label in its classes' colours and void in stripes, uint8 `[h w 3]`.

    Raises:
      InputError: a value is neither a class of the table nor void.
    """
    height, width = label.shape
    period = stripe_width((height, width))
    which = (np.add.outer(np.arange(height), np.arange(width)) // period) % 2
    stripes = np.asarray(VOID_STRIPES, np.uint8)[which]
    return np.where((label == VOID)[..., None], stripes, colorize(label, table))


def stripe_width(size: tuple[int, int]) -> int:
    """Pixels across a stripe in a picture of (height, width)."""
    return max(1, round(max(size) / 80))


def counting_note(sheet: Sheet) -> str:
    """One line: how many examples are shown and which were counted."""
    counted = (
        "classes counted in all"
        if sheet.counted == sheet.total
        else f"classes counted in {sheet.counted:,}, spread evenly"
    )
    return (
        f"{len(sheet.examples)} of {sheet.total:,} examples, {counted}; "
        f"{sheet.void_share:.2%} of the pixels void"
    )


def draw_sheet(path: Path, sheet: Sheet) -> Path:
    """Writes the sheet as a PNG: images beside labels, below them the classes' bars.

    Args:
      path: of the PNG; its folder is made. Written whole or not at all.
      sheet: what to show.

    Returns:
      `path`.

    Raises:
      InputError: the file cannot be written.
    """
    count = len(sheet.examples)
    ratio = float(
        np.median([height / width for height, width in sheet.sizes])
    )  # of the cells
    across = min(2 if ratio > 0.5 else 1, count)
    rows = -(-count // across)
    width = 13.0 if across == 2 else 10.0
    cell = width / (2 * across)
    entries = sheet.table.num_classes + (1 if sheet.void else 0)
    columns = min(4 if width > 12 else 3, -(-entries // 6))
    lines = -(-entries // columns)
    pictures, bars = rows * (cell * ratio + 0.24), 0.21 * lines + 0.45
    figure = Figure(figsize=(width, pictures + bars + 0.8), dpi=110)
    FigureCanvasAgg(figure)
    height = figure.get_figheight()
    figure.text(
        0.1 / width, 1 - 0.16 / height, sheet.title, va="top", fontsize=14, color=_INK
    )
    figure.text(
        0.1 / width,
        1 - 0.45 / height,
        counting_note(sheet),
        va="top",
        fontsize=9,
        color=_FAINT,
    )
    for number, (example, size) in enumerate(
        zip(sheet.examples, sheet.sizes, strict=True)
    ):
        row, column = divmod(number, across)
        bottom = height - 0.75 - (row + 1) * (cell * ratio + 0.24)
        for part, picture in enumerate(
            (example["image"], striped(example["label"], sheet.table))
        ):
            left = (2 * column + part) * cell + 0.05
            axes = figure.add_axes(
                (
                    left / width,
                    bottom / height,
                    (cell - 0.1) / width,
                    cell * ratio / height,
                )
            )
            axes.imshow(picture, interpolation="nearest" if part else "antialiased")
            axes.set_axis_off()
            axes.set_anchor("NW")
            if not part:
                axes.set_title(
                    f"{_short(example['id'])}  {size[0]}x{size[1]}",
                    loc="left",
                    fontsize=8,
                    color=_FAINT,
                    pad=3,
                )
    for column in range(columns):
        chunk = range(column * lines, min((column + 1) * lines, entries))
        left, name = column / columns, 0.42 / columns
        share = len(chunk) / lines
        top = (bars - 0.3) / height
        axes = figure.add_axes(
            (
                left + name,
                top - (0.21 * lines * share) / height + 0.05 / height,
                0.36 / columns,
                0.21 * lines * share / height,
            )
        )
        _draw_bars(axes, sheet, chunk)
    with whole_file(path) as scratch:
        figure.savefig(scratch, format="png")
    return path


def _draw_bars(axes: Axes, sheet: Sheet, entries: range) -> None:
    """Bars of the classes `entries`, whose last one may be void."""
    k = sheet.table.num_classes
    largest = max(float(sheet.shares.max()), sheet.void_share, 1e-9)
    for line, index in enumerate(entries):
        void = index == k
        share = sheet.void_share if void else float(sheet.shares[index])
        color = VOID_STRIPES[0] if void else sheet.table.colors[index]
        style = {"hatch": "////"} if void else {}
        rgb = np.asarray(color) / 255.0
        axes.barh(
            line, share, 0.72, facecolor=rgb, edgecolor="#888888", lw=0.5, **style
        )
        # The class's colour stays visible where its bar is too short for it.
        axes.barh(
            line,
            -0.09 * largest,
            0.72,
            left=-0.04 * largest,
            facecolor=rgb,
            edgecolor="#888888",
            lw=0.5,
            **style,
        )
        absent = not void and not sheet.pixels[index]
        text = "none" if absent else f"{share:.2%}" if share >= 1e-4 else f"{share:.0e}"
        if void:
            text += " of all pixels"
        axes.text(
            share + 0.03 * largest,
            line,
            text,
            va="center",
            fontsize=7.5,
            color=_FAINT,
        )
        axes.text(
            -0.17 * largest,
            line,
            "void" if void else _short(sheet.table.names[index], 26),
            va="center",
            ha="right",
            fontsize=8,
            color=_FAINT if absent else _INK,
        )
    axes.set_xlim(0, largest)
    axes.set_ylim(len(entries) - 0.4, -0.6)
    axes.set_axis_off()
    for artist in (*axes.patches, *axes.texts):
        artist.set_clip_on(False)


def _histogram(example: Example) -> np.ndarray:
    return np.bincount(checked(example)["label"].ravel(), minlength=VOID + 1)


def _smaller(example: Example, max_side: int) -> Example:
    """The example with its longer side at most `max_side`; labels by the nearest."""
    height, width = example["label"].shape
    if max(height, width) <= max_side:
        return example
    scale = max_side / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    image = Image.fromarray(example["image"])
    label = Image.fromarray(example["label"])
    return {
        **example,
        "image": np.asarray(image.resize(size, Image.Resampling.LANCZOS)),
        "label": np.asarray(label.resize(size, Image.Resampling.NEAREST)),
    }


def _short(text: str, most: int = 34) -> str:
    return text if len(text) <= most else f"…{text[1 - most :]}"
