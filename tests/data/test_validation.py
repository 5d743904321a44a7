"""`data check`: what is wrong with a data set, before the run."""

import logging
import shutil

import numpy as np
import pytest
from PIL import Image

from segjax import __main__ as verbs
from segjax.data.street_scenes import draw_example
from segjax.data.validation import validate
from segjax.errors import InputError


@pytest.fixture
def folder(tmp_path):
    """A sound data set of three classes, three training and two validation images."""
    root = tmp_path / "data"
    for split, count in (("train", 3), ("val", 2)):
        for kind in ("images", "labels"):
            (root / split / kind).mkdir(parents=True)
        for index in range(count):
            image, label = draw_example(
                seed=1, split=split, index=index, size=(48, 64 + index)
            )
            Image.fromarray(image).save(root / split / "images" / f"{index}.png")
            label = (label % 3).astype(np.uint8)
            label[0] = 9
            Image.fromarray(label).save(root / split / "labels" / f"{index}.png")
    (root / "classes.txt").write_text("0, wall\n1, road\n2, sky\n9, void\n")
    return root


def messages(folder, **options):
    found = validate("folder", data_dir=folder, **options)
    return [(finding.severity, finding.message) for finding in found.findings]


def test_a_sound_data_set(folder):
    seen = []
    found = validate(
        "folder", data_dir=folder, progress=lambda *counts: seen.append(counts)
    )
    assert (found.findings, found.errors) == ([], 0)
    assert seen == [(done, 5) for done in range(1, 6)]
    train = found.splits["train"]
    assert (train.examples, train.unreadable) == (3, 0)
    assert train.sizes == {(48, 64): 1, (48, 65): 1, (48, 66): 1}
    labels = [
        np.asarray(Image.open(path)) for path in (folder / "train/labels").iterdir()
    ]
    for index in range(3):
        assert train.pixels[index] == sum((label == index).sum() for label in labels)
        assert train.images[index] == sum((label == index).any() for label in labels)
    assert train.void == sum((label == 9).sum() for label in labels)


def rewrite(path, change):
    array = np.array(Image.open(path))
    Image.fromarray(change(array)).save(path)


def test_unreadable_files_are_all_named(folder):
    image, label = folder / "train/images/1.png", folder / "val/labels/0.png"
    image.write_bytes(image.read_bytes()[:200])
    rewrite(label, lambda x: np.where(x == 1, 77, x).astype(np.uint8))
    rewrite(folder / "train/labels/2.png", lambda x: x[:-1])
    found = messages(folder)
    assert [severity for severity, _ in found] == ["error"] * 3
    texts = " | ".join(text for _, text in found)
    assert f"train: {image}: not a readable image" in texts
    assert f"val: {label}: label value 77 is not a class of this data set" in texts
    assert "label is 47x66 (height x width)" in texts


def test_copies_between_splits(folder):
    for kind in ("images", "labels"):
        (folder / "val" / kind / "copy.png").write_bytes(
            (folder / "train" / kind / "0.png").read_bytes()
        )
        with Image.open(folder / "train" / kind / "2.png") as picture:
            picture.resize((60, 48), Image.Resampling.NEAREST).save(
                folder / "val" / kind / "small.png"
            )
    found = messages(folder)
    same, near = found
    assert same[0] == "error"
    assert same[1].startswith("train and val: ")
    assert same[1].endswith("val/images/copy.png are the same image")
    assert near[0] == "warning"
    assert "train/images/2.png" in near[1]
    assert "val/images/small.png look the same" in near[1]


def test_warnings(folder):
    for kind in ("images", "labels"):
        (folder / "train" / kind / "again.png").write_bytes(
            (folder / "train" / kind / "0.png").read_bytes()
        )
    for path in (folder / "val/labels").iterdir():
        rewrite(path, lambda x: np.where(x == 2, 0, x).astype(np.uint8))
    rewrite(folder / "val/labels/1.png", lambda x: np.full_like(x, 9))
    found = messages(folder)
    assert [severity for severity, _ in found] == ["warning"] * 3
    texts = " | ".join(text for _, text in found)
    assert "val: no pixel of sky" in texts
    assert "is the same image as" in texts
    assert "val/images/1.png: all of it is void" in texts


def test_drawn_scenes_are_sound(tmp_path, monkeypatch):
    from segjax.data import datasets

    whole = datasets.open_dataset
    monkeypatch.setattr(
        datasets,
        "open_dataset",
        lambda name, **options: whole(
            name, size=(32, 32), counts={"train": 2, "val": 1}, **options
        ),
    )
    found = validate("street_scenes", prepared_dir=tmp_path)
    assert found.errors == 0
    assert found.splits["train"].examples == 2


@pytest.fixture
def quiet_after():
    """The command line's log handler writes to this test's stderr, which ends."""
    logger = logging.getLogger("segjax")
    before = (logger.handlers, logger.propagate, logger.level)
    yield
    logger.handlers, logger.propagate, logger.level = before


@pytest.mark.usefixtures("quiet_after")
def test_the_verb(folder, capsys):
    arguments = ["data", "check", "folder", "--data-dir", str(folder)]
    verbs.main(arguments)
    printed = capsys.readouterr().out
    assert "0 errors, 0 warnings" in printed
    assert "48x64 (1), 48x65 (1), 48x66 (1)" in printed
    (folder / "train/images/0.png").write_bytes(b"")
    with pytest.raises(SystemExit) as stop:
        verbs.main(arguments)
    assert stop.value.code == 1
    printed = capsys.readouterr().out
    assert "error: train: " in printed
    assert "1 errors, 0 warnings" in printed


@pytest.mark.usefixtures("quiet_after")
def test_the_verb_checks_every_data_set_of_a_mixture(folder, tmp_path, capsys):
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    (other / "train/images/0.png").write_bytes(b"")
    mix = tmp_path / "mix.toml"
    members = (("a", folder), ("b", other), ("again", folder))
    mix.write_text(
        "".join(
            f'[[data]]\ndataset = "folder"\nname = "{name}"\ndata_dir = "{path}"\n'
            for name, path in members
        )
    )
    with pytest.raises(SystemExit) as stop:
        verbs.main(["data", "check", str(mix)])
    assert stop.value.code == 1
    printed = capsys.readouterr().out
    assert printed.count("0 errors, 0 warnings") == 1  # once, though it is there twice
    assert printed.count("1 errors, 0 warnings") == 1
    with pytest.raises(SystemExit):
        verbs.main(["data", "check", str(mix), "--data-dir", str(folder)])
    assert "names the folders of its data sets" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("camvit", {}, "unknown data set 'camvit'; known: street_scenes"),
        ("folder", {}, "data set 'folder' needs 'data_dir'"),
        ("folder", {"data_dir": "nowhere"}, "nowhere: no such folder"),
        ("street_scenes", {"data_dir": "x"}, "takes no 'data_dir'"),
    ],
)
def test_what_cannot_be_checked(name, options, message):
    with pytest.raises(InputError, match=message):
        validate(name, **options)
