"""Several data sets in one: order, shares, splits, files."""

import collections
import itertools

import numpy as np
import pytest

from segjax.data.datasets import open_dataset
from segjax.data.mixed_order import mixed_order
from segjax.data.mixing import read_mix
from segjax.data.mixture import Joined, Part
from segjax.data.pipeline import train_batches
from segjax.errors import InputError

PARTS = (Part("a", 5, 2.0), Part("b", 3, 1.0), Part("c", 4, 1.0))
STARTS = (0, 5, 8)


def taken(order, count):
    """What is drawn from each part, in order."""
    drawn = [[] for _ in PARTS]
    for place in range(count):
        index = order[place]
        part = max(i for i, start in enumerate(STARTS) if start <= index)
        drawn[part].append(index - STARTS[part])
    return drawn


def test_parts_take_turns_by_weight():
    order = mixed_order(PARTS, seed=3)
    for count in (5, 9, 24):
        counts = [len(drawn) for drawn in taken(order, count)]
        for found, share in zip(counts, (0.5, 0.25, 0.25), strict=True):
            assert abs(found - count * share) < 1.5


def test_every_example_of_a_part_comes_once_before_one_comes_again():
    for part, drawn in zip(PARTS, taken(mixed_order(PARTS, seed=3), 96), strict=True):
        starts = range(0, len(drawn), part.count)
        epochs = [tuple(drawn[i : i + part.count]) for i in starts]
        whole = [epoch for epoch in epochs if len(epoch) == part.count]
        assert all(sorted(epoch) == list(range(part.count)) for epoch in whole)
        assert len(set(whole)) > 1  # shuffled anew each time


def test_order_is_a_function_of_the_seed():
    orders = {
        seed: [mixed_order(PARTS, seed=seed)[i] for i in range(12)] for seed in (0, 1)
    }
    assert orders[0] != orders[1]
    again = mixed_order(PARTS, seed=0)
    assert [again[i] for i in reversed(range(12))] == orders[0][::-1]


@pytest.mark.parametrize("part", [Part("a", 0, 1.0), Part("a", 2, 0.0)])
def test_parts_that_cannot_be_drawn_from(part):
    with pytest.raises(InputError, match="expected at least one example and a weight"):
        mixed_order([part], seed=0)


def source(name, count, value):
    return [
        {
            "image": np.full((16, 16, 3), value + i, np.uint8),
            "label": np.full((16, 16), i, np.uint8),
            "id": f"{i}",
        }
        for i in range(count)
    ]


def joined():
    return Joined(
        [
            ("a", source("a", 5, 0)),
            ("b", source("b", 3, 50)),
            ("c", source("c", 4, 100)),
        ]
    )


def test_joined_sources():
    examples = joined()
    assert len(examples) == 12
    ids = [examples[i]["id"] for i in range(12)]
    assert ids == [f"a-{i}" for i in range(5)] + ["b-0", "b-1", "b-2"] + [
        f"c-{i}" for i in range(4)
    ]
    assert examples[-1]["id"] == "c-3"
    assert examples[6]["image"].max() == 51
    with pytest.raises(IndexError):
        examples[12]


def batches(count, *, start=0, shard=(0, 1), seed=0):
    stream = train_batches(
        joined(),
        batch_size=4,
        crop_size=(8, 8),
        scale_range=(1.0, 1.5),
        flip=True,
        photometric=0.5,
        parts=PARTS,
        seed=seed,
        start_step=start,
        shard_index=shard[0],
        shard_count=shard[1],
        num_threads=0,
    )
    return list(itertools.islice(stream, count))


def assert_equal(found, expected):
    for one, other in zip(found, expected, strict=True):
        for name in ("image", "label"):
            np.testing.assert_array_equal(one[name], other[name])


def test_training_batches_resume_and_split_over_hosts():
    whole = batches(9)
    assert_equal(batches(4, start=5), whole[5:])
    halves = [batches(9, shard=(i, 2)) for i in range(2)]
    together = [
        {name: np.concatenate([a[name], b[name]]) for name in ("image", "label")}
        for a, b in zip(*halves, strict=True)
    ]
    assert_equal(together, whole)
    assert any(
        (a["image"] != b["image"]).any()
        for a, b in zip(whole, batches(9, seed=1), strict=True)
    )


