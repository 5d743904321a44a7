"""Images out of files, folders, videos, cameras and standard input."""

import io
import os
import pty
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from segjax.errors import InputError
from segjax.inference.frames import open_frames
from segjax.inference.opencv import import_opencv
from segjax.inference.stream import predict_stream

RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (30, 32, 48, 3), np.uint8)


def read_all(source, **options):
    with open_frames(str(source), **options) as frames:
        return [(name, read()) for name, read in frames.sources]


def read_until_refused(source, **options):
    """What can be read before the error, and the error."""
    images = []

    def read_on():
        with open_frames(str(source), **options) as frames:
            images.extend((name, read()) for name, read in frames.sources)

    with pytest.raises(InputError) as caught:
        read_on()
    assert "\n" not in str(caught.value)
    return images, str(caught.value)


def assert_frames(found, expected):
    """Compares with a dict of frame number -> pixels."""
    assert [name for name, _ in found] == [f"frame_{i:06d}" for i in expected]
    for (_, image), pixels in zip(found, expected.values(), strict=True):
        assert image.dtype == np.uint8
        np.testing.assert_array_equal(image, pixels)


def encoded(pixels, kind="PNG"):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format=kind)
    return file.getvalue()


def folder_of(tmp_path, count):
    folder = tmp_path / "images"
    folder.mkdir()
    for index, pixels in enumerate(NOISE[:count]):
        Image.fromarray(pixels).save(folder / f"{'abcdefg'[index]}.png")
    (folder / "notes.txt").write_text("a stranger")
    return folder


def test_a_folder_of_images(tmp_path):
    folder = folder_of(tmp_path, 5)
    with open_frames(str(folder)) as frames:
        assert (frames.kind, frames.count, frames.fps) == ("images", 5, None)
        assert frames.paths == tuple(folder / f"{name}.png" for name in "abcde")
        sources = list(frames.sources)
        with ThreadPoolExecutor(2) as pool:
            images = list(pool.map(lambda source: source[1](), sources))
    assert [name for name, _ in sources] == list("abcde")
    np.testing.assert_array_equal(images, NOISE[:5])


def test_every_second_image_and_a_limit(tmp_path):
    folder = folder_of(tmp_path, 5)
    with open_frames(str(folder), every=2) as frames:
        assert frames.count == 3
        assert [name for name, _ in frames.sources] == ["a", "c", "e"]
    with open_frames(str(folder), every=2, limit=2) as frames:
        assert frames.count == 2
        assert [path.name for path in frames.paths] == ["a.png", "c.png"]
        assert [name for name, _ in frames.sources] == ["a", "c"]
    with open_frames(str(folder), limit=99) as frames:
        assert frames.count == 5


def test_one_image_and_one_that_is_broken(tmp_path):
    folder = folder_of(tmp_path, 3)
    [(name, image)] = read_all(folder / "b.png")
    assert name == "b"
    np.testing.assert_array_equal(image, NOISE[1])
    (folder / "b.png").write_bytes(b"no image")
    images, message = read_until_refused(folder)
    assert [name for name, _ in images] == ["a"]
    assert "b.png: not a readable image" in message


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("gone", "gone: no such file or folder"),
        ("gone.mp4", r"gone\.mp4: no such file or folder"),
        ("empty.mp4", r"empty\.mp4: is empty; expected a video"),
        (
            "text.mp4",
            r"text\.mp4: not a readable video: damaged, cut off, or of a kind",
        ),
        ("cut.mp4", r"cut\.mp4: not a readable video"),
        ("camera:", "camera:: expected camera:NUMBER, such as camera:0"),
        ("camera:-1", "camera:-1: expected camera:NUMBER"),
        ("camera:97", "camera:97: there is no such camera, or another program"),
    ],
)
def test_what_cannot_be_opened(tmp_path, monkeypatch, capfd, source, message):
    pytest.importorskip("cv2")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("text")
    write_video(tmp_path / "whole.mp4")
    # The table of frames is at the end.
    data = (tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=message) as caught:
        read_all(source)
    assert "\n" not in str(caught.value)
    # OpenCV and FFmpeg write to the terminal past Python.
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("options", [{"every": 0}, {"limit": 0}])
def test_selections_that_cannot_be(tmp_path, options):
    with pytest.raises(InputError, match=r"(every|limit) 0: expected at least 1"):
        read_all(tmp_path, **options)


