"""A prepared data set that is damaged says so, or reads as before."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from segjax.data.datasets import open_dataset
from segjax.data.integrity import CHECKSUMS
from segjax.data.prepared import ExampleSource
from segjax.errors import InputError

COUNT = 3


@pytest.fixture
def prepared(tmp_path):
    """Folder of a prepared data set, and its examples."""
    options = {"size": (32, 32), "counts": {"train": COUNT, "val": 1}}
    dataset = open_dataset("street_scenes", prepared_dir=tmp_path, **options)
    (folder,) = {path.parent for path in tmp_path.rglob(CHECKSUMS)}
    return folder, list(dataset.splits["train"])


def read_all(folder):
    source = ExampleSource(folder, "train")
    return [source[index] for index in range(len(source))]


def assert_same(examples, expected):
    assert len(examples) == len(expected)
    for example, other in zip(examples, expected, strict=True):
        assert example["id"] == other["id"]
        np.testing.assert_array_equal(example["image"], other["image"])
        np.testing.assert_array_equal(example["label"], other["label"])


def test_a_flipped_byte_is_harmless_or_detected(prepared):
    folder, examples = prepared
    rng = np.random.default_rng(0)
    messages = ([], [])
    for path in sorted(folder.iterdir()):
        if "val" in path.name:
            continue
        content = path.read_bytes()
        # A record file is mostly padding: most positions where something is.
        used = np.flatnonzero(np.frombuffer(content, np.uint8))
        anywhere = rng.integers(0, len(content), 20)
        for position in [*rng.choice(used, 80), *anywhere]:
            damaged = bytearray(content)
            damaged[position] ^= int(rng.integers(1, 256))
            path.write_bytes(damaged)
            try:
                assert_same(read_all(folder), examples)
            except InputError as error:
                messages[path.suffix == ".json"].append(str(error))
        path.write_bytes(content)
    assert_same(read_all(folder), examples)
    for texts in messages:
        assert len(texts) > 60
        assert all(str(folder) in text and "\n" not in text for text in texts)


def test_file_and_record_are_named(prepared):
    folder, _ = prepared
    (path,) = folder.glob("*train*")
    content = bytearray(path.read_bytes())
    # The name of the second example lies within its record.
    content[
        content.find(b"PNG", content.find(b"PNG", content.find(b"PNG") + 1) + 1)
    ] ^= 1
    path.write_bytes(content)
    source = ExampleSource(folder, "train")
    named = re.escape(f"{path}: record ")
    with pytest.raises(InputError, match=f"{named}[01]: "):
        [source[index] for index in range(len(source))]


def test_cut_and_missing_files(prepared):
    folder, _ = prepared
    (path,) = folder.glob("*train*")
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    with pytest.raises(InputError, match=r"train.* has changed since .*prepared anew"):
        ExampleSource(folder, "train")
    path.unlink()
    with pytest.raises(InputError, match=r"train.* is missing"):
        ExampleSource(folder, "train")


def test_an_unfinished_folder_is_named(tmp_path):
    (tmp_path / "dataset_info.json").write_text("{}")
    with pytest.raises(InputError, match="prepared data set cannot be read"):
        ExampleSource(tmp_path, "train")


def test_a_data_set_prepared_by_an_earlier_version_is_read(prepared):
    folder, examples = prepared
    (folder / CHECKSUMS).unlink()
    assert_same(read_all(folder), examples)


def test_a_record_that_is_no_image_is_named(prepared, monkeypatch):
    folder, _ = prepared
    source = ExampleSource(folder, "train")
    monkeypatch.setattr(
        ExampleSource,
        "_read",
        lambda self, index: {"image": b"GIF", "label": b"", "id": b"x"},
    )
    with pytest.raises(InputError, match="record 2: cannot identify image"):
        source[2]


def test_checksums_cover_every_file(prepared):
    folder, _ = prepared
    noted = json.loads((folder / CHECKSUMS).read_text())
    assert {*noted, CHECKSUMS} == {path.name for path in Path(folder).iterdir()}
