"""ADE20K, Oxford-IIIT Pet, COCO, SUN RGB-D, as they unpack."""

import json

import miniatures
import numpy as np
import pytest
from miniatures import drawn, save, values

from segjax.data.datasets import open_dataset
from segjax.data.published import PUBLISHED
from segjax.errors import InputError


@pytest.fixture
def make(tmp_path):
    """Makes the miniature of a data set."""

    def made(name):
        getattr(miniatures, name)(tmp_path / "data")
        return tmp_path / "data"

    return made


def opened(name, root):
    return open_dataset(name, data_dir=root, prepared_dir=root.parent / "prepared")


def assert_fails(name, root, message):
    with pytest.raises(InputError, match=message) as caught:
        opened(name, root)
    assert "\n" not in str(caught.value)
    assert not (root.parent / "prepared").exists()


def mapped(raw, train_ids):
    """`raw` looked up, 255 where it is in none."""
    return np.vectorize(lambda value: train_ids.get(value, 255))(raw)


@pytest.mark.parametrize(
    ("name", "classes", "first", "last", "raw"),
    [
        ("ade20k", 150, "wall", "flag", range(1, 151)),
        ("coco_stuff", 171, "person", "wood", None),
        ("coco_panoptic", 133, "person", "rug-merged", None),
        ("sun_rgbd", 37, "wall", "bag", range(1, 38)),
        ("oxford_pet", 3, "pet", "border", (1, 2, 3)),
    ],
)
def test_table(name, classes, first, last, raw):
    table = PUBLISHED[name].table
    assert (table.num_classes, table.names[0], table.names[-1]) == (
        classes,
        first,
        last,
    )
    used = [value for value, train_id in table.raw_ids.items() if train_id != 255]
    assert [table.raw_ids[value] for value in sorted(used)] == list(range(classes))
    if raw is not None:
        assert sorted(used) == list(raw)


def test_ids_without_pixels_are_no_classes_of_coco():
    # "11 of the thing classes of COCO do not have any segmentation annotations".
    gaps = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91}
    stuff = PUBLISHED["coco_stuff"].table
    assert {value + 1 for value in stuff.raw_ids} == {*range(1, 183), 256} - gaps
    panoptic = PUBLISHED["coco_panoptic"].table
    assert not gaps & set(panoptic.raw_ids)
    # 80 things have the same place in both, and so have their ids.
    assert stuff.names[:80] == panoptic.names[:80]
    ids = {train_id: value for value, train_id in panoptic.raw_ids.items()}
    for value, train_id in stuff.raw_ids.items():
        if train_id < 80:
            assert ids[train_id] == value + 1
    assert sum(name.endswith("-merged") for name in panoptic.names) == 17


@pytest.mark.parametrize("inner", [".", "ADEChallengeData2016"])
def test_ade20k(make, inner):
    root = make("ade20k")
    if inner != ".":
        root.rename(root.with_name(inner))
        root = root.parent
    dataset = open_dataset("ade20k", data_dir=root, prepared_dir=root / "prepared")
    assert [len(source) for source in dataset.splits.values()] == [2, 1]
    example = dataset.splits["train"][1]
    assert example["id"] == "ADE_train_00000002"
    train_ids = {1: 0, 2: 1, 150: 149}  # and 0 is void
    np.testing.assert_array_equal(
        example["label"], mapped(values(2, (0, 1, 2, 150)), train_ids)
    )


def test_oxford_pet(make):
    splits = opened("oxford_pet", make("oxford_pet")).splits
    ids = {split: [example["id"] for example in splits[split]] for split in splits}
    assert ids == {
        "train": [f"Abyssinian_{i}" for i in (1, 2, 3, 4, 6)],
        "val": ["Abyssinian_5"],
        "test": ["beagle_1"],
    }
    np.testing.assert_array_equal(
        splits["val"][0]["label"], values(4, (1, 2, 3)) - np.uint8(1)
    )


def test_coco_stuff(make):
    splits = opened("coco_stuff", make("coco_stuff")).splits
    assert [len(source) for source in splits.values()] == [2, 1]
    train_ids = {0: 0, 12: 11, 181: 170}  # "street sign", 11, has no pixel
    np.testing.assert_array_equal(
        splits["train"][1]["label"], mapped(values(1, (0, 12, 181, 255)), train_ids)
    )


def test_coco_panoptic(make):
    root = make("coco_panoptic")
    splits = opened("coco_panoptic", root).splits
    assert [len(source) for source in splits.values()] == [2, 1]
    numbers = np.random.default_rng(1).choice([0, 1, 258, 197637], (6, 8))
    train_ids = {1: 0, 258: 0, 197637: 132}  # person, a crowd of them, rug
    np.testing.assert_array_equal(
        splits["train"][1]["label"], mapped(numbers, train_ids)
    )