def test_opencv_is_needed_for_videos_only(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    folder = folder_of(tmp_path, 1)
    assert len(read_all(folder)) == 1
    assert len(read_all("-", stdin=io.BytesIO(encoded(NOISE[0])))) == 1
    (tmp_path / "a.mp4").write_bytes(b"x")
    for source in (tmp_path / "a.mp4", "camera:0"):
        with pytest.raises(InputError, match=r"pip install segjax\[video\]"):
            read_all(source)


# Videos, written by OpenCV itself. FFV1 loses nothing.


def write_video(path, frames=NOISE, *, codec=None, fps=10):
    pytest.importorskip("cv2")
    cv2 = import_opencv()
    codec = codec or {".mp4": "mp4v", ".mkv": "FFV1", ".avi": "FFV1"}[path.suffix]
    writer = cv2.VideoWriter(
        str(path),
        cv2.CAP_FFMPEG,
        cv2.VideoWriter.fourcc(*codec),
        fps,
        frames.shape[2:0:-1],
        frames.ndim == 4,
    )
    for frame in frames:
        writer.write(frame[..., ::-1] if frames.ndim == 4 else frame)
    writer.release()
    return path


@pytest.mark.parametrize("name", ["a.mkv", "a.avi", "B: %03d.MKV"])
def test_a_video(tmp_path, monkeypatch, name):
    path = write_video(tmp_path / name.lower())
    path = path.rename(tmp_path / name)
    # A path that is not absolute, as users type it.
    monkeypatch.chdir(tmp_path)
    with open_frames(name) as frames:
        assert (frames.kind, frames.count, frames.fps) == ("video", 30, 10)
        assert frames.paths == ()
        # Read after all of them were passed: each holds its own.
        found = [(name, read()) for name, read in list(frames.sources)]
    assert_frames(found, dict(enumerate(NOISE)))


def test_some_frames_of_a_video(tmp_path):
    path = write_video(tmp_path / "a.mkv")
    with open_frames(str(path), every=7) as frames:
        assert (frames.count, frames.fps) == (5, 10 / 7)
        found = [(name, read()) for name, read in frames.sources]
    assert_frames(found, {i: NOISE[i] for i in (0, 7, 14, 21, 28)})
    with open_frames(str(path), every=7, limit=2) as frames:
        assert frames.count == 2
        assert len(list(frames.sources)) == 2
    assert_frames(read_all(path, limit=3), dict(enumerate(NOISE[:3])))


def test_a_grey_video(tmp_path):
    path = write_video(tmp_path / "a.mkv", NOISE[:4, ..., 0])
    grey = np.repeat(NOISE[:4, ..., :1], 3, axis=-1)
    assert_frames(read_all(path), dict(enumerate(grey)))


# Quarter turns counter-clockwise by the matrix that phones write into a track
# (ISO/IEC 14496-12, 8.3.2): (x, y), y downwards, is shown at (a x + c y, b x + d y).
TURNS = {
    0: (1, 0, 0, 1),
    1: (0, -1, 1, 0),
    2: (-1, 0, 0, -1),
    3: (0, 1, -1, 0),
}


@pytest.mark.parametrize("turns", TURNS)
def test_rotation_of_the_camera_is_applied(tmp_path, turns):
    path = write_video(tmp_path / "a.mp4", NOISE[:3], codec="FFV1")
    a, b, c, d = (value * 2**16 for value in TURNS[turns])
    matrix = np.array([a, b, 0, c, d, 0, 0, 0, 2**30], ">i4").tobytes()
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 44
    assert data[start : start + 4] == (2**16).to_bytes(4)
    data[start : start + 36] = matrix
    path.write_bytes(data)
    upright = [np.rot90(frame, turns) for frame in NOISE[:3]]
    assert_frames(read_all(path), dict(enumerate(upright)))


def with_its_table_first(data):
    """Moves the table of frames of an MP4 before them, as for the web."""
    table = data.index(b"moov") - 4
    pixels = data.index(b"mdat") - 4
    assert pixels < table
    assert int.from_bytes(data[table : table + 4]) == len(data) - table
    moved = bytearray(data[table:])
    # Chunk offsets (ISO/IEC 14496-12, 8.7.5): version, number, then 4 bytes each.
    start = moved.index(b"stco") + 12
    count = int.from_bytes(moved[start - 4 : start])
    offsets = np.frombuffer(moved, ">u4", count, start) + len(moved)
    moved[start : start + 4 * count] = offsets.astype(">u4").tobytes()
    return data[:pixels] + bytes(moved) + data[pixels:table]


@pytest.mark.parametrize("name", ["a.mkv", "a.avi", "a.mp4"])
def test_a_video_that_ends_early(tmp_path, capfd, name):
    path = write_video(tmp_path / name, codec="FFV1")
    if name == "a.mp4":
        path.write_bytes(with_its_table_first(path.read_bytes()))
        assert_frames(read_all(path), dict(enumerate(NOISE)))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    found, message = read_until_refused(path)
    number = len(found)
    assert 10 <= number <= 15
    assert_frames(found, dict(enumerate(NOISE[:number])))
    expected = f"{path}: ends after {number} of the 30 frames that it promises; "
    assert message == expected + "damaged or cut off"
    # Not before the end.
    assert len(read_all(path, limit=5)) == 5
    # Frames left out count as read.
    found, again = read_until_refused(path, every=4)
    assert again == message
    assert_frames(found, {i: NOISE[i] for i in range(0, number, 4)})
    assert capfd.readouterr() == ("", "")


def test_reading_ahead_loses_nothing_before_an_error(tmp_path):
    path = write_video(tmp_path / "a.mkv")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    expected = [name for name, _ in read_until_refused(path)[0]]
    names = []

    def collect():
        with open_frames(str(path)) as frames:
            for name, _, _ in predict_stream(
                frames.sources,
                lambda images: {"mean": images.mean((1, 2, 3))},
                batch_size=4,
                read_ahead=8,
            ):
                names.append(name)

    with pytest.raises(InputError, match="of the 30 frames that it promises"):
        collect()
    assert names == expected


def test_a_promise_that_is_a_guess_is_not_held_against_a_video(tmp_path):
    path = write_video(tmp_path / "a.mkv")
    # DefaultDuration (RFC 9559, 5.1.4.1.13), nanoseconds: 20 frames per second are
    # announced, so 60 in the 3 seconds that the 30 frames take at their own times.
    data = path.read_bytes()
    tenth, twentieth = (b"\x23\xe3\x83\x84" + n.to_bytes(4) for n in (10**8, 5 * 10**7))
    assert data.count(tenth) == 1
    path.write_bytes(data.replace(tenth, twentieth))
    with open_frames(str(path)) as frames:
        assert (frames.count, frames.fps) == (60, 20)
        found = [(name, read()) for name, read in frames.sources]
    assert_frames(found, dict(enumerate(NOISE)))


# Cameras: OpenCV opens a file in their place.


def test_a_camera(tmp_path, monkeypatch):
    cv2 = pytest.importorskip("cv2")
    path, opened = write_video(tmp_path / "a.mkv"), []
    file = cv2.VideoCapture(str(path))
    monkeypatch.setattr(cv2, "VideoCapture", lambda which: opened.append(which) or file)
    with open_frames("camera:1", every=3, limit=4) as frames:
        assert (frames.kind, frames.count, frames.fps) == ("camera", 4, 10 / 3)
        found = [(name, read()) for name, read in frames.sources]
    assert opened == [1]
    assert_frames(found, {i: NOISE[i] for i in (0, 3, 6, 9)})
    assert not file.isOpened()


def test_a_camera_that_is_unplugged(tmp_path, monkeypatch):
    cv2 = pytest.importorskip("cv2")
    file = cv2.VideoCapture(str(write_video(tmp_path / "a.mkv", NOISE[:3])))
    monkeypatch.setattr(cv2, "VideoCapture", lambda which: file)
    found, message = read_until_refused("camera:0")
    assert_frames(found, dict(enumerate(NOISE[:3])))
    assert message == "camera:0: stopped after 3 frames; is it unplugged?"


# Standard input.


def test_one_image_from_standard_input():
    with open_frames("-", stdin=io.BytesIO(encoded(NOISE[0], "TIFF"))) as frames:
        assert (frames.kind, frames.count, frames.fps) == ("stdin", None, None)
        found = [(name, read()) for name, read in frames.sources]
    assert_frames(found, {0: NOISE[0]})


def test_images_in_a_row_from_standard_input():
    kinds = ["PNG", "PPM"] * 3
    data = b"".join(encoded(*pair) for pair in zip(NOISE, kinds, strict=False))
    with open_frames("-", stdin=io.BytesIO(data)) as frames:
        # Read after all of them were passed: each holds its own.
        found = [(name, read()) for name, read in list(frames.sources)]
    assert_frames(found, dict(enumerate(NOISE[:6])))
    found = read_all("-", stdin=io.BytesIO(data), every=2)
    assert_frames(found, {i: NOISE[i] for i in (0, 2, 4)})
    found = read_all("-", stdin=io.BytesIO(data), every=2, limit=2)
    assert_frames(found, {i: NOISE[i] for i in (0, 2)})


def test_a_limit_leaves_the_rest_in_the_stream():
    one = encoded(NOISE[0], "PPM")

    class Endless:
        given = 0

        def read1(self, size):
            self.given += 1
            return one

        closed = False

        def isatty(self):
            return False

    file = Endless()
    assert len(read_all("-", stdin=file, every=3, limit=4)) == 4
    assert file.given == 10


def test_standard_input_that_breaks_off():
    data = encoded(NOISE[0]) + encoded(NOISE[1]) + encoded(NOISE[2])[:-20]
    found, message = read_until_refused("-", stdin=io.BytesIO(data))
    assert_frames(found, dict(enumerate(NOISE[:2])))
    assert message == "standard input: image 2 is cut off or damaged"


def test_standard_input_with_a_damaged_image():
    bad = bytearray(encoded(NOISE[1]))
    bad[60] ^= 0xFF
    data = encoded(NOISE[0]) + bytes(bad) + encoded(NOISE[2])
    with open_frames("-", stdin=io.BytesIO(data)) as frames:
        readers = [read for _, read in frames.sources]
    np.testing.assert_array_equal(readers[0](), NOISE[0])
    with pytest.raises(InputError, match="standard input: image 1: not a readable"):
        readers[1]()
    np.testing.assert_array_equal(readers[2](), NOISE[2])


def test_standard_input_that_holds_nothing():
    _, message = read_until_refused("-", stdin=io.BytesIO())
    assert message.startswith("standard input: is empty; expected an image")


def test_a_terminal_is_no_image():
    other, terminal = pty.openpty()
    with (
        open(terminal, "rb") as file,
        pytest.raises(InputError, match="standard input is a terminal; expected"),
    ):
        read_all("-", stdin=file)
    os.close(other)


def test_the_programs_own_standard_input(tmp_path, monkeypatch):
    (tmp_path / "stream").write_bytes(encoded(NOISE[0]) + encoded(NOISE[1]))
    with (tmp_path / "stream").open() as file:
        monkeypatch.setattr(sys, "stdin", file)
        assert_frames(read_all("-"), dict(enumerate(NOISE[:2])))
    message = "standard input is closed; expected an image"
    with pytest.raises(InputError, match=message):
        read_all("-")
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(InputError, match=message):
        read_all("-")


def test_a_pipe_from_another_program():
    program = """if True:
        import sys
        data = bytes.fromhex(sys.argv[1])
        for start in range(0, len(data), 999):
            sys.stdout.buffer.write(data[start : start + 999])
            sys.stdout.flush()
    """
    small = NOISE[:3, :16, :16]
    data = b"".join(encoded(pixels) for pixels in small).hex()
    command = [sys.executable, "-c", program, data]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert_frames(read_all("-", stdin=process.stdout), dict(enumerate(small)))