def test_parts_must_cover_the_source():
    with pytest.raises(InputError, match="parts have 12 examples, the source 3"):
        train_batches(
            source("b", 3, 0),
            batch_size=1,
            crop_size=(8, 8),
            scale_range=(1.0, 1.0),
            flip=False,
            photometric=0.0,
            parts=PARTS,
            seed=0,
        )


MIX = """
taxonomy = "street.csv"

[[data]]
dataset = "street_scenes"
name = "day"
weight = 3
options = { size = [32, 48], counts = { train = 3, val = 2, test = 1 } }

[[data]]
dataset = "street_scenes"
name = "night"
options = { size = [32, 48], counts = { train = 4, val = 1 }, seed = 1 }
"""
STREET = "class,street_scenes\nsky,Sky\nrest,Building|Pole|Road|Pavement|Tree|SignSymbol|Fence|Car|Pedestrian|Bicyclist\n"


@pytest.fixture
def mix(tmp_path):
    (tmp_path / "street.csv").write_text(STREET)
    path = tmp_path / "mix.toml"
    path.write_text(MIX)
    return path


def test_a_mixture_from_a_file(mix, tmp_path):
    dataset = open_dataset(str(mix), prepared_dir=tmp_path / "prepared")
    assert dataset.name == "mix"
    assert dataset.table.names == ("sky", "rest")
    assert dataset.parts == (Part("day", 3, 3.0), Part("night", 4, 1.0))
    assert {split: len(examples) for split, examples in dataset.splits.items()} == {
        "train": 7,
        "val": 3,  # each once, whatever the weights
        "val_day": 2,
        "val_night": 1,
        "test_day": 1,  # not all have a test split
    }
    ids = collections.Counter(e["id"].split("-")[0] for e in dataset.splits["train"])
    assert ids == {"day": 3, "night": 4}
    label = dataset.splits["val"][0]["label"]
    assert set(np.unique(label).tolist()) <= {0, 1, 255}
    assert dataset.splits["train"].decoded_bytes() == 7 * 32 * 48 * 4
    for option in ("data_dir", "taxonomy"):
        with pytest.raises(InputError, match="names folders and taxonomy of its data"):
            open_dataset(str(mix), **{option: "somewhere"})


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[[data]]", "[[date]]", r"mix\.toml: unknown 'date'; expected taxonomy, data"),
        (MIX, "", r"mix\.toml: no \[\[data\]\]; expected one for each data set"),
        ("weight = 3", "weight = 0", r"number 1: weight 0; expected a number above 0"),
        (
            "weight = 3",
            "weihgt = 3",
            r"number 1: unknown 'weihgt'; expected dataset, n",
        ),
        ('name = "night"', 'name = "day"', r"data set 'day' is there twice; expected"),
        (
            'dataset = "street_scenes"\nname = "day"',
            'name = "day"',
            r"number 1: no 'dat",
        ),
        ("weight = 3", 'weight = "3', r"mix\.toml: mixture cannot be read \("),
        ('"street.csv"', '"none.csv"', r"none\.csv: taxonomy cannot be read"),
        ("seed = 1", "sed = 1", r"data set 'street_scenes' takes no 'sed'; it takes"),
        ("seed = 1", 'seed = 1 }\ncolumn = "x"#', r"no column 'x', only class, street"),
    ],
)
def test_a_wrong_file_is_one_line(mix, tmp_path, old, new, message):
    assert old in MIX
    mix.write_text(MIX.replace(old, new))
    with pytest.raises(InputError, match=message) as caught:
        open_dataset(str(mix), prepared_dir=tmp_path / "prepared")
    assert "\n" not in str(caught.value)


def test_data_sets_of_other_classes_need_a_taxonomy(tmp_path, monkeypatch):
    from segjax.data.isbi_em import ISBI_EM
    from segjax.data.labels import CAMVID
    from segjax.data.mixing import mixed_splits

    path = tmp_path / "mix.toml"
    path.write_text('[[data]]\ndataset = "camvid"\n[[data]]\ndataset = "isbi_em"')
    members = read_mix(path).members
    assert members[0].weight == 1.0
    splits = {"train": source("a", 2, 0)}
    with pytest.raises(
        InputError,
        match=r"isbi_em has the classes membrane, cell \(2\), camvid has Sky, Building, "
        r"Pole, Road, Pavement, \.\.\. \(11\); expected a taxonomy",
    ):
        mixed_splits(
            path, [(members[0], CAMVID, splits), (members[1], ISBI_EM, splits)]
        )
