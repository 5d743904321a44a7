"""Videos are written as they are meant to be, or not at all."""

import subprocess
import sys

import numpy as np
import pytest

from segjax.errors import InputError
from segjax.inference import opencv
from segjax.inference.video_files import CODECS, open_video

cv2 = pytest.importorskip("cv2")

# Patches of one colour survive what codecs leave out; each frame is another one.
FRAMES = np.zeros((5, 32, 48, 3), np.uint8)
FRAMES[:, :, 24:] = 220
FRAMES[np.arange(5), 16:, :24, np.arange(5) % 3] = 220
NOISE = np.random.default_rng(0).integers(0, 256, (5, 32, 48, 3), np.uint8)


def read_back(path):
    capture = cv2.VideoCapture(str(path))
    frames = []
    while (found := capture.read())[0]:
        frames.append(found[1][..., ::-1])
    return np.stack(frames), capture.get(cv2.CAP_PROP_FPS)


def write(path, frames, fps=12.5):
    with open_video(path, fps=fps) as add:
        for frame in frames:
            add(frame)


@pytest.mark.parametrize("ending", CODECS)
def test_frames_are_read_back(tmp_path, ending):
    path = tmp_path / f"odd: name %d{ending}"
    write(path, FRAMES)
    frames, fps = read_back(path)
    assert fps == 12.5
    assert frames.shape == FRAMES.shape
    # Away from the edges between patches.
    for rows, columns in [((2, 14), (2, 22)), ((18, 30), (2, 22)), ((2, 30), (26, 46))]:
        part = np.s_[:, slice(*rows), slice(*columns)]
        np.testing.assert_allclose(frames[part].astype(int), FRAMES[part], atol=12)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_matroska_loses_nothing(tmp_path):
    write(tmp_path / "a.MKV", NOISE)
    np.testing.assert_array_equal(read_back(tmp_path / "a.MKV")[0], NOISE)


@pytest.mark.parametrize("fps", [1 / 3, 23.976, 30000 / 1001, 60])
@pytest.mark.parametrize("ending", CODECS)
def test_usual_rates(tmp_path, ending, fps):
    write(tmp_path / f"a{ending}", FRAMES, fps)
    frames, read = read_back(tmp_path / f"a{ending}")
    assert len(frames) == len(FRAMES)
    np.testing.assert_allclose(read, fps, atol=1e-3)


@pytest.mark.parametrize("ending", CODECS)
def test_an_odd_row_and_column_are_left_out(tmp_path, ending):
    write(tmp_path / f"a{ending}", FRAMES[:, :31, :47])
    assert read_back(tmp_path / f"a{ending}")[0].shape == (5, 30, 46, 3)


def test_several_sizes_are_refused_and_what_was_written_stays(tmp_path):
    path = tmp_path / "a.mkv"
    message = r"a\.mkv: frame 2 is 30x48 \(height x width\), those before 32x48"
    with pytest.raises(InputError, match=message):
        write(path, [NOISE[0], NOISE[1], NOISE[2, :30]])
    np.testing.assert_array_equal(read_back(path)[0], NOISE[:2])
    assert [file.name for file in tmp_path.iterdir()] == ["a.mkv"]


@pytest.mark.parametrize("ending", [InputError("damaged"), KeyboardInterrupt()])
def test_an_end_that_is_foreseen_keeps_the_frames(tmp_path, ending):
    path = tmp_path / "a.mkv"

    def stopped():
        with open_video(path, fps=5) as add:
            add(NOISE[0])
            raise ending

    with pytest.raises(type(ending)):
        stopped()
    np.testing.assert_array_equal(read_back(path)[0], NOISE[:1])


def test_any_other_end_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.mkv"
    path.write_bytes(b"before")

    def broken():
        with open_video(path, fps=5) as add:
            add(NOISE[0])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broken()
    assert path.read_bytes() == b"before"
    assert [file.name for file in tmp_path.iterdir()] == ["a.mkv"]


def test_no_frames_no_video(tmp_path):
    write(tmp_path / "a.mp4", [])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "fps", "shape", "message"),
    [
        ("a.gif", 5, (8, 8, 3), r"expected a video file in \.mp4, \.avi, \.mkv"),
        ("gone/a.mp4", 5, (8, 8, 3), "cannot be written: no folder"),
        ("a.mp4", 0, (8, 8, 3), "0 frames per second; expected more than 0"),
        ("a.mp4", float("nan"), (8, 8, 3), "frames per second; expected more"),
        ("a.mp4", 5, (1, 1, 3), "OpenCV opens no video of 1x1"),
        ("a.mp4", 1e-3, (8, 8, 3), "0.001 frames per second here"),
    ],
)
def test_refused(tmp_path, capfd, name, fps, shape, message):
    with pytest.raises(InputError, match=message) as caught:
        write(tmp_path / name, [np.zeros(shape, np.uint8)], fps)
    assert name in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path):
    # A limit on the size of files stands for the disk: OpenCV hides both.
    paths = [tmp_path / f"a{ending}" for ending in CODECS]
    program = """if True:
        import pathlib, resource, sys
        import numpy as np
        from segjax.errors import InputError
        from segjax.inference.video_files import open_video
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
        for path in sys.argv[1:]:
            try:
                with open_video(pathlib.Path(path), fps=10) as add:
                    for shift in range(200):
                        add(np.roll(noise, shift, 0))
            except InputError as error:
                print(error)
    """
    command = [sys.executable, "-c", program, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    for path, line in zip(paths, lines, strict=True):
        assert line.startswith(f"{path}: cannot be written: of 200 frames only")
    assert done.stderr == ""
    assert list(tmp_path.iterdir()) == []


def test_opencv_missing_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(InputError, match=r"need OpenCV: pip install segjax\[video\]"):
        opencv.import_opencv()
    with pytest.raises(InputError, match=r"need OpenCV: pip install segjax\[video\]"):
        write(tmp_path / "a.mp4", FRAMES)
