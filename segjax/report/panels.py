"""Pictures of predictions beside image and label."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from segjax.data.labels import VOID, LabelTable, colorize
from segjax.whole_file import whole_file

_WRONG = (214, 39, 40)
_RIGHT = (235, 235, 235)


def error_map(prediction: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Red where wrong, light grey where right, black where void: `[h w 3]` uint8."""
    wrong = (prediction != label)[..., None]
    picture = np.where(wrong, np.uint8(_WRONG), np.uint8(_RIGHT))
    return np.where((label == VOID)[..., None], np.uint8(0), picture)


def draw_panels(
    path: Path,
    *,
    images: Sequence[np.ndarray],
    labels: Sequence[np.ndarray],
    predictions: Mapping[str, Sequence[np.ndarray]],
    table: LabelTable,
    errors: bool = True,
    title: str = "",
) -> np.ndarray:
    """Writes a PNG with one row per image: image, label, predictions, errors.

    Args:
      path: of the PNG; its folder is made if missing. Written whole or not at all.
      images: uint8 `[h w 3]` each.
      labels: uint8 `[h w]` each, 255 = void; sizes may differ from the images'.
      predictions: column title -> uint8 `[h w]` each, of the labels' sizes.
      table: class names and colours, for the pictures and the legend.
      errors: after each prediction, a column with its wrong pixels in red.
      title: above the picture.

    Returns:
      The picture, uint8 `[H W 3]`.

    Raises:
      InputError: the file cannot be written.
    """
    # Here, because it is slow to load: every experiment imports this file, and none
    # draws before it has trained.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    columns: list[tuple[str, list[np.ndarray]]] = [
        ("image", list(images)),
        ("label", [colorize(label, table) for label in labels]),
    ]
    for name, rows in predictions.items():
        columns.append((name, [colorize(row, table) for row in rows]))
        if errors:
            wrong = [error_map(p, y) for p, y in zip(rows, labels, strict=True)]
            columns.append((f"{name}: errors", wrong))

    height, width = labels[0].shape
    cell = 2.4
    legend_rows = -(-len(table.names) // 6)
    figure = Figure(
        figsize=(
            cell * len(columns),
            cell * height / width * len(images) + 0.35 + 0.25 * legend_rows,
        ),
        dpi=100,
        layout="constrained",
    )
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots(len(images), len(columns), squeeze=False)
    for j, (name, pictures) in enumerate(columns):
        axes[0, j].set_title(name, fontsize=9)
        for i, picture in enumerate(pictures):
            axes[i, j].imshow(picture, interpolation="nearest", aspect="auto")
            axes[i, j].set_axis_off()
    figure.legend(
        handles=[
            Patch(facecolor=np.array(color) / 255.0, edgecolor="black", label=name)
            for name, color in zip(table.names, table.colors, strict=True)
        ],
        loc="outside lower center",
        ncols=6,
        fontsize=7,
        frameon=False,
    )
    if title:
        figure.suptitle(title, fontsize=10)
    with whole_file(path) as scratch:
        figure.savefig(scratch, format="png")
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
