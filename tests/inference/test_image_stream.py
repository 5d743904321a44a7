"""Where one image of a stream ends and the next one starts."""

import contextlib
import io
import os
import struct
import threading

import numpy as np
import pytest
from PIL import Image

from segjax.errors import InputError
from segjax.inference import image_stream
from segjax.inference.image_stream import split_images

PIXELS = np.random.default_rng(0).integers(0, 255, (40, 56, 3), np.uint8)


def encoded(pixels=PIXELS, *, kind, **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format=kind, **options)
    return file.getvalue()


def split(data):
    return list(split_images(io.BytesIO(data), source="stream"))


class Trickle(io.BytesIO):
    """Gives one byte at a time, as a slow pipe may."""

    def read1(self, size=-1):
        return super().read1(1)


# Each of them holds what looks like the start or the end of another image.
IMAGES = {
    "png": encoded(kind="PNG"),
    "interlaced_text": encoded(kind="PNG", compress_level=0),
    "jpeg": encoded(kind="JPEG"),
    "progressive": encoded(kind="JPEG", progressive=True, quality=95),
    "restarts": encoded(kind="JPEG", restart_marker_blocks=1),
    "thumbnail": encoded(kind="JPEG", exif=b"Exif\0\0" + encoded(kind="JPEG")),
    "comment": encoded(kind="JPEG", comment=b"\xff\xd9\x89PNG\r\n\x1a\n"),
    "ppm": encoded(kind="PPM"),
    "pgm": encoded(PIXELS[..., 0], kind="PPM"),
    "pbm": b"P4 # bits\n# and\n 9 3\n" + bytes(6),
    "wide_pgm": b"P5\n2 2\n65535\n" + bytes(range(8)),
    "wide_ppm": b"P6 1 2 1023\n\n" + bytes(11),
    "jpeg_of_noise": encoded(PIXELS.repeat(9, 0), kind="JPEG", quality=100),
}


@pytest.mark.parametrize("name", IMAGES)
def test_images_of_a_kind_are_told_apart(name):
    assert split(IMAGES[name] * 3) == [IMAGES[name]] * 3


@pytest.mark.parametrize("stream", [io.BytesIO, Trickle])
def test_mixed_kinds_are_told_apart(stream):
    images = list(IMAGES.values())
    file = stream(b"".join(images))
    assert list(split_images(file, source="stream")) == images


def test_fill_bytes_before_a_marker():
    first = IMAGES["jpeg"]
    filled = first[:-2] + b"\xff\xff\xff\xd9"
    assert split(filled + first) == [filled, first]


def test_pictures_a_camera_appends_belong_to_the_first():
    file = io.BytesIO()
    pictures = [Image.fromarray(PIXELS), Image.fromarray(255 - PIXELS)]
    pictures[0].save(file, "MPO", save_all=True, append_images=pictures[1:])
    phone = file.getvalue()
    assert phone.count(b"\xff\xd8\xff") >= 2
    assert split(phone + phone + IMAGES["png"]) == [phone, phone, IMAGES["png"]]
    # What follows the first picture was dropped on the way.
    alone = split(phone[: phone.index(b"\xff\xd9") + 2])
    assert len(alone) == 1


@pytest.mark.parametrize("kind", ["TIFF", "GIF", "BMP", "WEBP", "AVIF", "JPEG2000"])
def test_another_kind_stands_alone(kind):
    data = encoded(kind=kind)
    assert split(data) == [data]
    images = split_images(io.BytesIO(IMAGES["png"] + data), source="stream")
    assert next(images) == IMAGES["png"]
    with pytest.raises(
        InputError, match=r"^stream: image 1 starts with .*expected PNG"
    ):
        next(images)


def test_an_image_is_given_before_the_next_one_is_sent():
    reading, writing = os.pipe()
    got, seen = [], threading.Event()

    def read():
        with open(reading, "rb") as file:
            for image in split_images(file, source="pipe"):
                got.append(image)
                seen.set()

    thread = threading.Thread(target=read)
    thread.start()
    with open(writing, "wb", buffering=0) as file:
        for name, image in IMAGES.items():
            seen.clear()
            file.write(image)
            assert seen.wait(timeout=20), name
    thread.join(timeout=20)
    assert got == list(IMAGES.values())


VIDEO = b"\0\0\0\x20ftypisom\0\0\2\0"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "stream: is empty; expected an image, or several in a row"),
        (b"text of a user", r"stream: image 0 starts with b'text of '; expected PNG"),
        (VIDEO, "image 0 is a video; give it as a file, or its frames: ffmpeg"),
        (b"\x1a\x45\xdf\xa3" + bytes(20), "image 0 is a video"),
        (b"RIFF\0\0\0\0AVI LIST", "image 0 is a video"),
        (IMAGES["png"] + b"\n", r"image 1 starts with b'\\n'; expected PNG, JPEG or"),
        (IMAGES["png"][:-1], "image 0 is cut off or damaged"),
        (IMAGES["png"] + IMAGES["jpeg"][:-1], "image 1 is cut off or damaged"),
        (IMAGES["jpeg"][:600], "image 0 is cut off or damaged"),
        (IMAGES["ppm"][:-1], "image 0 is cut off or damaged"),
        (b"P6\n3 x", "image 0 is cut off or damaged"),
        (b"P6\n3 4\n", "image 0 is cut off or damaged"),
        (b"P6\n" + b"1" * 99, "image 0 is cut off or damaged"),
        (b"P5\n100000 100000\n255\n" + bytes(9), "image 0 has more than 1073741824"),
        (
            IMAGES["png"][:8] + struct.pack(">I4s", 2**32 - 1, b"IDAT"),
            "image 0 has more than 1073741824 bytes",
        ),
    ],
)
def test_refused(data, message):
    with pytest.raises(InputError, match=message) as caught:
        split(data)
    assert "\n" not in str(caught.value)


class Endless:
    """What `/dev/zero` behind the start of an image would give."""

    def __init__(self, start):
        self.start, self.given = start, 0

    def read1(self, size):
        data, self.start = self.start or bytes(size), b""
        self.given += len(data)
        return data


@pytest.mark.parametrize("start", [b"II*\0", IMAGES["jpeg"][:700]])
def test_memory_is_bounded(monkeypatch, start):
    monkeypatch.setattr(image_stream, "MAX_BYTES", 2**20)
    file = Endless(start)
    with pytest.raises(InputError, match="image 0 has more than 1048576 bytes"):
        list(split_images(file, source="stream"))
    assert file.given < 2**20 + 2**18


def test_a_folder_as_standard_input(tmp_path):
    class Folder(io.BytesIO):
        def read1(self, size=-1):
            raise IsADirectoryError(21, "Is a directory")

    with pytest.raises(InputError, match="stream: cannot be read: Is a directory"):
        list(split_images(Folder(), source="stream"))


@pytest.mark.parametrize("name", ["png", "jpeg", "ppm"])
def test_bytes_in_disorder_are_split_or_refused(name):
    rng = np.random.default_rng(1)
    for _ in range(300):
        data = bytearray(IMAGES[name] * 2)
        for position in rng.integers(0, min(len(data), 700), 3):
            data[position] = rng.integers(0, 256)
        images = []
        with contextlib.suppress(InputError):
            images.extend(split(bytes(data)))
        # Whatever was split, nothing was lost or made up.
        assert b"".join(images) in (b"", data)
