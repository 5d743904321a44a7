"""Pascal VOC 2012 and its extension by SBD."""

import miniatures
import numpy as np
import pytest
import scipy.io
from miniatures import VOC_VALUES, drawn, sbd_label, values

from segjax.data.datasets import open_dataset
from segjax.data.labels import default_colors
from segjax.data.pascal_voc import PASCAL_VOC
from segjax.errors import InputError


@pytest.fixture
def root(tmp_path):
    miniatures.pascal_voc(tmp_path / "data")
    miniatures.sbd(tmp_path / "data")
    return tmp_path / "data"


def opened(name, root):
    return open_dataset(name, data_dir=root, prepared_dir=root.parent / "prepared")


def assert_fails(name, root, message):
    with pytest.raises(InputError, match=message) as caught:
        opened(name, root)
    assert "\n" not in str(caught.value)
    assert not (root.parent / "prepared").exists()


def test_table():
    assert PASCAL_VOC.num_classes == 21
    assert PASCAL_VOC.names[:3] == ("background", "aeroplane", "bicycle")
    assert PASCAL_VOC.names[-1] == "tvmonitor"
    assert PASCAL_VOC.colors == ((0, 0, 0), *default_colors(20))
    assert PASCAL_VOC.raw_ids == {**{i: i for i in range(21)}, 255: 255}


@pytest.mark.parametrize("inner", ["", "VOCdevkit", "VOCdevkit/VOC2012"])
def test_published_layout(root, inner):
    dataset = open_dataset(
        "pascal_voc", data_dir=root / inner, prepared_dir=root.parent / "prepared"
    )
    assert {split: len(source) for split, source in dataset.splits.items()} == {
        "train": 2,
        "val": 1,
    }
    example = dataset.splits["val"][0]
    assert example["id"] == "2007_000033"
    np.testing.assert_array_equal(example["label"], values(2, VOC_VALUES, (8, 8)))
    assert example["image"].shape == drawn(2, (8, 8)).shape


def test_sbd_adds_to_train_what_neither_split_of_voc_has(root):
    splits = opened("pascal_voc_aug", root).splits
    train = [splits["train"][index] for index in range(len(splits["train"]))]
    assert [example["id"] for example in train] == [
        "2007_000032",
        "2008_000008",
        "2009_000001",
        "2010_000002",
    ]
    # VOC's own label where there is one, SBD's where not.
    np.testing.assert_array_equal(train[1]["label"], values(1, VOC_VALUES, (7, 8)))
    np.testing.assert_array_equal(train[3]["label"], sbd_label(4))
    assert [example["id"] for example in splits["val"]] == ["2007_000033"]


def test_wrong_folder(tmp_path):
    assert_fails(
        "pascal_voc", tmp_path / "x", "no Pascal VOC 2012 here; expected VOCdevkit"
    )


def test_without_sbd(tmp_path):
    miniatures.pascal_voc(tmp_path / "data")
    assert_fails("pascal_voc_aug", tmp_path / "data", "no SBD here; expected benchm")


def test_missing_list(root):
    (root / "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt").unlink()
    assert_fails("pascal_voc", root, r"val\.txt: cannot be read .*expected a list")


def test_image_without_label(root):
    (root / "VOCdevkit/VOC2012/SegmentationClass/2008_000008.png").unlink()
    assert_fails(
        "pascal_voc", root, r"2008_000008\.png: no such file; .*train\.txt names it"
    )


def test_image_listed_twice(root):
    path = root / "VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt"
    path.write_text(path.read_text() * 2)
    assert_fails("pascal_voc", root, r"train\.txt: names 2007_000032 twice")


def test_list_that_leads_elsewhere(root):
    path = root / "VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt"
    path.write_text("../../2007_000032\n")
    assert_fails("pascal_voc", root, r"train\.txt: .*expected a name without a folder")


def test_unlisted_value(root):
    miniatures.save_palette(
        root / "VOCdevkit/VOC2012/SegmentationClass/2007_000033.png",
        np.full((8, 8), 21, np.uint8),
    )
    assert_fails("pascal_voc", root, r"2007_000033\.png: label value 21 .*0\.\.20, 255")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no matlab", r"2010_000002\.mat: not a label of SBD: .*expected GTcls"),
        ({"other": [1]}, r"2010_000002\.mat: not a label of SBD: .*expected GTcls"),
        (
            {"GTcls": {"Segmentation": np.full((10, 8), 21, np.uint8)}},
            r"2010_000002\.mat: label value 21 is not a class",
        ),
    ],
)
def test_bad_mat_file(root, content, message):
    path = root / "benchmark_RELEASE/dataset/cls/2010_000002.mat"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        scipy.io.savemat(path, content)
    assert_fails("pascal_voc_aug", root, message)
