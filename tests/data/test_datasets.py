"""Data sets by name: preparing once, reading, failing without a trace."""

import logging
import pickle
import subprocess
import sys

import grain
import numpy as np
import pytest

from segjax.data import datasets, records, street_scenes
from segjax.data.datasets import DATASETS, Dataset, open_dataset
from segjax.errors import InputError

TINY = {"size": (32, 32), "counts": {"train": 3, "val": 1}}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Dataset:
    prepared = tmp_path_factory.mktemp("prepared")
    return open_dataset("street_scenes", prepared_dir=prepared, **TINY)


def test_example(tiny):
    example = tiny.splits["train"][1]
    assert set(example) == {"image", "label", "id"}
    assert example["image"].shape == (32, 32, 3)
    assert example["label"].shape == (32, 32)
    assert example["image"].dtype == example["label"].dtype == np.uint8
    assert example["id"] == "train-00001"


def test_source_is_a_sequence(tiny):
    source = tiny.splits["train"]
    assert len(source) == 3
    assert [example["id"][-1] for example in source] == ["0", "1", "2"]
    assert source[np.int64(-1)]["id"] == source[2]["id"]
    for index in (3, -4):
        with pytest.raises(IndexError):
            source[index]


def test_source_can_be_pickled(tiny):
    source = pickle.loads(pickle.dumps(tiny.splits["val"]))
    np.testing.assert_array_equal(source[0]["image"], tiny.splits["val"][0]["image"])


def test_grain_reads_the_source(tiny):
    stream = grain.MapDataset.source(tiny.splits["train"]).seed(0).shuffle().repeat(2)
    ids = [stream[index]["id"] for index in range(6)]
    assert sorted(ids) == sorted([f"train-{index:05d}" for index in range(3)] * 2)


def test_prepared_once_with_one_line_of_log(tmp_path, caplog, capfd, monkeypatch):
    caplog.set_level(logging.INFO, logger="segjax")
    drawn = []
    draw = street_scenes.draw_example
    monkeypatch.setattr(
        street_scenes, "draw_example", lambda **k: drawn.append(1) or draw(**k)
    )
    for _ in range(2):
        open_dataset("street_scenes", prepared_dir=tmp_path, **TINY)
    assert len(drawn) == 4
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 1
    assert messages[0].startswith(f"preparing street_scenes in {tmp_path}")
    assert capfd.readouterr().out == ""


def test_default_folder_is_that_of_tfds(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    open_dataset("street_scenes", **TINY)
    assert [path.name for path in tmp_path.iterdir()] == ["street_scenes"]


def test_many_examples_keep_their_order_over_several_files(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "SHARD_LENGTH", 2)
    options = {"size": (32, 32), "counts": {"train": 5}}
    dataset = open_dataset("street_scenes", prepared_dir=tmp_path, **options)
    ids = [example["id"] for example in dataset.splits["train"]]
    assert ids == [f"train-{index:05d}" for index in range(5)]
    assert len(list(tmp_path.rglob("*.array_record*"))) == 3


@pytest.mark.parametrize("error", [InputError("a.png: bad"), KeyboardInterrupt()])
def test_failure_leaves_nothing(tmp_path, monkeypatch, error):
    draw = street_scenes.draw_example

    def fail_late(*, index, **options):
        if index == 2:
            raise error
        return draw(index=index, **options)

    monkeypatch.setattr(street_scenes, "draw_example", fail_late)
    prepared = tmp_path / "new" / "prepared"
    with pytest.raises(type(error)) as caught:
        open_dataset("street_scenes", prepared_dir=prepared, **TINY)
    assert caught.value is error
    assert not list(tmp_path.iterdir())
    monkeypatch.undo()
    dataset = open_dataset("street_scenes", prepared_dir=prepared, **TINY)
    assert len(dataset.splits["train"]) == 3


def test_prepared_dir_that_cannot_be_written(tmp_path):
    path = tmp_path / "file"
    path.write_text("")
    with pytest.raises(InputError, match=r"file.*: cannot be written"):
        open_dataset("street_scenes", prepared_dir=path, **TINY)
    assert path.read_text() == ""


def test_faster_process_wins(tmp_path, monkeypatch):
    """Two processes prepare the same data set; the slower one finds it there."""
    draw = street_scenes.draw_example
    started = []

    def overtaken(**options):
        if not started:
            started.append(1)
            open_dataset("street_scenes", prepared_dir=tmp_path, **TINY)
        return draw(**options)

    monkeypatch.setattr(street_scenes, "draw_example", overtaken)
    dataset = open_dataset("street_scenes", prepared_dir=tmp_path, **TINY)
    assert len(dataset.splits["train"]) == 3
    assert not list(tmp_path.rglob("incomplete*"))


def test_unknown_name_lists_the_known():
    with pytest.raises(InputError, match=f"'camvit'; known: {', '.join(DATASETS)}"):
        open_dataset("camvit")


def test_unknown_option_lists_the_known():
    with pytest.raises(InputError, match="'camvid' takes no 'size'; it takes data_dir"):
        open_dataset("camvid", size=(32, 32))
    with pytest.raises(InputError, match="'street_scenes' takes no 'data_dir'"):
        open_dataset("street_scenes", data_dir="somewhere")


@pytest.mark.parametrize("name", ["isbi_em", "folder"])
def test_data_dir_is_needed(name):
    with pytest.raises(InputError, match=f"{name!r} needs 'data_dir'"):
        open_dataset(name)


def test_every_data_set_is_described():
    for open_ in DATASETS.values():
        assert open_.__doc__
        assert open_.__module__ == datasets.__name__


def test_neither_tensorflow_nor_jax_is_imported(tmp_path):
    program = (
        "import sys; from segjax.data.datasets import open_dataset; "
        f"data = open_dataset('street_scenes', prepared_dir={str(tmp_path)!r}, "
        "size=(32, 32), counts={'train': 1}); data.splits['train'][0]; "
        "print([name for name in ('tensorflow', 'jax') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
    assert done.stderr == ""
