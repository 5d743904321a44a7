"""Class tables that map data sets to common classes."""

import re

import numpy as np
import pytest

from segjax.data.cityscapes import CITYSCAPES
from segjax.data.datasets import open_dataset
from segjax.data.labels import CAMVID, VOID, LabelTable
from segjax.data.taxonomy import (
    read_taxonomy,
    shipped,
    target_ids,
    target_table,
    thin_targets,
)
from segjax.errors import InputError

ZOO = LabelTable(
    names=("cat", "dog", "grass"),
    colors=((1, 1, 1), (2, 2, 2), (3, 3, 3)),
    raw_ids={0: 0, 1: 1, 2: 2},
    thin=("cat",),
)


def write(tmp_path, text, name="table.csv"):
    path = tmp_path / name
    path.write_text(text)
    return path


def test_classes_are_renumbered(tmp_path):
    path = write(
        tmp_path,
        "# ours\nclass, red, green, blue, zoo\nland, 9, 8, 7, grass\n\n"
        "pet, , , , cat | dog\n",
    )
    taxonomy = read_taxonomy(path)
    ids = target_ids(taxonomy, ZOO, column="zoo")
    assert ids[:3].tolist() == [1, 1, 0]
    assert set(ids[3:].tolist()) == {VOID}
    table = target_table(taxonomy)
    assert table.names == ("land", "pet")
    assert table.colors[0] == (9, 8, 7)
    # A pet is not thin: a dog is not.
    assert thin_targets(ids, ZOO, table).thin == ()


def test_void(tmp_path):
    taxonomy = read_taxonomy(
        write(tmp_path, "class,zoo\npet,cat\nvoid,dog\nvoid,grass")
    )
    ids = target_ids(taxonomy, ZOO, column="zoo")
    assert ids[:3].tolist() == [0, VOID, VOID]
    assert thin_targets(ids, ZOO, target_table(taxonomy)).thin == ("pet",)


def test_a_table_in_the_form_of_mseg(tmp_path):
    path = write(
        tmp_path,
        "Parent Category\tzoo-3\tuniversal\tDefn\n"
        "animal\t{cat,  dog}\tanimal_other\tany animal, or \n"
        "\tgrass\tterrain\tground\n"
        "\t\tsky\tabove\n",
        "MSeg.tsv",
    )
    taxonomy = read_taxonomy(path)
    assert target_table(taxonomy).names == ("animal_other", "terrain", "sky")
    assert target_ids(taxonomy, ZOO, column="zoo-3")[:3].tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "class,zoo\npet,cat|dog\n",
            "column 'zoo' lacks 'grass'; expected every class",
        ),
        (
            "class,zoo\npet,cat|dog\nland,Gras|grass",
            "line 3, column 'zoo': 'Gras' is no class of the data set; did you mean "
            "'grass'?",
        ),
        (
            "class,zoo\npet,house|cat|dog|grass",
            "line 2, column 'zoo': 'house' is no class of the data set; expected one of "
            "cat, dog, grass",
        ),
        (
            "class,zoo\npet,cat|dog\nland,grass|dog",
            "line 3, column 'zoo': 'dog' is mapped twice, first in line 2; expected",
        ),
        (
            "class,zoo\npet,cat\npet,dog|grass",
            "line 3: class 'pet' is listed twice, first in line 2; expected one line",
        ),
        ("class,park\npet,cat", "no column 'zoo', only class, park; expected one"),
        ("name,zoo\npet,cat", "line 1: no column 'class' (or 'universal') among name"),
        ("class,zoo,zoo\npet,cat,dog", "line 1: column 'zoo' is there twice"),
        ("class,zoo\npet,cat,dog", "line 2: 3 fields; expected 2 as in the first line"),
        (
            "class,zoo\n,cat",
            "line 2: column 'class' is empty; expected a class or void",
        ),
        (
            "class,red,green,blue,zoo\npet,1,2,300,cat",
            "line 2: colour '1, 2, 300'; expected red, green and blue in 0..255",
        ),
        ("class,zoo\nvoid,cat", "no class; expected a line of column names"),
        (
            "class\n" + "\n".join(f"c{i}" for i in range(255)),
            "255 classes; expected at most 254",
        ),
    ],
)
def test_a_wrong_table_is_one_line(tmp_path, text, message):
    path = write(tmp_path, text)
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        target_ids(read_taxonomy(path), ZOO, column="zoo")
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_no_such_table(tmp_path):
    with pytest.raises(InputError, match=r"none\.csv: taxonomy cannot be read .*urban"):
        read_taxonomy(tmp_path / "none.csv")


def test_the_shipped_table_takes_every_class():
    assert shipped() == ("urban",)
    taxonomy = read_taxonomy("urban")
    target = target_table(taxonomy)
    for column, table in (
        ("camvid", CAMVID),
        ("street_scenes", CAMVID),
        ("cityscapes", CITYSCAPES),
    ):
        ids = target_ids(taxonomy, table, column=column)
        used = set(ids[: table.num_classes].tolist()) - {VOID}
        assert used == set(range(target.num_classes)), column
    names = target.names
    ids = target_ids(taxonomy, CITYSCAPES, column="cityscapes")
    assert names[ids[CITYSCAPES.names.index("terrain")]] == "vegetation"
    assert ids[CITYSCAPES.names.index("train")] == VOID


def test_labels_are_mapped_as_they_are_read(tmp_path):
    path = write(
        tmp_path,
        "class,scenes\nmoves,Car|Pedestrian|Bicyclist\nstays,Building|Pole|Road|"
        "Pavement|Tree|SignSymbol|Fence\nvoid,Sky\n",
    )
    options = {"prepared_dir": tmp_path, "size": (32, 48), "counts": {"train": 2}}
    plain = open_dataset("street_scenes", **options)
    mapped = open_dataset("street_scenes", taxonomy=path, column="scenes", **options)
    assert mapped.table.names == ("moves", "stays")
    for one, other in zip(plain.splits["train"], mapped.splits["train"], strict=True):
        sky, moves = one["label"] == 0, np.isin(one["label"], [8, 9, 10])
        expected = np.where(moves, 0, 1)
        expected[sky | (one["label"] == VOID)] = VOID
        np.testing.assert_array_equal(other["label"], expected)
        assert other["label"].dtype == np.uint8
        np.testing.assert_array_equal(other["image"], one["image"])
    with pytest.raises(
        InputError, match="no column 'street_scenes', only class, scenes"
    ):
        open_dataset("street_scenes", taxonomy=path, **options)