def test_sun_rgbd(make):
    splits = opened("sun_rgbd", make("sun_rgbd")).splits
    # The tenth block of ten is held out; the image after it is not.
    assert [example["id"] for example in splits["val"]] == [
        f"img-{i:06d}" for i in range(91, 101)
    ]
    assert len(splits["train"]) == 91
    assert len(splits["test"]) == 2
    train_ids = {value: value - 1 for value in range(1, 38)}
    for source, index, number in (
        (splits["train"], 90, 5151),
        (splits["val"], 0, 5141),
        (splits["test"], 1, 2),
    ):
        np.testing.assert_array_equal(
            source[index]["label"],
            mapped(values(number, range(38), (2, 2)), train_ids),
        )


@pytest.mark.parametrize(
    "name", ["ade20k", "oxford_pet", "coco_stuff", "coco_panoptic", "sun_rgbd"]
)
def test_wrong_folder(tmp_path, name):
    assert_fails(name, tmp_path / "x", "x: no .* here.*expected")


@pytest.mark.parametrize(
    ("name", "gone", "message"),
    [
        (
            "ade20k",
            "annotations/training/ADE_train_00000002.png",
            r"ADE_train_00000002\.jpg: no label; expected",
        ),
        (
            "ade20k",
            "images/validation/ADE_val_00000001.jpg",
            r"ADE_val_00000001\.png: label without image",
        ),
        (
            "oxford_pet",
            "annotations/trimaps/Abyssinian_5.png",
            r"Abyssinian_5\.png: no such file; .*trainval\.txt names it",
        ),
        ("oxford_pet", "annotations/test.txt", r"test\.txt: cannot be read"),
        (
            "coco_stuff",
            "annotations/train2017/000000000001.png",
            r"000000000001\.jpg: no label",
        ),
        (
            "coco_panoptic",
            "annotations/panoptic_train2017.json",
            r"panoptic_train2017\.json: no such file; it describes",
        ),
        (
            "coco_panoptic",
            "annotations/panoptic_val2017/000000000000.png",
            r"000000000000\.jpg: no label",
        ),
        (
            "sun_rgbd",
            "sunrgbd_train_test_labels/img-005060.png",
            r"img-000010\.jpg: no label; expected .*img-005060\.png",
        ),
        (
            "sun_rgbd",
            "SUNRGBD-test_images/img-000002.jpg",
            r"img-000002\.png: label without image",
        ),
    ],
)
def test_file_is_missing(make, name, gone, message):
    root = make(name)
    (root / gone).unlink()
    assert_fails(name, root, message)


@pytest.mark.parametrize(
    ("name", "label", "value", "expected"),
    [
        ("ade20k", "annotations/validation/ADE_val_00000001.png", 151, r"0\.\.150"),
        ("oxford_pet", "annotations/trimaps/beagle_1.png", 0, r"1\.\.3"),
        ("coco_stuff", "annotations/val2017/000000000000.png", 11, r"0\.\.10, 12"),
    ],
)
def test_unlisted_value(make, name, label, value, expected):
    root = make(name)
    save(root / label, np.full((6, 8), value, np.uint8))
    assert_fails(name, root, rf"label value {value} .*expected {expected}")


def test_unlisted_value_of_sun_rgbd(make):
    root = make("sun_rgbd")
    path = root / "sunrgbd_train_test_labels/img-000001.png"
    save(path, np.full((2, 2), 38, np.uint8))
    assert_fails("sun_rgbd", root, r"img-000001\.png: label value 38 .*0\.\.37")


def test_name_that_has_no_number(make):
    root = make("sun_rgbd")
    save(root / "SUNRGBD-test_images/other.jpg", drawn(0))
    assert_fails("sun_rgbd", root, r"other\.jpg: expected a name like img-000001")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("not json", r"panoptic_val2017\.json: not panoptic annotations"),
        ([1], r"panoptic_val2017\.json: not panoptic annotations"),
        ({"annotations": []}, r"000000000000\.png: .*\.json does not name it"),
        ([], r"000000000000\.png: segment 1 is not in .*panoptic_val2017\.json"),
        (
            [{"id": n, "category_id": 12} for n in (1, 258, 197637)],
            r"000000000000\.png: label value 12 is not a class",
        ),
        (
            [{"id": n, "category_id": 300} for n in (1, 258, 197637)],
            r"panoptic_val2017\.json: 000000000000\.png has category 300",
        ),
    ],
)
def test_bad_description(make, change, message):
    root = make("coco_panoptic")
    path = root / "annotations/panoptic_val2017.json"
    if isinstance(change, list) and change != [1]:
        image = {"file_name": "000000000000.png", "segments_info": change}
        change = {"annotations": [image]}
    path.write_text(change if isinstance(change, str) else json.dumps(change))
    assert_fails("coco_panoptic", root, message)


def test_grey_panoptic_label(make):
    root = make("coco_panoptic")
    path = root / "annotations/panoptic_val2017/000000000000.png"
    save(path, values(0, (0, 1)))
    assert_fails("coco_panoptic", root, r"000000000000\.png: .*mode L; expected RGB")
