"""`data list|prepare|show`, as a user calls them; `check` is in data/test_validation."""

import pytest
from PIL import Image

from segjax.__main__ import main
from segjax.data.datasets import DATASETS
from segjax.data.street_scenes import draw_example


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Five images with labels, no class list, no splits; the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "prepared"))
    monkeypatch.setenv("COLUMNS", "100")
    for kind in ("images", "labels"):
        (tmp_path / "my_data" / kind).mkdir(parents=True)
    for index in range(5):
        image, label = draw_example(seed=0, split="train", index=index, size=(32, 48))
        Image.fromarray(image).save(tmp_path / f"my_data/images/{index}.jpg")
        label[label != 255] %= 3
        Image.fromarray(label).save(tmp_path / f"my_data/labels/{index}.png")
    return tmp_path


def stopped(args, capsys):
    with pytest.raises(SystemExit) as stop:
        main(args)
    assert stop.value.code == 2
    return capsys.readouterr().err.splitlines()


def test_list_says_how_to_get_each(folder, capsys):
    main(["data", "list"])
    out = capsys.readouterr().out
    names = [line.split()[0] for line in out.splitlines() if line[:1].strip()]
    assert names[: len(DATASETS)] == list(DATASETS)
    text = " ".join(out.split())
    assert "camvid 11 classes; 367 train, 101 val, 233 test" in text
    assert "cityscapes 19 classes; 2,975 train, 500 val" in text
    assert "needs --data-dir: leftImg8bit_trainvaltest.zip and" in text
    assert "street_scenes 11 classes; 480 train, 96 val, 96 test" in text
    assert "downloads itself; or --data-dir: the folder CamVid" in text
    assert "prepared in" not in text
    main(["data", "list", "cityscapes"])
    out = capsys.readouterr().out
    assert "gtFine/SPLIT/CITY/CITY_SEQUENCE_FRAME_gtFine_labelIds.png" in out
    assert "classes: road, sidewalk, " in out


def test_prepare_and_show(folder, capsys):
    main(["data", "prepare", "folder", "--data-dir", "my_data"])
    out = capsys.readouterr()
    assert "train: 4 examples" in out.out
    assert "val: 1 examples" in out.out
    assert f"preparing segmentation_folder in {folder}/prepared" in out.err
    main(["data", "prepare", "folder", "--data-dir", "my_data"])
    assert "preparing" not in capsys.readouterr().err
    main(["data", "list"])
    assert "prepared in" in capsys.readouterr().out

    main(["data", "show", "folder", "--data-dir", "my_data", "--count", "2"])
    assert "2 examples: runs/data/folder-train.html" in capsys.readouterr().out
    page = (folder / "runs/data/folder-train.html").read_text()
    assert "data show folder --data-dir my_data --count 2" in page
    assert "class_2" in page
    options = ["--split", "val", "--output", "sheet.png", "--data-dir", "my_data"]
    main(["data", "show", "folder", *options])
    with Image.open(folder / "sheet.png") as picture:
        assert picture.format == "PNG"


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["--split", "dev"], "error: split is 'dev', expected one of train, val"),
        (["--output", "a.pdf"], "error: output a.pdf: expected a name that ends in"),
        (["--first", "9"], "error: first 9: expected 0..3"),
        (["--taxonomy", "urban"], "error: taxonomy urban: no column 'folder', only"),
    ],
)
def test_show_refuses_in_one_line(folder, capsys, args, line):
    err = stopped(["data", "show", "folder", "--data-dir", "my_data", *args], capsys)
    assert err[-1].startswith(line)
    assert not (folder / "runs").exists()


def test_unknown_names(folder, capsys):
    for action in ("prepare", "show"):
        assert stopped(["data", action, "camvit"], capsys)[-1].startswith(
            "error: unknown data set 'camvit'; known: street_scenes, camvid"
        )
    assert "unknown data set 'x'" in stopped(["data", "list", "x"], capsys)[-1]
