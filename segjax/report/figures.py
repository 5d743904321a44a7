"""Figures of an evaluation: the confusion matrix, the reliability diagram."""

from collections.abc import Sequence
from pathlib import Path

import chex
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from segjax import metrics
from segjax.calibration import calibration
from segjax.errors import InputError
from segjax.report import units
from segjax.whole_file import whole_file

_INK = "#222222"
_FAINT = "#9a9a9a"
_BLUE = "#2b6ca3"
_RED = "#d9534f"


def draw_confusion(
    path: Path, confusion: np.ndarray, *, names: Sequence[str], title: str = ""
) -> Path:
    """Writes the confusion matrix as a PNG.

    A row is a true class, and its cells say how its pixels are predicted, in percent of
    the row; the diagonal is the class's accuracy. Up to 12 classes the cells hold the
    numbers of pixels, too, and an empty cell holds none; of more classes, what is below
    half a percent is left out. A grey row is a class that the labels do not have. At
    the right, each class's IoU ("-" where it has none) and its labelled pixels.

    Args:
      path: of the PNG; its folder is made. Written whole or not at all.
      confusion: integer `[k k]`, rows the true class, columns the predicted one.
      names: of the k classes.
      title: above the picture.

    Returns:
      `path`.

    Raises:
      InputError: the number of names is not that of the classes, or the file cannot be
        written.
    """
    confusion = np.asarray(confusion)
    chex.assert_rank(confusion, 2)
    chex.assert_type(confusion, int)
    chex.assert_equal(*confusion.shape)
    k = len(confusion)
    if len(names) != k:
        raise InputError(f"confusion figure: {len(names)} names for {k} classes")
    true = confusion.sum(axis=1)
    shares = confusion / np.maximum(true, 1)[:, None]
    iou = metrics.scores(confusion)["iou"]

    # Inches and points that leave room for "100" in each cell, or "100.0" and a count.
    with_counts = k <= 12
    cell = 0.68 if with_counts else 0.42 if k <= 24 else 0.33
    points = 9.0 if with_counts else 7.5 if k <= 24 else 6.5
    side = max(cell * k, 2.0)
    longest = 0.085 * max(map(len, names))
    # The matrix fills the figure; what stands around it is added when it is saved.
    figure = Figure(figsize=(side, side), dpi=150)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="equal")

    def write(i: int, j: int, text: str, size: float, up: float, **style) -> None:
        axes.annotate(
            text,
            (j, i),
            (0, up),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=size,
            **style,
        )

    for i in range(k):
        if not true[i]:
            axes.axhspan(i - 0.5, i + 0.5, color="#ececec")
        for j in np.flatnonzero(confusion[i]):
            share = shares[i, j]
            # White on dark blue; what rounds to nothing steps back.
            color = "white" if share > 0.55 else _INK if share >= 0.005 else _FAINT
            weight = "bold" if i == j else "normal"
            style = {"color": color, "fontweight": weight}
            if with_counts:
                write(i, j, f"{100 * share:.1f}", points, 5.5, **style)
                count = units.count(int(confusion[i, j]))
                write(i, j, count, points - 3, -7.5, color=color)
            elif share >= 0.005:
                write(i, j, f"{100 * share:.0f}", points, 0, **style)

    axes.set_xticks(range(k), names, rotation=90 if longest > 0.9 * side / k else 0)
    axes.set_yticks(range(k), names)
    axes.tick_params(length=0, labelsize=max(points, 8))
    # Lines between the cells.
    axes.set_xticks(np.arange(k + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(k + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="#e2e2e2", linewidth=0.5)
    axes.tick_params(which="minor", length=0)
    axes.spines[:].set_color("#bbbbbb")
    axes.set_xlabel("predicted class", color=_INK)
    axes.set_ylabel("true class (a row is 100 %)", color=_INK)

    right = axes.secondary_yaxis("right")
    scores = zip(iou, true, strict=True)
    rows = [_columns(units.share(value), units.count(int(n))) for value, n in scores]
    size = max(points, 8) - 0.5
    right.set_yticks(range(k), rows)
    right.tick_params(length=0, pad=6, labelsize=size, labelfontfamily="monospace")
    right.spines[:].set_visible(False)
    axes.annotate(
        _columns("IoU", "pixels"),
        (k - 0.5, -0.5),
        (6, 5),
        textcoords="offset points",
        annotation_clip=False,
        fontsize=size,
        fontfamily="monospace",
        color=_INK,
    )
    axes.set_title(title, fontsize=11, pad=20 if title else 0)
    return _save(figure, path)


def draw_reliability(path: Path, counts: np.ndarray, *, title: str = "") -> Path:
    """Writes the reliability diagram as a PNG.

    Bars are the accuracy of the pixels in a bin of confidence, the red part what lies
    between it and their mean confidence: hanging below the diagonal where the network
    is too sure of itself, above where it is too modest. Below, the share of the pixels
    in each bin: a gap at 40 % confidence matters little if 1 % of the pixels have it.

    Args:
      path: of the PNG; its folder is made. Written whole or not at all.
      counts: integer `[M 3]` of `segjax.calibration.calibration_counts`.
      title: above the picture.

    Returns:
      `path`.

    Raises:
      InputError: no pixel was counted, or the file cannot be written.
    """
    curve = calibration(counts)
    if not curve.pixels.sum():
        raise InputError("reliability diagram: no pixel counted; expected at least one")
    bins = len(curve.pixels)
    filled = curve.pixels > 0
    centers = ((np.arange(bins) + 0.5) / bins)[filled]
    accuracy, confidence = curve.accuracy[filled], curve.confidence[filled]
    shares = curve.pixels[filled] / curve.pixels.sum()
    width = 0.94 / bins

    figure = Figure(figsize=(4.6, 5.8), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3.4, 1])
    upper.plot([0, 1], [0, 1], color=_FAINT, linestyle="--", linewidth=1, zorder=1)
    upper.bar(centers, accuracy, width, color=_BLUE, label="accuracy", zorder=2)
    upper.bar(
        centers,
        confidence - accuracy,
        width,
        bottom=accuracy,
        facecolor=(*_rgb(_RED), 0.35),
        edgecolor=_RED,
        linewidth=0.8,
        label="gap to mean confidence",
        zorder=3,
    )
    upper.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="share of pixels predicted right")
    upper.legend(loc="upper left", fontsize=8, frameon=False)
    upper.text(
        0.97,
        0.05,
        f"expected error {curve.expected_error:.3f}\n"
        f"maximum error {curve.maximum_error:.3f}",
        ha="right",
        va="bottom",
        fontsize=9,
        transform=upper.transAxes,
        bbox={"facecolor": "white", "edgecolor": "#cccccc", "alpha": 0.92},
        zorder=4,
    )
    lower.bar(centers, shares, width, color="#8fb3d1")
    lower.set(
        xlabel="confidence (probability of the predicted class)",
        ylabel="of all pixels",
        ylim=(0, 1.65 * shares.max()),  # the legend lies above the bars
    )
    lower.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    # The mean confidence and accuracy of all pixels: their distance is the bias.
    overall = np.sum(shares * confidence), np.sum(shares * accuracy)
    for value, color, name in zip(
        overall, (_RED, _BLUE), ("mean confidence", "accuracy"), strict=True
    ):
        lower.axvline(
            value,
            ymax=0.62,
            color=color,
            linewidth=1.4,
            label=f"{name} {100 * value:.1f} %",
        )
    lower.legend(loc="upper left", fontsize=8, frameon=False)
    for axes in (upper, lower):
        axes.grid(axis="y", color="#e6e6e6", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    if title:
        figure.suptitle(title, fontsize=11)
    return _save(figure, path)


def _columns(iou: str, pixels: str) -> str:
    """Two columns of text in a font of fixed width."""
    return f"{iou:>5} {pixels:>9}"


def _rgb(color: str) -> tuple[float, ...]:
    """'#d9534f' -> shares of red, green and blue."""
    return tuple(int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))


def _save(figure: Figure, path: Path) -> Path:
    """Writes a PNG, whole or not at all."""
    with whole_file(path) as scratch:
        figure.savefig(scratch, format="png", bbox_inches="tight", pad_inches=0.12)
    return path
