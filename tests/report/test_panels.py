"""Pictures show what they say."""

import numpy as np
from PIL import Image

from segjax.data.labels import VOID, LabelTable
from segjax.report.panels import draw_panels, error_map

TABLE = LabelTable(
    names=("sky", "road"),
    colors=((10, 200, 30), (200, 20, 220)),
    raw_ids={0: 0, 1: 1},
)


def test_error_map():
    label = np.array([[0, 1, VOID]], np.uint8)
    prediction = np.array([[0, 0, 1]], np.uint8)
    right, wrong, void = error_map(prediction, label)[0]
    assert right[0] == right[1] == right[2] > 200
    assert wrong[0] > 2 * wrong[1]
    assert void.tolist() == [0, 0, 0]


def test_panels_hold_the_class_colours_and_are_written(tmp_path):
    label = np.zeros((8, 12), np.uint8)
    label[4:] = 1
    pixels = draw_panels(
        tmp_path / "new" / "panel.png",
        images=[np.full((8, 12, 3), 77, np.uint8)] * 2,
        labels=[label] * 2,
        predictions={"a": [label] * 2, "b": [1 - label] * 2},
        table=TABLE,
    )
    written = np.asarray(Image.open(tmp_path / "new" / "panel.png").convert("RGB"))
    np.testing.assert_array_equal(written, pixels)
    # Of each colour two labels and four predictions are half full: 3 cells, and there
    # are 2 of images.
    cells = [(pixels == color).all(axis=-1).sum() for color in (*TABLE.colors, (77,))]
    sky, road, image = cells
    assert image > 1000
    assert 0.8 < sky / road < 1.25
    assert 0.95 < (sky + road) / (3 * image) < 1.05
