"""Labels without a class list: colours, palettes, values; and what is refused."""

import numpy as np
import pytest
from PIL import Image

from segjax.data.datasets import open_dataset
from segjax.data.inferred_classes import infer_classes
from segjax.errors import InputError

SIZE = (6, 8)


def save(path, values, *, palette=None, mode=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(np.asarray(values, np.uint8))
    if palette:
        picture.putpalette(palette)
    if mode:
        picture = picture.convert(mode)
    picture.save(path)


def make(root, labels, **options):
    for name, values in labels.items():
        save(root / "train/images" / f"{name}.png", np.zeros((*SIZE, 3)))
        save(root / "train/labels" / f"{name}.png", values, **options)
    return root


def open_(root):
    return open_dataset("folder", data_dir=root, prepared_dir=root.parent / "prepared")


def filled(*values):
    """Rows of these values in turn, `[6 8]` or `[6 8 3]`."""
    rows = [values[i % len(values)] for i in range(SIZE[0])]
    return np.stack([np.broadcast_to(row, (SIZE[1], *np.shape(row))) for row in rows])


def refused(root, message):
    with pytest.raises(InputError, match=message) as caught:
        open_(root)
    assert "\n" not in str(caught.value)
    assert not (root.parent / "prepared").exists()


def test_values_in_a_row(tmp_path, caplog):
    caplog.set_level("INFO")
    root = make(tmp_path / "data", {"a": filled(0, 2, 255), "b": filled(1)})
    dataset = open_(root)
    assert dataset.table.names == ("class_0", "class_1", "class_2")
    np.testing.assert_array_equal(
        dataset.splits["train"][0]["label"], filled(0, 2, 255)
    )
    text = (root / "classes.txt").read_text()
    assert text.splitlines()[1:] == [
        "0, class_0",
        "1, class_1",
        "2, class_2",
        "255, void",
    ]
    assert "classes.txt: written; put your own names there: 0 class_0" in caplog.text
    # Once written it is the user's.
    (root / "classes.txt").write_text(text.replace("class_1", "cell"))
    assert open_(root).table.names == ("class_0", "cell", "class_2")


def test_black_and_white(tmp_path):
    root = make(tmp_path / "data", {"a": filled(0, 255)})
    dataset = open_(root)
    assert dataset.table.names == ("background", "foreground")
    np.testing.assert_array_equal(dataset.splits["train"][0]["label"], filled(0, 1))


def test_one_bit(tmp_path):
    root = make(tmp_path / "data", {"a": filled(0, 255)}, mode="1")
    with Image.open(root / "train/labels/a.png") as picture:
        assert picture.mode == "1"
    np.testing.assert_array_equal(open_(root).splits["train"][0]["label"], filled(0, 1))


def test_a_palette_lends_its_colours_and_may_leave_values_out(tmp_path):
    palette = [0, 0, 0, 9, 9, 9, 200, 0, 0, 0, 200, 0]
    root = make(tmp_path / "data", {"a": filled(0, 2, 3)}, palette=palette)
    dataset = open_(root)
    assert dataset.table.colors == ((0, 0, 0), (200, 0, 0), (0, 200, 0))
    np.testing.assert_array_equal(dataset.splits["train"][0]["label"], filled(0, 1, 2))


RED, BLACK, BLUE = (255, 0, 0), (0, 0, 0), (0, 0, 255)


def test_colours(tmp_path):
    root = make(tmp_path / "data", {"a": filled(RED, BLACK), "b": filled(BLUE)})
    dataset = open_(root)
    assert dataset.table.colors == (BLACK, BLUE, RED)
    a, b = dataset.splits["train"]
    np.testing.assert_array_equal(a["label"], filled(2, 0))
    np.testing.assert_array_equal(b["label"], filled(1))
    # Another meaning of a colour is another data set.
    (root / "classes.txt").write_text(
        "0, x, 255, 0, 0\n1, y, 0, 0, 255\n2, void, 0, 0, 0"
    )
    a, _ = open_(root).splits["train"]
    np.testing.assert_array_equal(a["label"], filled(0, 255))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0, x, 255, 0, 0\n1, y", r"line 2 .*the labels are colour images; expected"),
        ("0, x, 1, 2, 3\n1, y, 1, 2, 3", r"line 2 .*has the colour of 'x'"),
        (
            "0, x, 255, 0, 0\n1, y, 0, 0, 9",
            r"a\.png: colour \(0, 0, 0\) is not a class .*expected one of \(255, 0, 0\)",
        ),
    ],
)
def test_colours_that_are_not_listed(tmp_path, text, message):
    root = make(tmp_path / "data", {"a": filled(RED, BLACK)})
    (root / "classes.txt").write_text(text)
    refused(root, message)


def test_what_cannot_be_guessed(tmp_path):
    root = make(tmp_path / "gaps", {"a": filled(0, 1), "b": filled(0, 7)})
    refused(root, r"b\.png: label value 7, but no label has the value 2; expected")
    assert not (root / "classes.txt").exists()
    refused(make(tmp_path / "one", {"a": filled(0)}), r"a\.png: .* hold one value only")
    root = make(tmp_path / "both", {"a": filled(0, 1), "b": filled(RED, BLACK)})
    refused(root, r"b\.png is a colour image and .*a\.png is not")
    noise = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    many = np.concatenate([noise, noise[::-1] // 2], axis=1)[:, : SIZE[1] * 2]
    path = tmp_path / "many.png"
    save(path, np.concatenate([many, many // 3]))
    with pytest.raises(InputError, match=r"many\.png: more than 64 colours so far"):
        infer_classes([path])


def test_a_folder_that_may_only_be_read(tmp_path, caplog, monkeypatch):
    root = make(tmp_path / "data", {"a": filled(0, 1)})

    def full(*_args, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_text", full)
    from segjax.data.folder import SegmentationFolder

    assert SegmentationFolder.config(root).table.names == ("class_0", "class_1")
    assert "No space left on device; goes on without" in caplog.text
    assert not list(root.glob("classes*"))
