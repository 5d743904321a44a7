"""Any folder of images and labels; and what a file can have wrong."""

import io

import numpy as np
import pytest
from PIL import Image

from segjax.data import decoding
from segjax.data.datasets import open_dataset
from segjax.data.folder import find_pairs, read_classes
from segjax.data.labels import VOID
from segjax.data.records import encode_png
from segjax.errors import InputError

CLASSES = "0, ground\n1, thing, 10, 20, 30\n255, void\n"


def random_image(seed, size=(8, 12)):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def random_label(seed, size=(8, 12)):
    return np.random.default_rng(seed).choice(np.uint8([0, 1, 255]), size)


def save(path, array_or_image, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(array_or_image, np.ndarray):
        array_or_image = Image.fromarray(array_or_image)
    array_or_image.save(path, **options)


@pytest.fixture
def folder(tmp_path):
    """A good data set of two images; tests break it."""
    root = tmp_path / "data"
    for i, name in enumerate(["a", "b"]):
        save(root / f"train/images/{name}.png", random_image(i))
        save(root / f"train/labels/{name}.png", random_label(i))
    (root / "classes.txt").write_text(CLASSES)
    return root


def open_(root, tmp_path):
    return open_dataset("folder", data_dir=root, prepared_dir=tmp_path / "prepared")


def assert_fails(root, tmp_path, message):
    with pytest.raises(InputError, match=message) as caught:
        open_(root, tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "prepared").exists()


def test_a_folder_with_one_split(folder, tmp_path):
    dataset = open_(folder, tmp_path)
    assert list(dataset.splits) == ["train"]
    assert dataset.table.names == ("ground", "thing")
    assert dataset.table.colors[1] == (10, 20, 30)
    for i, name in enumerate(["a", "b"]):
        example = dataset.splits["train"][i]
        assert example["id"] == name
        np.testing.assert_array_equal(example["image"], random_image(i))
        np.testing.assert_array_equal(example["label"], random_label(i))


def test_folder_with_splits(folder, tmp_path):
    for kind in ("images", "labels"):
        (folder / "val" / kind).mkdir(parents=True)
        (folder / "train" / kind / "b.png").rename(folder / "val" / kind / "b.png")
    dataset = open_(folder, tmp_path)
    ids = {split: [e["id"] for e in source] for split, source in dataset.splits.items()}
    assert ids == {"train": ["a"], "val": ["b"]}


def names_by_split(root):
    return {
        split: {pair.image.stem for pair in pairs}
        for split, pairs in find_pairs(root).items()
    }


def test_a_folder_without_splits_is_divided(tmp_path, caplog):
    caplog.set_level("INFO")
    root = tmp_path / "data"
    for kind in ("images", "masks"):  # as labels are often called
        (root / kind).mkdir(parents=True)
        for i in range(23):
            (root / kind / f"{i}.png").touch()
    before = names_by_split(root)
    assert before.keys() == {"train", "val"}
    assert len(before["val"]) == 4  # every fifth
    assert before["train"] | before["val"] == {str(i) for i in range(23)}
    assert not before["train"] & before["val"]
    assert "4 of its 23 images, chosen by a hash of their names, are" in caplog.text
    assert names_by_split(root) == before
    # An image more takes at most one other's place, where random draws would mix all.
    for kind in ("images", "masks"):
        (root / kind / "new.png").touch()
    after = names_by_split(root)
    assert len(after["val"] - before["val"]) <= 1


def test_labels_and_masks(folder, tmp_path):
    (folder / "train/masks").mkdir()
    assert_fails(folder, tmp_path, r"train: has labels/ and masks/; expected one")


def test_files_come_in_natural_order(tmp_path):
    root = tmp_path / "data"
    for name in ("img10", "img9", "img1"):
        save(root / f"train/images/{name}.png", random_image(0))
        save(root / f"train/labels/{name}.png", random_label(0))
    (root / "classes.txt").write_text(CLASSES)
    source = open_(root, tmp_path).splits["train"]
    assert [example["id"] for example in source] == ["img1", "img9", "img10"]


def test_jpeg_keeps_its_bytes(folder, tmp_path):
    (folder / "train/images/a.png").unlink()
    save(folder / "train/images/a.jpg", random_image(0), quality=60)
    with Image.open(folder / "train/images/a.jpg") as image:
        expected = np.asarray(image)
    # Compressing again at any quality would change some of these pixels.
    source = open_(folder, tmp_path).splits["train"]
    np.testing.assert_array_equal(source[0]["image"], expected)


def test_other_kinds_of_images_become_rgb(tmp_path):
    root = tmp_path / "data"
    grey = random_image(0)[..., 0]
    deep = np.uint16(grey) * 256 + 77
    rgb = random_image(1)
    rgba = np.concatenate([rgb, grey[..., None]], axis=-1)
    palette = Image.fromarray(grey % 4)
    palette.putpalette([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12])
    looked_up = np.uint8([[1, 2, 3], [4, 5, 6], [7, 8, 9], [10, 11, 12]])[grey % 4]
    repeated = np.repeat(grey[..., None], 3, -1)
    images = {
        "grey": (grey, repeated),
        "deep": (deep, repeated),
        "rgba": (rgba, rgb),
        "palette": (palette, looked_up),
    }
    for name, (image, _) in images.items():
        save(root / f"train/images/{name}.png", image)
        save(root / f"train/labels/{name}.png", random_label(0))
    (root / "classes.txt").write_text(CLASSES)
    source = open_(root, tmp_path).splits["train"]
    for example in source:
        np.testing.assert_array_equal(example["image"], images[example["id"]][1])


def test_palette_label_counts_by_index(folder, tmp_path):
    label = Image.fromarray(random_label(0))
    label.putpalette([200, 0, 0, 200, 0, 0] + [9] * 762)  # both classes look alike
    save(folder / "train/labels/a.png", label)
    source = open_(folder, tmp_path).splits["train"]
    np.testing.assert_array_equal(source[0]["label"], random_label(0))


def test_changed_folder_is_prepared_anew(folder, tmp_path):
    open_(folder, tmp_path)
    save(folder / "train/images/a.png", random_image(9))
    source = open_(folder, tmp_path).splits["train"]
    np.testing.assert_array_equal(source[0]["image"], random_image(9))


def test_changed_class_list_is_prepared_anew(folder, tmp_path):
    first = open_(folder, tmp_path).splits["train"][0]["label"]
    (folder / "classes.txt").write_text("1, thing\n0, ground\n255, void\n")
    second = open_(folder, tmp_path).splits["train"][0]["label"]
    swapped = np.where(first == VOID, VOID, 1 - np.minimum(first, 1))
    np.testing.assert_array_equal(second, swapped)


def test_two_folders_do_not_mix(folder, tmp_path):
    other = tmp_path / "other"
    save(other / "train/images/a.png", random_image(7))
    save(other / "train/labels/a.png", random_label(7))
    (other / "classes.txt").write_text(CLASSES)
    assert len(open_(folder, tmp_path).splits["train"]) == 2
    assert len(open_(other, tmp_path).splits["train"]) == 1
    assert len(open_(folder, tmp_path).splits["train"]) == 2


def test_hidden_and_foreign_files_are_passed_over(folder, tmp_path):
    (folder / "train/images/.hidden.png").write_bytes(b"")
    (folder / "train/images/notes.md").write_text("")
    assert len(open_(folder, tmp_path).splits["train"]) == 2


def test_missing_folder(tmp_path):
    assert_fails(tmp_path / "nowhere", tmp_path, "nowhere: no such folder")


def test_neither_layout(folder, tmp_path):
    (folder / "train").rename(folder / "pictures")
    assert_fails(folder, tmp_path, "no images here; expected images/")


def test_both_layouts(folder, tmp_path):
    save(folder / "images/a.png", random_image(0))
    assert_fails(folder, tmp_path, "not both")


def test_empty_split(folder, tmp_path):
    for path in folder.glob("train/*/*.png"):
        path.unlink()
    assert_fails(folder, tmp_path, "split 'train' is empty")


def test_missing_label_folder(folder, tmp_path):
    (folder / "train/labels").rename(folder / "train/annotations")
    assert_fails(folder, tmp_path, "labels: no such folder")


def test_image_without_label(folder, tmp_path):
    (folder / "train/labels/b.png").unlink()
    assert_fails(folder, tmp_path, r"images/b\.png: no label; expected .*labels/b\.png")


def test_label_without_image(folder, tmp_path):
    (folder / "train/images/b.png").unlink()
    assert_fails(folder, tmp_path, r"labels/b\.png: label without image")


def test_two_images_of_one_name(folder, tmp_path):
    save(folder / "train/images/a.jpg", random_image(0))
    assert_fails(folder, tmp_path, r"a\.png: same name as a\.jpg")


def test_jpeg_label(folder, tmp_path):
    (folder / "train/labels/a.png").unlink()
    save(folder / "train/labels/a.jpg", random_label(0))
    assert_fails(folder, tmp_path, r"labels/a\.jpg: a JPEG does not keep label values")


def test_size_mismatch(folder, tmp_path):
    save(folder / "train/labels/b.png", random_label(0, (8, 11)))
    message = r"labels/b\.png: label is 8x11 .*images/b\.png is 8x12"
    assert_fails(folder, tmp_path, message)


def test_label_value_outside_the_table(folder, tmp_path):
    save(folder / "train/labels/b.png", np.full((8, 12), 2, np.uint8))
    message = r"labels/b\.png: label value 2 .*expected 0\.\.1, 255"
    assert_fails(folder, tmp_path, message)


def test_rgb_label(folder, tmp_path):
    save(folder / "train/labels/b.png", random_image(0))
    assert_fails(folder, tmp_path, r"labels/b\.png: label has pixel mode RGB")


@pytest.mark.parametrize("kind", ["images", "labels"])
def test_truncated_png(folder, tmp_path, kind):
    path = folder / "train" / kind / "b.png"
    save(path, random_image(0, (64, 64)) if kind == "images" else random_label(0))
    path.write_bytes(path.read_bytes()[:-40])
    assert_fails(folder, tmp_path, rf"{kind}/b\.png: not a readable image")


def test_damaged_png(folder, tmp_path):
    path = folder / "train/images/b.png"
    data = bytearray(path.read_bytes())
    data[60] ^= 255  # within the pixels: the checksum no longer agrees
    path.write_bytes(data)
    assert_fails(folder, tmp_path, r"images/b\.png: not a readable image")


def test_truncated_jpeg(folder, tmp_path):
    (folder / "train/images/b.png").unlink()
    path = folder / "train/images/b.jpg"
    save(path, random_image(0, (64, 64)))
    path.write_bytes(path.read_bytes()[:-200])
    assert_fails(folder, tmp_path, r"images/b\.jpg: not a readable image")


def test_file_that_is_no_image(folder, tmp_path):
    (folder / "train/images/b.png").write_text("hello")
    assert_fails(folder, tmp_path, r"images/b\.png: not a readable image")


def test_floating_point_image(folder, tmp_path):
    (folder / "train/images/b.png").unlink()
    save(folder / "train/images/b.tif", np.zeros((8, 12), np.float32))
    assert_fails(folder, tmp_path, r"images/b\.tif: cannot be made RGB")


def test_bad_pairs_may_be_left_out(folder, tmp_path, caplog):
    save(folder / "train/images/c.png", random_image(2))
    save(folder / "train/labels/c.png", random_label(2))
    (folder / "train/images/b.png").write_text("hello")
    dataset = open_dataset(
        "folder", data_dir=folder, prepared_dir=tmp_path / "prepared", max_bad=1
    )
    assert [example["id"] for example in dataset.splits["train"]] == ["a", "c"]
    assert "left out bad pair 1 of at most 1: " in caplog.text
    assert "images/b.png: not a readable image" in caplog.text
    # What others have prepared without leaving anything out is another data set.
    with pytest.raises(InputError, match=r"b\.png: not a readable image"):
        open_(folder, tmp_path)
    (folder / "train/images/c.png").write_text("hello")
    with pytest.raises(InputError, match=r"c\.png.*bad pair number 2, max_bad is 1"):
        open_dataset(
            "folder", data_dir=folder, prepared_dir=tmp_path / "prepared", max_bad=1
        )


def test_nothing_is_left_of_a_split(folder, tmp_path):
    for name in ("a", "b"):
        (folder / f"train/images/{name}.png").write_text("hello")
    with pytest.raises(InputError, match="split 'train': every pair is bad"):
        open_dataset(
            "folder", data_dir=folder, prepared_dir=tmp_path / "prepared", max_bad=9
        )
    assert not (tmp_path / "prepared").exists()


def test_too_many_pixels_for_memory(folder, tmp_path, monkeypatch):
    # Pillow's own limit is a global that any library may lift.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    monkeypatch.setattr(decoding, "MAX_PIXELS", 8 * 12 - 1)
    assert_fails(folder, tmp_path, r"a\.png: .*12x8 pixels, the limit is 95")


def test_failure_keeps_what_was_prepared_before(folder, tmp_path):
    open_(folder, tmp_path)
    before = sorted((tmp_path / "prepared").rglob("*"))
    good = (folder / "train/images/a.png").read_bytes()
    save(folder / "train/images/a.png", random_image(0, (9, 9)))
    with pytest.raises(InputError):
        open_(folder, tmp_path)
    assert sorted((tmp_path / "prepared").rglob("*")) == before
    (folder / "train/images/a.png").write_bytes(good)
    assert len(open_(folder, tmp_path).splits["train"]) == 2


def test_class_list(tmp_path):
    path = tmp_path / "classes.txt"
    path.write_text("# my classes\n\n7, b,1,2,3 # first\n0, void\n4, a\n5,void\n")
    table = read_classes(path)
    assert table.names == ("b", "a")
    assert table.colors == ((1, 2, 3), (0, 128, 0))
    assert table.raw_ids == {7: 0, 4: 1, 0: VOID, 5: VOID}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ground\n", r"line 1 .*expected 'value, name'"),
        ("0, a\n1, b, 5\n", r"line 2 .*expected 'value, name'"),
        ("x, a\n", r"line 1 .*'x'; expected a whole number in 0\.\.255"),
        ("256, a\n", r"line 1 .*'256'; expected"),
        ("-1, a\n", r"line 1 .*'-1'; expected"),
        ("0, a, 1, 2, 300\n", r"line 1 .*'300'; expected"),
        ("0, a\n0, b\n", r"line 2 .*value 0 is listed twice"),
        ("0, a\n1, a\n", r"line 2 .*class 'a' is listed twice"),
        ("0,\n", r"line 1 .*expected 'value, name'"),
        ("255, void\n", "no class"),
        ("", "no class"),
    ],
)
def test_bad_class_list(folder, tmp_path, text, message):
    (folder / "classes.txt").write_text(text)
    assert_fails(folder, tmp_path, rf"classes\.txt: {message}")


def test_missing_class_list(tmp_path):
    # A folder has one made, see test_inferred_classes; a builder's own must be there.
    with pytest.raises(InputError, match=r"classes\.txt: class list cannot be read"):
        read_classes(tmp_path / "classes.txt")


def test_encode_png_is_exact():
    for array in (random_image(0), random_label(0)):
        with Image.open(io.BytesIO(encode_png(array))) as image:
            np.testing.assert_array_equal(np.asarray(image), array)
