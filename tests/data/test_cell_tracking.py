"""PhC-C2DH-U373 and DIC-C2DH-HeLa: numbers of cells to cell, background and void."""

import miniatures
import numpy as np
import pytest
from miniatures import drawn, save

from segjax.data.cell_tracking import cells_or_not
from segjax.data.datasets import open_dataset
from segjax.errors import InputError

NAMES = {"phc_u373": "PhC-C2DH-U373", "dic_hela": "DIC-C2DH-HeLa"}


def opened(root, name="phc_u373", **options):
    return open_dataset(
        name, data_dir=root, prepared_dir=root.parent / "prepared", **options
    )


def assert_fails(root, message, **options):
    with pytest.raises(InputError, match=message) as caught:
        opened(root, **options)
    assert "\n" not in str(caught.value)
    assert not (root.parent / "prepared").exists()


def expected_label():
    """Of `miniatures.cell_numbers`, by hand."""
    label = np.full(miniatures.CELL_SIZE, 255, np.uint8)
    label[50:-50, 50:-50] = 0
    label[52:57, 52:54] = 1  # columns 54 and 55 touch the other cell
    label[52:57, 56:58] = 1
    label[2:4, 3:6] = 1  # in the margin, but annotated
    return label


def test_cells_that_touch_are_parted():
    numbers = np.array(
        [
            [1, 1, 1, 0, 0, 0],
            [1, 1, 1, 2, 2, 0],
            [0, 0, 0, 2, 2, 0],
            [9, 9, 0, 2, 2, 0],
        ],
        np.int64,
    )
    expected = [
        [1, 1, 0, 0, 0, 0],
        [1, 1, 0, 0, 1, 0],
        [0, 0, 0, 0, 1, 0],
        [1, 1, 0, 1, 1, 0],
    ]
    np.testing.assert_array_equal(cells_or_not(numbers, margin=0), expected)


def test_margin_larger_than_the_image_is_all_void():
    numbers = np.zeros((4, 5), np.int64)
    numbers[1, 1] = 3
    label = cells_or_not(numbers, margin=50)
    assert label[1, 1] == 1
    assert (label == 255).sum() == 19


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("inside", [True, False])
def test_published_layout(tmp_path, name, inside):
    root = tmp_path / "data"
    miniatures.cell_tracking(root / NAMES[name] if inside else root)
    splits = opened(root, name).splits
    assert [len(source) for source in splits.values()] == [2, 2]  # silver truth
    example = splits["val"][1]
    assert example["id"] == "t001"
    grey = drawn(1, miniatures.CELL_SIZE)[..., 0]
    np.testing.assert_array_equal(example["image"], np.stack([grey] * 3, -1))
    np.testing.assert_array_equal(example["label"], expected_label())


def test_gold_truth_has_some_of_the_images(tmp_path):
    root = tmp_path / "data"
    miniatures.cell_tracking(root)
    splits = opened(root, truth="gold").splits
    assert [example["id"] for example in splits["train"]] == ["t001"]
    np.testing.assert_array_equal(splits["train"][0]["label"], expected_label())


def test_gold_truth_where_there_is_no_silver(tmp_path):
    root = tmp_path / "data"
    miniatures.cell_tracking(root, silver=False)
    assert [len(source) for source in opened(root).splits.values()] == [1, 1]


def test_no_silver_truth(tmp_path):
    root = tmp_path / "data"
    miniatures.cell_tracking(root, silver=False)
    assert_fails(root, r"01_ST/SEG: no such folder", truth="silver")


def test_unknown_truth(tmp_path):
    root = tmp_path / "data"
    miniatures.cell_tracking(root)
    assert_fails(root, "truth 'bronze'; expected silver or gold", truth="bronze")


def test_wrong_folder(tmp_path):
    assert_fails(
        tmp_path / "x", "no PhC-C2DH-U373 here: no folder 01; expected the tra"
    )


def test_label_without_image(tmp_path):
    root = tmp_path / "data"
    miniatures.cell_tracking(root)
    (root / "02/t001.tif").unlink()
    assert_fails(root, r"02_ST/SEG/man_seg001\.tif: label without image")


def test_label_of_another_name(tmp_path):
    root = tmp_path / "data"
    miniatures.cell_tracking(root)
    (root / "01_ST/SEG/man_seg001.tif").rename(root / "01_ST/SEG/mask001.tif")
    assert_fails(root, r"mask001\.tif: expected a name like man_seg000\.tif")


def test_colour_label(tmp_path):
    root = tmp_path / "data"
    miniatures.cell_tracking(root)
    save(root / "01_ST/SEG/man_seg000.tif", drawn(0, miniatures.CELL_SIZE))
    assert_fails(root, r"man_seg000\.tif: label has pixel mode RGB; expected one chann")


def test_label_of_another_size(tmp_path):
    root = tmp_path / "data"
    miniatures.cell_tracking(root)
    save(root / "01_ST/SEG/man_seg000.tif", np.zeros((5, 5), np.uint16))
    assert_fails(root, r"man_seg000\.tif: label is 5x5 .* is 110x112; expected equal")
