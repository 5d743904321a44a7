"""Labels of our own and of other tools, with the ids that were meant."""

import contextlib
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from segjax.data.labels import CAMVID, LabelTable, colorize
from segjax.errors import InputError
from segjax.inference.label_files import read_label, write_label

LABEL = np.random.default_rng(0).integers(0, 11, (5, 7)).astype(np.uint8)
LABEL[0, 0] = 255


def saved(path, pixels, mode=None, **options):
    Image.fromarray(pixels, mode).save(path, **options)
    return path


def test_written_labels_are_read_back(tmp_path):
    path = tmp_path / "a.png"
    write_label(path, LABEL, CAMVID)
    np.testing.assert_array_equal(read_label(path), LABEL)
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]
    # The colours that a viewer shows are the classes'.
    with Image.open(path) as picture:
        np.testing.assert_array_equal(picture.convert("RGB"), colorize(LABEL, CAMVID))


def test_a_label_that_cannot_be_written_leaves_what_was_there(tmp_path):
    # A folder in its place, which no file replaces.
    (tmp_path / "a.png").mkdir()
    with pytest.raises(InputError, match=r"a\.png:? cannot be written"):
        write_label(tmp_path / "a.png", LABEL, CAMVID)
    assert os.listdir(tmp_path) == ["a.png"]


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.bmp", "a.pgm"])
def test_grey_values_are_ids(tmp_path, name):
    path = saved(tmp_path / name, LABEL)
    np.testing.assert_array_equal(read_label(path), LABEL)


def test_a_foreign_palette_does_not_matter(tmp_path):
    picture = Image.fromarray(LABEL)
    picture.putpalette(bytes(range(255, -1, -1)) * 3)
    picture.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_label(tmp_path / "a.png"), LABEL)


def small_png(values, depth, *, color):
    """A PNG of few bits per pixel, as tools that save space write it."""

    def chunk(name, data):
        crc = zlib.crc32(name + data)
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", crc)

    bits = np.unpackbits(values[..., None], axis=-1)[..., 8 - depth :]
    rows = np.packbits(bits.reshape(len(values), -1), axis=-1)
    lines = np.pad(rows, ((0, 0), (1, 0))).tobytes()
    header = struct.pack(">IIBBBBB", *values.shape[::-1], depth, color, 0, 0, 0)
    palette = chunk(b"PLTE", bytes(3 * 2**depth)) if color == 3 else b""
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + palette
        + chunk(b"IDAT", zlib.compress(lines))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("color", [0, 3])
@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_few_bits_per_pixel(tmp_path, depth, color):
    values = np.random.default_rng(1).integers(0, 2**depth, (5, 7), np.uint8)
    path = tmp_path / "a.png"
    path.write_bytes(small_png(values, depth, color=color))
    np.testing.assert_array_equal(read_label(path), values)


def test_colours_are_understood_with_their_table(tmp_path):
    path = saved(tmp_path / "a.png", colorize(LABEL, CAMVID))
    np.testing.assert_array_equal(read_label(path, table=CAMVID), LABEL)
    opaque = np.dstack([colorize(LABEL, CAMVID), np.full_like(LABEL, 255)])
    path = saved(tmp_path / "b.png", opaque)
    np.testing.assert_array_equal(read_label(path, table=CAMVID), LABEL)
    # The table changes nothing where there are ids.
    path = saved(tmp_path / "c.png", LABEL)
    np.testing.assert_array_equal(read_label(path, table=CAMVID), LABEL)


def table_of(*colors):
    count = range(len(colors))
    names = tuple(f"class {i}" for i in count)
    return LabelTable(names=names, colors=colors, raw_ids={i: i for i in count})


def test_black_is_void_unless_it_is_a_class(tmp_path):
    path = saved(tmp_path / "a.png", np.uint8([[[0, 0, 0], [9, 9, 9]]]))
    table = table_of((9, 9, 9), (1, 2, 3))
    np.testing.assert_array_equal(read_label(path, table=table), [[255, 0]])
    table = table_of((9, 9, 9), (0, 0, 0))
    np.testing.assert_array_equal(read_label(path, table=table), [[1, 0]])


def test_colours_outside_the_table_are_refused(tmp_path):
    colors = colorize(LABEL, CAMVID)
    path = saved(tmp_path / "a.png", colors)
    with pytest.raises(InputError, match=r"a\.png: is RGB, expected an indexed \(P\)"):
        read_label(path)
    colors[2, 3] = (1, 2, 3)
    path = saved(tmp_path / "a.png", colors)
    with pytest.raises(InputError, match=r"colour \(1, 2, 3\) is not one of the class"):
        read_label(path, table=CAMVID)
    with pytest.raises(InputError, match=r"\(7, 7, 7\) is that of two classes"):
        read_label(path, table=table_of((7, 7, 7), (7, 7, 7)))


def cut_off(path):
    saved(path, np.random.default_rng(0).integers(0, 255, (90, 90), np.uint8))
    path.write_bytes(path.read_bytes()[:2000])


def too_large(path):
    data = bytearray(small_png(LABEL, 8, color=0))
    data[16:24] = struct.pack(">II", 20_000, 20_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("a.png", lambda path: None, "cannot be read: No such file or directory$"),
        ("a.png", lambda path: path.mkdir(), "cannot be read: Is a directory$"),
        ("a.png", lambda path: path.touch(), "not a readable image"),
        ("a.png", cut_off, "not a readable image"),
        ("a.png", too_large, "more than 178956970 pixels"),
        ("a.jpg", lambda path: saved(path, LABEL), "a JPEG does not keep ids"),
        (
            "a.png",
            lambda path: saved(path, LABEL.astype(np.uint16)),
            r"is I;16, expected an indexed \(P\) or grey \(L\) image",
        ),
        ("a.png", lambda path: saved(path, np.dstack([LABEL] * 2), "LA"), "is LA,"),
        ("a.tif", lambda path: saved(path, LABEL.astype(np.float32)), "is F, expected"),
    ],
)
def test_refused(tmp_path, name, write, message):
    path = tmp_path / name
    write(path)
    with pytest.raises(InputError, match=message) as caught:
        read_label(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_flipped_bit_is_refused_or_harmless(tmp_path):
    path = tmp_path / "a.png"
    write_label(path, LABEL, CAMVID)
    data = path.read_bytes()
    pixels = data.index(b"IDAT")
    for position in [*range(0, pixels, 9), *range(pixels, len(data))]:
        damaged = bytearray(data)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        label = LABEL
        with contextlib.suppress(InputError):
            label = read_label(path)
        np.testing.assert_array_equal(label, LABEL)
