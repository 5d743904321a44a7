"""The EM challenge: both layouts, order of the slices, the split."""

import numpy as np
import pytest
from PIL import Image

from segjax.data.datasets import open_dataset
from segjax.errors import InputError


def grey_of(index, size=(6, 7)):
    return np.random.default_rng(index).integers(0, 256, size, np.uint8)


def raw_label_of(index, size=(6, 7)):
    return np.random.default_rng(index + 100).choice(np.uint8([0, 255]), size)


def write_png(root, indices):
    for folder, make in (("image", grey_of), ("label", raw_label_of)):
        (root / folder).mkdir(parents=True)
        for index in indices:
            Image.fromarray(make(index)).save(root / folder / f"{index}.png")


def write_stack(path, arrays):
    path.parent.mkdir(parents=True, exist_ok=True)
    first, *rest = [Image.fromarray(array) for array in arrays]
    first.save(path, save_all=True, append_images=rest)


def open_(root, tmp_path):
    return open_dataset("isbi_em", data_dir=root, prepared_dir=tmp_path / "prepared")


def assert_fails(root, tmp_path, message):
    with pytest.raises(InputError, match=message):
        open_(root, tmp_path)
    assert not (tmp_path / "prepared").exists()


def check(dataset, indices):
    for example, index in zip(
        [*dataset.splits["train"], *dataset.splits["val"]], indices, strict=True
    ):
        grey, raw = grey_of(index), raw_label_of(index)
        np.testing.assert_array_equal(example["image"], np.stack([grey] * 3, -1))
        np.testing.assert_array_equal(example["label"], raw // 255)


def test_png_slices_in_the_order_of_their_numbers(tmp_path):
    indices = [0, 1, 2, 3, 5, 8, 9, 10, 11, 12, 20]  # some are missing, as published
    write_png(tmp_path / "data", indices)
    dataset = open_(tmp_path / "data", tmp_path)
    ids = {k: [int(e["id"]) for e in source] for k, source in dataset.splits.items()}
    assert ids == {"train": indices[:9], "val": indices[9:]}  # 11 // 5 = 2
    check(dataset, indices)
    assert dataset.table.names == ("membrane", "cell")


def test_tiff_stacks(tmp_path):
    root = tmp_path / "data"
    write_stack(root / "train-volume.tif", [grey_of(i) for i in range(5)])
    write_stack(root / "train-labels.tif", [raw_label_of(i) for i in range(5)])
    write_stack(root / "test-volume.tif", [grey_of(i) for i in range(5)])
    dataset = open_(root, tmp_path)
    assert {k: len(source) for k, source in dataset.splits.items()} == {
        "train": 4,
        "val": 1,
    }
    check(dataset, range(5))


def test_stacks_of_different_length(tmp_path):
    root = tmp_path / "data"
    write_stack(root / "train-volume.tif", [grey_of(i) for i in range(5)])
    write_stack(root / "train-labels.tif", [raw_label_of(i) for i in range(4)])
    message = r"train-labels\.tif: 4 slices, train-volume\.tif has 5"
    assert_fails(root, tmp_path, message)


def test_stack_with_a_bad_page(tmp_path):
    root = tmp_path / "data"
    write_stack(root / "train-volume.tif", [grey_of(i) for i in range(3)])
    labels = [raw_label_of(0), np.full((6, 7), 128, np.uint8), raw_label_of(2)]
    write_stack(root / "train-labels.tif", labels)
    message = r"train-labels\.tif, slice 1: label value 128 .*expected 0, 255"
    assert_fails(root, tmp_path, message)


@pytest.mark.parametrize("length", [2000, 6000, 10000])
def test_truncated_stack(tmp_path, length):
    root = tmp_path / "data"
    write_stack(root / "train-volume.tif", [grey_of(i, (64, 64)) for i in range(3)])
    write_stack(
        root / "train-labels.tif", [raw_label_of(i, (64, 64)) for i in range(3)]
    )
    path = root / "train-volume.tif"
    path.write_bytes(path.read_bytes()[:length])
    assert_fails(root, tmp_path, r"train-volume\.tif.*: not a readable image")


def test_missing_label(tmp_path):
    write_png(tmp_path / "data", range(4))
    (tmp_path / "data/label/2.png").unlink()
    assert_fails(tmp_path / "data", tmp_path, r"image/2\.png: no label")


def test_missing_label_stack(tmp_path):
    write_stack(tmp_path / "data/train-volume.tif", [grey_of(0), grey_of(1)])
    assert_fails(tmp_path / "data", tmp_path, r"train-labels\.tif: no such file")


def test_one_slice_cannot_be_split(tmp_path):
    write_png(tmp_path / "data", [0])
    assert_fails(tmp_path / "data", tmp_path, "1 labelled slices; expected 2 or more")


@pytest.mark.parametrize("name", ["nowhere", "."])
def test_folder_without_the_data(tmp_path, name):
    assert_fails(tmp_path / name, tmp_path, "no such folder|no ISBI 2012 data here")
