"""Uploaded images: what is read, what is refused before it is decoded."""

import io
import struct
import zlib

import numpy as np
import pytest
from page_server import TABLE
from PIL import Image

from segjax.errors import InputError
from segjax.inference.label_files import read_label
from segjax.serve.uploads import FORMATS, decode_upload, encode_label, encode_picture

IMAGE = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)


def encoded(picture, kind, **options):
    file = io.BytesIO()
    picture.save(file, format=kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("kind", FORMATS)
def test_every_kind_gives_its_pixels(kind):
    picture = Image.fromarray(np.full((5, 7, 3), 200, np.uint8))
    upload = decode_upload(encoded(picture, kind), max_pixels=35)
    assert upload.image.shape == (5, 7, 3)
    assert np.abs(upload.image.astype(int) - 200).max() <= 3
    if kind in ("PNG", "BMP", "TIFF", "PPM"):
        upload = decode_upload(encoded(Image.fromarray(IMAGE), kind), max_pixels=35)
        np.testing.assert_array_equal(upload.image, IMAGE)


def orientation(value):
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


@pytest.mark.parametrize(
    ("data", "alike"),
    [
        (encoded(Image.fromarray(IMAGE), "PNG"), True),
        (encoded(Image.fromarray(IMAGE[..., 0]), "PNG"), True),
        (encoded(Image.fromarray(IMAGE), "JPEG"), True),
        (encoded(Image.fromarray(IMAGE), "JPEG", exif=orientation(6)), True),
        (encoded(Image.fromarray(IMAGE), "PNG", exif=orientation(6)), False),
        (encoded(Image.fromarray(IMAGE).convert("CMYK"), "JPEG"), False),
        (encoded(Image.fromarray(IMAGE).convert("RGBA"), "PNG"), False),
        (encoded(Image.fromarray(IMAGE).convert("P"), "PNG"), False),
        (encoded(Image.fromarray(IMAGE[..., 0]), "PNG", transparency=0), False),
        (encoded(Image.fromarray(IMAGE[..., 0].astype(np.uint16)), "PNG"), False),
        (encoded(Image.fromarray(IMAGE), "TIFF"), False),
    ],
)
def test_what_browsers_show_otherwise_is_known(data, alike):
    assert decode_upload(data, max_pixels=35).shown_alike is alike


def png_header(width, height):
    """A PNG that says its size and has no pixels."""
    chunks = [b"\x89PNG\r\n\x1a\n"]
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    for kind, data in ((b"IHDR", header), (b"IDAT", b""), (b"IEND", b"")):
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        chunks.append(struct.pack(">I", len(data)) + kind + data + checksum)
    return b"".join(chunks)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a readable image"),
        (b"<svg/>", "not a readable image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a readable image"),
        (encoded(Image.fromarray(IMAGE), "ICO"), "not a readable image"),
        (encoded(Image.fromarray(IMAGE), "PNG")[:60], "not a readable image"),
        (encoded(Image.new("RGB", (6, 6)), "PNG"), r"6x6 .* more than 3.5e-05 million"),
        # Sizes that no one can decode: refused by the header alone.
        (png_header(9_000, 9_000), r"9000x9000 .* more than"),
        (png_header(2**31 - 1, 2**31 - 1), "more than"),
        (
            encoded(
                Image.new("L", (4, 4)),
                "GIF",
                save_all=True,
                append_images=[Image.new("L", (4, 4), 9)],
            ),
            "2 frames",
        ),
        (
            encoded(Image.fromarray(np.zeros((3, 3), np.float32)), "TIFF"),
            "cannot be made RGB",
        ),
    ],
)
def test_refusals_are_one_line(data, message):
    with pytest.raises(InputError, match=message) as caught:
        decode_upload(data, max_pixels=35)
    assert str(caught.value).startswith("image: ")
    assert "\n" not in str(caught.value)


def test_mutated_files_are_read_or_refused():
    random = np.random.default_rng(1)
    for kind in ("PNG", "JPEG", "TIFF", "GIF", "WEBP", "BMP"):
        whole = encoded(Image.fromarray(IMAGE), kind)
        for _ in range(60):
            data = bytearray(whole)
            for position in random.integers(0, len(data), 3):
                data[position] = random.integers(256)
            try:
                upload = decode_upload(bytes(data), max_pixels=10_000)
            except InputError:
                continue
            assert upload.image.dtype == np.uint8
            assert upload.image.shape[2] == 3


def test_pictures_are_the_pixels():
    with Image.open(io.BytesIO(encode_picture(IMAGE))) as picture:
        np.testing.assert_array_equal(np.asarray(picture), IMAGE)


def test_labels_are_read_back(tmp_path):
    label = np.random.default_rng(2).integers(0, 3, (6, 11), np.uint8)
    path = tmp_path / "label.png"
    path.write_bytes(encode_label(label, TABLE))
    np.testing.assert_array_equal(read_label(path), label)
    with Image.open(path) as picture:
        colors = np.asarray(picture.convert("RGB"))
        assert path.read_bytes()[24:26] == b"\x08\x03"  # 8 bits, indexed
    np.testing.assert_array_equal(colors, np.uint8(TABLE.colors)[label])
