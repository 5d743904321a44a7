"""Labels, overlays and probabilities on disk, whole or not at all."""

import numpy as np
import pytest
from PIL import Image

from segjax.data.labels import CAMVID, LabelTable
from segjax.errors import InputError
from segjax.inference.heat_maps import read_heat_map
from segjax.inference.image_files import read_image
from segjax.inference.label_files import read_label, write_label
from segjax.inference.predict_files import (
    check_targets,
    find_images,
    overlay,
    predict_files,
)

TABLE = LabelTable(
    names=("dark", "bright"),
    colors=((0, 0, 200), (200, 0, 0)),
    raw_ids={0: 0, 1: 1},
)


def brightness(images):
    """Class 1 where the image is bright."""
    bright = images.mean(axis=-1) / 255
    probabilities = np.stack([1 - bright, bright], axis=-1).astype(np.float16)
    label = probabilities.argmax(axis=-1).astype(np.uint8)
    return {"label": label, "probabilities": probabilities, "entropy": bright / 2}


def label_only(images):
    return {"label": brightness(images)["label"]}


def sources(*paths):
    return [(path.stem, lambda path=path: read_image(path)) for path in paths]


def save(path, value=0, size=(4, 6)):
    Image.fromarray(np.full((*size, 3), value, np.uint8)).save(path)


def test_every_image_gets_its_files(tmp_path):
    save(tmp_path / "b.png", 250)
    save(tmp_path / "a.jpg", 10, size=(3, 5))
    output = tmp_path / "out" / "deep"
    done = list(
        predict_files(sources(*find_images(tmp_path)), output, brightness, table=TABLE)
    )
    assert done == [output / "a.png", output / "b.png"]
    np.testing.assert_array_equal(read_label(done[0]), np.zeros((3, 5)))
    np.testing.assert_array_equal(read_label(done[1]), np.ones((4, 6)))
    # The palette is the classes' colours.
    with Image.open(done[1]) as picture:
        assert picture.convert("RGB").getpixel((0, 0)) == (200, 0, 0)
    with Image.open(output / "overlays" / "b.png") as picture:
        assert picture.getpixel((0, 0)) == (225, 125, 125)
    saved = np.load(output / "probabilities" / "b.npz")
    np.testing.assert_allclose(saved["probabilities"][0, 0], [5 / 255, 250 / 255], 1e-2)
    assert saved["names"].tolist() == ["dark", "bright"]
    entropy = read_heat_map(output / "entropy" / "b.png")
    np.testing.assert_allclose(entropy, 250 / 510, atol=np.log(2) / 510)
    assert not list(output.rglob("*.tmp"))


def test_strangers_in_the_folder_are_left_alone(tmp_path):
    save(tmp_path / "a.png")
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / ".hidden.png").write_text("x")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "folder.png").rmdir()
    assert find_images(tmp_path) == [tmp_path / "a.png"]
    assert find_images(tmp_path / "a.png") == [tmp_path / "a.png"]


def test_inputs_that_cannot_be(tmp_path):
    with pytest.raises(InputError, match=r"gone: no such file or folder"):
        find_images(tmp_path / "gone")
    with pytest.raises(InputError, match="holds no image"):
        find_images(tmp_path)
    save(tmp_path / "a.png")
    save(tmp_path / "a.jpg")
    with pytest.raises(InputError, match=r"a\.jpg and a\.png would both become a\.png"):
        find_images(tmp_path)


def test_a_broken_image_is_named_and_what_was_done_stays(tmp_path):
    save(tmp_path / "a.png", 250)
    (tmp_path / "b.png").write_bytes(b"no image")
    output = tmp_path / "out"
    images = sources(*find_images(tmp_path))
    files = predict_files(images, output, label_only, table=TABLE)
    assert next(files) == output / "a.png"
    with pytest.raises(InputError, match=r"b\.png"):
        next(files)
    assert [p.name for p in output.glob("*.png")] == ["a.png"]


def test_output_that_cannot_be_written(tmp_path):
    save(tmp_path / "a.png")
    (tmp_path / "file").write_text("x")
    images = sources(tmp_path / "a.png")
    files = predict_files(images, tmp_path / "file", label_only, table=TABLE)
    with pytest.raises(InputError, match=r"output .*file cannot be made"):
        next(files)


def test_a_result_that_cannot_be_written_leaves_the_others_whole(tmp_path):
    for name in "abcd":
        save(tmp_path / f"{name}.png", 250)
    output = tmp_path / "out"
    (output / "b.png").mkdir(parents=True)  # in the way
    images = sources(*find_images(tmp_path))
    files = predict_files(images, output, label_only, table=TABLE, overlays=False)
    assert next(files) == output / "a.png"
    with pytest.raises(InputError, match=r"b\.png cannot be written"):
        list(files)
    assert not list(output.rglob("*.tmp"))
    for path in output.glob("[acd].png"):
        np.testing.assert_array_equal(read_label(path), np.ones((4, 6)))


def test_an_image_is_not_replaced_by_its_label(tmp_path):
    save(tmp_path / "a.png", 77)
    check_targets([tmp_path / "a.png"], tmp_path / "out")
    with pytest.raises(InputError, match="its label would replace it"):
        check_targets([tmp_path / "a.png"], tmp_path)


def test_overlay_mixes_colours_and_leaves_void():
    image = np.full((1, 3, 3), 100, np.uint8)
    label = np.array([[0, 1, 255]], np.uint8)
    mixed = overlay(image, label, TABLE, opacity=0.25)
    assert mixed[0].tolist() == [[75, 75, 125], [125, 75, 75], [100, 100, 100]]


def test_label_files_are_read_back(tmp_path):
    label = np.random.default_rng(0).integers(0, 11, (5, 7)).astype(np.uint8)
    label[0, 0] = 255
    write_label(tmp_path / "a.png", label, CAMVID)
    np.testing.assert_array_equal(read_label(tmp_path / "a.png"), label)
    save(tmp_path / "rgb.png")
    with pytest.raises(InputError, match=r"rgb\.png: is RGB, expected an indexed"):
        read_label(tmp_path / "rgb.png")
    with pytest.raises(InputError, match=r"gone\.png: cannot be read"):
        read_label(tmp_path / "gone.png")
