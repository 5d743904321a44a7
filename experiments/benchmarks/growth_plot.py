"""The picture of `growth.py`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from segjax.whole_file import whole_file

_COLORS = ("#2b6ca3", "#d9534f", "#3a8f5c", "#8a5ab5")
_LINES = {"training": "-", "inference": "--"}
_ROWS = {
    "seconds": ("time of a step (ms)", 1e-3),
    "temporaries": ("temporary memory (MB)", 1e6),
    "resident": ("growth of the process (MB)", 1e6),
}
_COLUMNS = {"image": "the image grows", "batch": "the batch grows"}


def draw(path: Path, curves: Sequence[dict[str, Any]]) -> None:
    """Writes a PNG with time and memory against the pixels of a step.

    Both axes are logarithmic, so that proportional growth is a line of slope 1; two grey
    ones are drawn, through the largest point of the highest and of the lowest curve.
    """
    figure = Figure(figsize=(9, 10), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(_ROWS), len(_COLUMNS), sharey="row", sharex="col")
    networks = list(dict.fromkeys(curve["network"] for curve in curves))
    colors = dict(zip(networks, _COLORS * len(networks), strict=False))
    for i, (figure_name, (label, unit)) in enumerate(_ROWS.items()):
        for j, (axis, title) in enumerate(_COLUMNS.items()):
            ends = []
            for curve in curves:
                if curve["axis"] != axis:
                    continue
                x = [_megapixels(point) for point in curve["points"]]
                y = [point[figure_name] / unit for point in curve["points"]]
                ends.append((y[-1], x[-1], x))
                axes[i, j].plot(
                    x,
                    y,
                    _LINES[curve["phase"]],
                    color=colors[curve["network"]],
                    marker="o",
                    markersize=4,
                )
            for y, x, all_x in (max(ends), min(ends)):
                line = np.array(all_x) * y / x
                axes[i, j].plot(all_x, line, ":", color="#888888", zorder=0)
            axes[i, j].set(xscale="log", yscale="log")
            _label_points(axes[i, j], next(c for c in curves if c["axis"] == axis))
            axes[i, j].grid(which="major", color="#e4e4e4")
            if i == 0:
                axes[i, j].set_title(title)
            if i == len(_ROWS) - 1:
                axes[i, j].set_xlabel("images of a step (millions of pixels)")
        axes[i, 0].set_ylabel(label)
    handles = [Line2D([], [], color=colors[name], label=name) for name in networks]
    handles += [
        Line2D([], [], color="black", linestyle=style, label=phase)
        for phase, style in _LINES.items()
    ]
    handles.append(
        Line2D([], [], color="#888888", linestyle=":", label="proportional growth")
    )
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    with whole_file(path) as scratch:
        figure.savefig(scratch, format="png")


def _label_points(axes, curve):
    """Names the sizes of one curve below the axis; U-Net's differ a little."""
    axes.set_xticks(
        [_megapixels(point) for point in curve["points"]],
        [
            f"{p['batch_size']} x {p['height']}x{p['width']}\n{_megapixels(p):.2g}"
            for p in curve["points"]
        ],
        fontsize=7,
    )
    axes.xaxis.set_minor_locator(NullLocator())


def _megapixels(point):
    return point["height"] * point["width"] * point["batch_size"] / 1e6
