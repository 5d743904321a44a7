"""Comparison: what an ablation measured, as plain values for tables and the page."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from segjax.costs import Costs
from segjax.data.labels import LabelTable

METRICS: Mapping[str, str] = {
    "miou": "mIoU",
    "pixel_accuracy": "pixel accuracy",
    "class_accuracy": "class accuracy",
    "boundary_f1": "boundary F1",
    "thin_iou": "IoU of thin classes",
}
"""Scores of the comparison, all shares in 0..1, and how they are titled."""


@dataclasses.dataclass(frozen=True)
class Strategy:
    """One row: a way back to image resolution, with its runs.

    Attributes:
      name: as on the command line, e.g. `unet:max_unpool+none`.
      description: one line for people.
      seeds: of its runs.
      scores: key of METRICS -> one value per seed; NaN where undefined.
      class_iou: per seed, the IoU of every class; NaN where it does not occur.
      costs: what it costs; None if that was not measured.
      published: what the paper reports for this decoder, or None: keys of METRICS
        as shares in 0..1, `parameters` (count), `milliseconds` and `storage` (the
        paper's multiplier).
      predictions: of the first seed, uint8 `[h w]` for every image of the viewer.
    """

    name: str
    description: str
    seeds: tuple[int, ...]
    scores: Mapping[str, tuple[float, ...]]
    class_iou: tuple[tuple[float, ...], ...]
    costs: Costs | None
    published: Mapping[str, float] | None
    predictions: tuple[np.ndarray, ...]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Everything the report shows.

    Attributes:
      title: of the report.
      command: that makes it again.
      split: what was scored, e.g. "camvid val, 101 images".
      settings: name -> value of the recipe, for people.
      published_settings: the same names for the paper's protocol, where it differs;
        empty where nothing published is compared with.
      environment: device, versions, date.
      notes: sentences that the reader must know (resolution, selection, policy).
      table: class names and colours.
      baseline: scores of calling every pixel the training set's commonest class.
      strategies: rows, the first one is what the others are compared with.
      image_ids: names of the images of the viewer.
      images: uint8 `[h w 3]` each.
      labels: uint8 `[h w]` each, 255 = void; may differ in size from the images.
    """

    title: str
    command: str
    split: str
    settings: Mapping[str, str]
    published_settings: Mapping[str, str]
    environment: Mapping[str, str]
    notes: tuple[str, ...]
    table: LabelTable
    baseline: Mapping[str, float]
    strategies: tuple[Strategy, ...]
    image_ids: tuple[str, ...]
    images: tuple[np.ndarray, ...]
    labels: tuple[np.ndarray, ...]
