"""Mutated image files are read or refused; they never crash the reader or hang it."""

import io
import random
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segjax.data.decoding import label_array, opened, rgb_array
from segjax.data.labels import CAMVID
from segjax.data.paired_images import Pair, read_pair
from segjax.data.street_scenes import draw_example
from segjax.errors import InputError
from segjax.inference.image_files import read_image

# A file of some kB; decoding it takes milliseconds.
SECONDS_PER_FILE = 20


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def seeds():
    """Files as data sets have them: ending -> contents."""
    image, label = draw_example(seed=0, split="train", index=0, size=(48, 64))
    palette = Image.fromarray(label % 11)
    palette.putpalette(list(range(256)) * 3)
    indexed = io.BytesIO()
    palette.save(indexed, "PNG", bits=4)
    return {
        ".png": [
            encoded(image, "PNG"),
            encoded(label % 11, "PNG"),
            encoded(image[..., 0].astype(np.uint16) * 200, "PNG"),
            indexed.getvalue(),
        ],
        ".jpg": [encoded(image, "JPEG"), encoded(image, "JPEG", progressive=True)],
        ".tif": [
            encoded(image, "TIFF"),
            encoded(label, "TIFF", compression="tiff_lzw"),
        ],
        ".bmp": [encoded(image, "BMP")],
        ".webp": [encoded(image, "WEBP", quality=50)],
    }


def mutated(content, chance):
    """Some changes of the kinds that disks, networks and attackers make."""
    data = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 5, 20))):
        if not data:
            break
        place = chance.randrange(len(data))
        if chance.random() < 0.3:  # where the headers are
            place = min(place, chance.randrange(64))
        kind = chance.randrange(6)
        if kind == 0:
            data[place] ^= 1 << chance.randrange(8)
        elif kind == 1:
            data[place] = chance.choice((0, 1, 0x7F, 0x80, 0xFF))
        elif kind == 2:
            value = chance.choice((0, 1, 2**15, 2**16 - 1, 2**31 - 1, 2**32 - 1))
            data[place : place + 4] = value.to_bytes(
                4, chance.choice(("big", "little"))
            )
        elif kind == 3:
            del data[place : place + chance.randrange(1, 64)]
        elif kind == 4:
            data[place:place] = data[place : place + chance.randrange(1, 64)]
        else:
            data = data[: max(1, place)]
    if chance.random() < 0.7:
        data = with_right_checksums(data)
    return bytes(data)


def with_right_checksums(data):
    """A PNG whose checksums agree again, so that damage goes deeper into the reader."""
    out, place = bytearray(data[:8]), 8
    while place + 12 <= len(data):
        length = struct.unpack(">I", data[place : place + 4])[0]
        chunk = data[place + 4 : place + 8 + length]
        if len(chunk) < 4 + length:
            break
        out += struct.pack(">I", length) + chunk + struct.pack(">I", zlib.crc32(chunk))
        place += 12 + length
    return out + data[place:]


def read_as_image(path: Path):
    with opened(path, source=str(path)) as image:
        pixels = rgb_array(image, source=str(path))
    assert pixels.dtype == np.uint8
    assert pixels.shape[2] == 3


def read_as_label(path: Path):
    with opened(path, source=str(path)) as image:
        label = label_array(image, CAMVID, source=str(path))
    assert label.dtype == np.uint8
    assert np.isin(label, [*range(11), 255]).all()


def read_as_pair(path: Path):
    read_pair(Pair(path, path), table=CAMVID)


def fuzz(seeds, path, *, seed, mutations=None, seconds=None):
    """Reads mutated files until there were enough of them; returns what happened."""
    chance = random.Random(seed)
    started, counts = time.monotonic(), {"read": 0, "refused": 0}
    while sum(counts.values()) < (mutations or np.inf) and (
        time.monotonic() - started < (seconds or np.inf)
    ):
        ending = chance.choice(
            (".png", ".png", ".png", ".jpg", ".tif", ".bmp", ".webp")
        )
        content = mutated(chance.choice(seeds[ending]), chance)
        file = path.with_suffix(ending)
        file.write_bytes(content)
        for read in (read_as_image, read_as_label, read_as_pair, read_image):
            begun = time.monotonic()
            try:
                read(file)
                counts["read"] += 1
            except InputError as error:
                counts["refused"] += 1
                text = str(error)
                assert "\n" not in text, text
                assert str(file) in text, text
            except Exception as error:
                kept = path.with_name(f"crash{ending}")
                kept.write_bytes(content)
                raise AssertionError(f"{read.__name__} of {kept}: {error!r}") from error
            assert time.monotonic() - begun < SECONDS_PER_FILE
    return counts


def test_some_mutated_files(seeds, tmp_path):
    counts = fuzz(seeds, tmp_path / "file", seed=0, mutations=4000)
    # Else the mutations were too mild, or too wild, to try anything.
    assert min(counts.values()) > 100


@pytest.mark.slow
def test_mutated_files_for_five_minutes(seeds, tmp_path):
    counts = fuzz(seeds, tmp_path / "file", seed=int(time.time()), seconds=300)
    print(counts)
    assert min(counts.values()) > 1000
