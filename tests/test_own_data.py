"""A folder of images and labels to a network: what is chosen, refused, and made."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from segjax import own_data
from segjax.__main__ import main
from segjax.configuration import Config, check
from segjax.data.street_scenes import draw_example


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ({(100, 140)}, None),
        ({(512, 384)}, None),
        ({(1080, 1920)}, (288, 512)),
        ({(3000, 3000)}, (512, 512)),
        ({(100, 140), (140, 100)}, None),
    ],
)
def test_image_size(sizes, expected):
    assert own_data.choose_image_size(sizes) == expected


@pytest.mark.parametrize(
    ("sizes", "model", "expected"),
    [
        ({(100, 140)}, "unet_bn", (96, 128)),
        ({(400, 300)}, "unet_bn", (256, 256)),
        ({(20, 300)}, "unet_bn", (16, 256)),
        ({(7, 9)}, "unet_bn", (16, 16)),
        ({(64, 64), (200, 90), (300, 100)}, "unet_bn", (192, 80)),
        ({(512, 512)}, "unet_valid", None),
    ],
)
def test_crop_size(sizes, model, expected):
    crop = own_data.choose_crop_size(sizes, model=model)
    assert expected in (None, crop)
    # Whatever the network, it takes it.
    check(Config(name="x", dataset="folder", model=model, crop_size=crop))


def test_what_is_given_stays_and_what_is_open_is_filled_in():
    config = Config(
        name="x",
        dataset="folder",
        model="unet_bn",
        crop_size=(0, 0),
        batch_size=0,
        eval_batch_size=3,
    )
    filled = own_data.fill_in(config, sizes={(1080, 1920)})
    assert filled.image_size == (288, 512)
    assert filled.crop_size == (256, 256)
    assert (filled.batch_size, filled.eval_batch_size) == (8, 3)
    config = own_data.fill_in(filled, sizes={(10, 10)})
    assert config == filled


def make_folder(root, *, count=6, size=(32, 48)):
    for kind in ("images", "labels"):
        (root / kind).mkdir(parents=True)
    for index in range(count):
        image, label = draw_example(seed=0, split="train", index=index, size=size)
        Image.fromarray(image).save(root / f"images/{index}.jpg")
        label[label != 255] //= 6
        Image.fromarray(label).save(root / f"labels/{index}.png")
    return root


@pytest.fixture
def user(tmp_path, monkeypatch):
    """The working directory of somebody who has a folder `my_data`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "prepared"))
    make_folder(tmp_path / "my_data")
    return tmp_path


def copy(one, other):
    Path(other).write_bytes(Path(one).read_bytes())


def repaint(path, value):
    label = np.array(Image.open(path))
    label[:3] = value
    Image.fromarray(label).save(path)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda: Path("my_data/labels/3.png").unlink(),
            "images/3.jpg: no label; expec",
        ),
        (
            lambda: Path("my_data/images/3.jpg").unlink(),
            "labels/3.png: label without image; expected one in my_data/images",
        ),
        (
            lambda: copy("my_data/images/3.jpg", "my_data/images/3.png"),
            "images/3.png: same name as 3.jpg",
        ),
        (
            lambda: repaint("my_data/labels/3.png", 7),
            "labels/3.png: label value 7, but no label has the value 2; expected values",
        ),
        (
            lambda: Path("my_data/classes.txt").write_text("0, a\n255, void"),
            "label value 1 is not a class of this data set; expected 0, 255",
        ),
        (
            lambda: Path("my_data/classes.txt").write_text("0, a\n1, b\n1, c"),
            "classes.txt: line 3 ('1, c'): value 1 is listed twice, first as 'b'",
        ),
    ],
)
def test_bad_data_are_one_line_and_leave_nothing(user, capsys, spoil, message):
    spoil()
    with pytest.raises(SystemExit) as stop:
        main(["train", "--data-dir", "my_data", "--workdir", "runs/mine"])
    assert stop.value.code == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("error: my_data/")
    assert message in line
    assert not (user / "runs").exists()
    assert not (user / "prepared").exists()


@pytest.mark.slow
def test_three_commands_from_a_folder_to_labels(user, capsys):
    main(["data", "check", "folder", "--data-dir", "my_data"])
    options = ["--workdir", "runs/mine", "--steps", "4", "--width", "0.125"]
    # optax.adamw raises a float to the power of an int32 count.
    with jax.numpy_dtype_promotion("standard"):
        main(["train", "--data-dir", "my_data", *options, "--batch-size", "2"])
    out = capsys.readouterr().out
    assert "images: 5 train, 1 val; 2 classes: class_0, class_1; 32x48 pixels" in out
    assert "next: python -m segjax predict --run runs/mine --input" in out
    new, label = draw_example(seed=1, split="test", index=0, size=(40, 50))
    (user / "new").mkdir()
    Image.fromarray(new).save(user / "new/a.png")
    main(["predict", "--run", "runs/mine", "--input", "new", "--output", "out"])
    with Image.open(next((user / "out").rglob("a.png"))) as picture:
        predicted = np.asarray(picture)
    assert predicted.shape == label.shape
    assert set(np.unique(predicted)) <= {0, 1}
    result = json.loads((user / "runs/mine/result.json").read_text())
    assert result["split"] == "val"
