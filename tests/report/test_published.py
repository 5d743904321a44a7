"""The paper's table is typed correctly, and the arithmetic beside it adds up."""

import numpy as np
import pytest

from segjax.report.comparison import METRICS
from segjax.report.published import (
    ARITHMETIC,
    STORAGE_REMARK,
    TABLE_1,
    published,
)

STEP = 25_000  # the paper's counts are rounded to this
CLASSIFIER = 64 * 11
ENCODER = 7 * 7 * 3 * 64 + 3 * 7 * 7 * 64 * 64


def test_column_sums():
    # Summed from another copy of the table.
    rows = TABLE_1.values()
    balanced = np.sum([row.median_frequency for row in rows], axis=0)
    natural = np.sum([row.natural_frequency for row in rows], axis=0)
    np.testing.assert_allclose(balanced, [652.0, 493.4, 373.0, 262.06], rtol=1e-9)
    np.testing.assert_allclose(natural, [667.8, 439.1, 364.7, 265.53], rtol=1e-9)
    assert sum(row.parameters for row in rows) == pytest.approx(8.65)
    assert sum(row.milliseconds for row in rows) == pytest.approx(299.6)
    assert [row.storage for row in rows] == [0, 1, 64, 1, 11, None, 64, 0]


def test_scores_are_ordered_as_they_must_be():
    for row in TABLE_1.values():
        for scores in (row.median_frequency, row.natural_frequency):
            pixel, class_accuracy, miou, boundary = scores
            # A class's IoU is at most its accuracy.
            assert 100 > pixel > class_accuracy > miou > boundary > 0


def test_published_gives_shares_and_counts():
    assert published("segnet_basic") == {
        "pixel_accuracy": 0.827,
        "class_accuracy": 0.62,
        "miou": 0.477,
        "boundary_f1": 0.3578,
        "parameters": 1_425_000,
        "milliseconds": 52.6,
        "storage": 1,
    }
    assert published("fcn_basic", training="natural_frequency")["miou"] == 0.45
    assert "storage" not in published("fcn_basic_no_addition")
    assert published("unet") is None
    for name in TABLE_1:
        keys = published(name).keys() - {"parameters", "milliseconds", "storage"}
        assert keys == METRICS.keys() - {"thin_iou"}


def test_counts_follow_from_the_layers():
    assert ENCODER == 611_520
    decoder = 4 * 7 * 7 * 64 * 64
    deconvolutions = 4 * 8 * 8 * 11 * 11
    wide = 4 * 8 * 8 * 64 * 64
    expected = {
        "bilinear_basic": ENCODER + CLASSIFIER,
        "segnet_basic": ENCODER + decoder + CLASSIFIER,
        "segnet_basic_encoder_addition": ENCODER + decoder + CLASSIFIER,
        "segnet_basic_single_channel": ENCODER + 4 * 7 * 7 * 64 + CLASSIFIER,
        "fcn_basic": ENCODER + 4 * CLASSIFIER + deconvolutions,
        "fcn_basic_no_addition": ENCODER + CLASSIFIER + deconvolutions,
        "fcn_basic_no_dim_reduction": ENCODER + wide + CLASSIFIER,
        "fcn_basic_no_addition_no_dim_reduction": ENCODER + wide + CLASSIFIER,
    }
    assert {name: c.parameters for name, c in ARITHMETIC.items()} == expected
    assert list(ARITHMETIC) == list(TABLE_1)


def rounded(count):
    return STEP * round(count / STEP)


@pytest.mark.parametrize("name", TABLE_1)
def test_a_remark_stands_where_the_paper_does_not_follow_and_only_there(name):
    paper = published(name)["parameters"]
    assert paper % STEP == 0
    follows = rounded(ARITHMETIC[name].parameters) == paper
    assert follows == (not ARITHMETIC[name].remark)


def test_what_the_remarks_say():
    bilinear = ARITHMETIC["bilinear_basic"].parameters
    norms = 4 * 2 * 64
    assert rounded(bilinear) == 600_000
    assert bilinear + norms == 612_736
    assert rounded(bilinear + norms) == 625_000
    wide = ARITHMETIC["fcn_basic_no_dim_reduction"].parameters
    # Rounding up, down or to the nearest, with the normalisation or without.
    for count in (wide, wide + norms, wide + 2 * norms):
        assert count // STEP * STEP > 1_625_000
    maps, few, indices = (n * 180 * 240 * 4 for n in (64, 11, 64 / 16))
    assert indices * 16 == maps
    for value in (maps, few, indices, 64 * 90 * 120 / 4):
        assert f"{value / 1e6:.2f} MB" in STORAGE_REMARK
