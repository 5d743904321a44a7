"""Cityscapes: 19 classes out of 34 labelIds."""

import miniatures
import numpy as np
import pytest
from miniatures import CITYSCAPES_IDS, drawn, save, values

from segjax.data.cityscapes import CITYSCAPES
from segjax.data.datasets import open_dataset
from segjax.errors import InputError

# labelId -> trainId, from the data set's paper and its labels.py.
TRAIN_IDS = dict(
    zip(
        (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33),
        range(19),
        strict=True,
    )
)


@pytest.fixture
def root(tmp_path):
    miniatures.cityscapes(tmp_path / "data")
    return tmp_path / "data"


def opened(root):
    return open_dataset(
        "cityscapes", data_dir=root, prepared_dir=root.parent / "prepared"
    )


def assert_fails(root, message):
    with pytest.raises(InputError, match=message) as caught:
        opened(root)
    assert "\n" not in str(caught.value)
    assert not (root.parent / "prepared").exists()


def test_table():
    assert CITYSCAPES.num_classes == 19
    assert CITYSCAPES.names[:3] == ("road", "sidewalk", "building")
    assert CITYSCAPES.names[16:] == ("train", "motorcycle", "bicycle")
    assert CITYSCAPES.colors[0] == (128, 64, 128)
    assert CITYSCAPES.colors[18] == (119, 11, 32)
    assert CITYSCAPES.raw_ids == {i: TRAIN_IDS.get(i, 255) for i in range(34)}


def test_label_ids_become_train_ids(root):
    splits = opened(root).splits
    assert {split: len(source) for split, source in splits.items()} == {
        "train": 2,
        "val": 1,
    }
    example = splits["train"][1]
    assert example["id"] == "bochum_000000_000313_leftImg8bit"
    np.testing.assert_array_equal(example["image"], drawn(1))
    raw = values(1, CITYSCAPES_IDS)
    np.testing.assert_array_equal(
        example["label"], np.vectorize(lambda i: TRAIN_IDS.get(i, 255))(raw)
    )


def test_train_ids_are_read_where_there_is_nothing_else(tmp_path):
    allowed = (*range(19), 255)
    miniatures.cityscapes(tmp_path / "data", ending="labelTrainIds", allowed=allowed)
    example = opened(tmp_path / "data").splits["val"][0]
    np.testing.assert_array_equal(example["label"], values(0, allowed))


def test_without_files_it_says_what_to_download(tmp_path):
    assert_fails(
        tmp_path / "x",
        r"no leftImg8bit/train; expected leftImg8bit_trainvaltest\.zip and gtFine_",
    )
    with pytest.raises(InputError, match=r"needs 'data_dir': leftImg8bit_trainva"):
        open_dataset("cityscapes", prepared_dir=tmp_path)


def test_missing_val(root):
    (root / "gtFine/val").rename(root / "elsewhere")
    assert_fails(root, r"gtFine/val: no such folder")


def test_image_without_label(root):
    name = "train/aachen/aachen_000000_000019_gtFine_labelIds.png"
    (root / "gtFine" / name).unlink()
    assert_fails(
        root, r"aachen_000000_000019_leftImg8bit\.png: no label; expected .*Ids"
    )


def test_label_without_image(root):
    name = "train/aachen/aachen_000000_000019_leftImg8bit.png"
    (root / "leftImg8bit" / name).unlink()
    assert_fails(
        root, r"aachen_000000_000019_gtFine_labelIds\.png: label without image"
    )


def test_city_on_one_side_only(root):
    (root / "leftImg8bit/train/ulm").mkdir()
    assert_fails(root, r"gtFine/train/ulm: no such folder")
    (root / "leftImg8bit/train/ulm").rmdir()
    (root / "gtFine/train/ulm").mkdir()
    assert_fails(root, r"gtFine/train/ulm: labels without images")


def test_unlisted_value(root):
    path = root / "gtFine/val/frankfurt/frankfurt_000000_000294_gtFine_labelIds.png"
    save(path, np.full((6, 8), 34, np.uint8))
    assert_fails(root, r"294_gtFine_labelIds\.png: label value 34 .*expected 0\.\.33")
