"""A comparison small enough to work out by hand, for the tests of the page."""

import dataclasses

import numpy as np

from segjax.costs import Costs, Tensor
from segjax.data.labels import VOID, LabelTable
from segjax.report.comparison import METRICS, Comparison, Strategy

TABLE = LabelTable(
    names=("sky", "road", "<i>pole</i>"),
    colors=((0, 0, 0), (200, 20, 220), (10, 200, 30)),
    raw_ids={0: 0, 1: 1, 2: 2},
)

# Left half sky, right half road, the last row void: 16 x 12 pixels, 176 labelled.
LABEL = np.zeros((12, 16), np.uint8)
LABEL[:, 8:] = 1
LABEL[11] = VOID


def shifted(columns: int, *, void: int = 2) -> np.ndarray:
    """LABEL with the boundary moved to the right: 11 * columns pixels are wrong."""
    prediction = np.zeros((12, 16), np.uint8)
    prediction[:, 8 + columns :] = 1
    prediction[11] = void
    return prediction


# Columns by which each strategy (row) is off in each image. Images where all agree in
# the wrong count as no disagreement; that of the others is the range of the columns.
SHIFTS = ((1, 0, 3), (1, 0, 0), (1, 2, 1))
IMAGE_IDS = ("b</script><script>alert(1)</script>", "c", "a")
DISAGREEMENT = tuple(11 * columns / 176 for columns in (0, 2, 3))

COSTS = Costs(
    parameters=1_415_040,
    flops=12.34e9,
    border=(Tensor("switches/2", "uint8[1,180,240,16]", 691_200),),
    train_memory=2_500_000_000,
    inference_memory=150_000_000,
    train_seconds=0.5,
    inference_seconds=0.0526,
    train_ratio=1.0,
    inference_ratio=1.0,
    train_spread=(1.0, 1.0),
    inference_spread=(1.0, 1.0),
)


def strategy(name: str, *, index: int = 0, seeds: int = 3, offset: float = 0.0):
    """A row whose mIoU is 0.5, 0.6, 0.7 (and so on) plus `offset`."""
    runs = [0.5 + 0.1 * i + offset for i in range(seeds)]
    scores = {metric: tuple(runs) for metric in METRICS}
    scores["thin_iou"] = (float("nan"),) * seeds
    slower = dataclasses.replace(
        COSTS,
        inference_seconds=COSTS.inference_seconds * (1 + index),
        inference_ratio=1.0 + index,
        inference_spread=(0.9 + index, 1.2 + index),
    )
    return Strategy(
        name=name,
        description="a way & back",
        seeds=tuple(range(seeds)),
        scores=scores,
        class_iou=tuple((run, 0.25, float("nan")) for run in runs),
        costs=slower,
        published=None,
        predictions=tuple(shifted(columns) for columns in SHIFTS[index % 3]),
    )


def comparison(**changes) -> Comparison:
    """Three strategies, three seeds, three images twice as large as their labels."""
    first = strategy("first")
    # Better by 0.10, 0.11 and 0.12: t = 0.11 / (0.01 / sqrt(3)) = 19.05, 2 degrees of
    # freedom.
    second = strategy("seg<b>net</b>", index=1)
    better = {m: (0.60, 0.71, 0.82) for m in METRICS}
    second = dataclasses.replace(second, scores=better)
    third = strategy("third", index=2, offset=-0.25)
    image = np.full((24, 32, 3), 90, np.uint8)
    fields = {
        "title": "An <ablation>",
        "command": "python ablation.py --seeds 0 1 2 > 'log & more'",
        "split": "val, 3 images",
        "settings": {"batch size": "4", "optimiser": "SGD"},
        "published_settings": {},
        "environment": {"device": "<cpu>"},
        "notes": ("Trained at half resolution & scored at full.",),
        "table": TABLE,
        "baseline": {"miou": 0.125, "pixel_accuracy": 0.25, "thin_iou": float("nan")},
        "strategies": (first, second, third),
        "image_ids": IMAGE_IDS,
        "images": (image, image // 2, image // 3),
        "labels": (LABEL, LABEL, LABEL),
    }
    return Comparison(**{**fields, **changes})
