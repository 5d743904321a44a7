"""Where images to predict come from: files, a video, a camera, standard input."""

import contextlib
import dataclasses
import io
import math
import sys
from collections.abc import Iterator
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import BinaryIO, Literal, NoReturn

import numpy as np

from segjax.errors import InputError
from segjax.inference.image_files import read_image
from segjax.inference.image_stream import split_images
from segjax.inference.opencv import import_opencv
from segjax.inference.predict_files import find_images
from segjax.inference.stream import Source

VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts"),
    *(".mts", ".m2ts", ".wmv", ".flv", ".ogv", ".3gp", ".y4m"),
)
"""Endings of the files that are opened as videos; every other file is an image."""


@dataclasses.dataclass(frozen=True)
class Frames:
    """Images in the order in which they come, to be gone through once.

    Attributes:
      kind: what they are taken from.
      sources: name of each, and the function that reads it: uint8 `[h w 3]`, RGB,
        upright. The functions may be called in threads, and late: each holds its own
        encoded or decoded image, and no more images are held than the caller holds. No
        error is raised by going on to the next image; each is raised by a `read`, after
        all images before it.
      count: how many to expect, for showing progress; None if that is unknown. A video
        may have more or fewer.
      fps: frames per second of a video or camera, of those that are selected; None if
        that is unknown.
      paths: of image files; empty for the other kinds.
    """

    kind: Literal["images", "video", "camera", "stdin"]
    sources: Iterator[Source]
    count: int | None = None
    fps: float | None = None
    paths: tuple[Path, ...] = ()


@contextlib.contextmanager
def open_frames(
    source: str,
    *,
    every: int = 1,
    limit: int | None = None,
    stdin: BinaryIO | None = None,
) -> Iterator[Frames]:
    """Opens whatever holds images.

    Image files keep their names without the ending. Frames of a video, of a camera and
    of standard input are named `frame_000000` and so on, by their position in all of
    them, also if not every frame is selected.

    Args:
      source: image file; folder of image files (`find_images`); video file, by its
        ending (VIDEO_SUFFIXES); `camera:0`; or `-`, standard input: one image, or PNG,
        JPEG and binary PPM images in a row (`split_images`). A file of a name like the
        last two is `./-`.
      every: take the first image and then every n-th.
      limit: take at most so many; None takes all, of a camera without end.
      stdin: buffered binary file that `-` reads; None is this program's.

    Raises:
      InputError: there is nothing of this kind, or it cannot be opened; OpenCV is
        needed and missing; `every` or `limit` is below 1. In the functions that read:
        see `read_image` and `split_images`; a video or camera that gives no frame, or
        stops early.
    """
    if every < 1:
        raise InputError(f"every {every}: expected at least 1")
    if limit is not None and limit < 1:
        raise InputError(f"limit {limit}: expected at least 1")
    if source == "-":
        opened = _open_stdin(stdin, every=every)
    elif source.startswith("camera:"):
        opened = _open_camera(source, every=every)
    elif Path(source).suffix.lower() in VIDEO_SUFFIXES and Path(source).is_file():
        opened = _open_video(Path(source), every=every)
    else:
        opened = _open_images(Path(source), every=every)
    with opened as frames:
        counts = [number for number in (frames.count, limit) if number is not None]
        yield dataclasses.replace(
            frames,
            sources=_errors_in_turn(islice(frames.sources, limit)),
            count=min(counts, default=None),
            paths=frames.paths[:limit],
        )


def _errors_in_turn(sources: Iterator[Source]) -> Iterator[Source]:
    """Has a function that reads raise them, so that who reads ahead loses nothing."""
    try:
        yield from sources
    except InputError as error:
        yield "error", partial(_raise, error)


def _raise(error: InputError) -> NoReturn:
    raise error


@contextlib.contextmanager
def _open_images(source, *, every):
    paths = tuple(find_images(source)[::every])
    sources = ((path.stem, partial(read_image, path)) for path in paths)
    yield Frames("images", sources, count=len(paths), paths=paths)


@contextlib.contextmanager
def _open_stdin(file, *, every):
    if file is None:
        file = getattr(sys.stdin, "buffer", None)
    if file is None or file.closed:
        raise InputError("standard input is closed; expected an image")
    if file.isatty():
        raise InputError(
            "standard input is a terminal; expected an image: "
            "... --input - < IMAGE, or ffmpeg ... -f image2pipe - | ... --input -"
        )
    images = enumerate(split_images(file, source="standard input"))
    yield Frames(
        "stdin",
        (
            (_name(number), partial(_decode, data, number))
            for number, data in islice(images, 0, None, every)
        ),
    )


def _decode(data, number):
    return read_image(io.BytesIO(data), source=f"standard input: image {number}")


@contextlib.contextmanager
def _open_video(path, *, every):
    cv2 = import_opencv()
    try:
        # For the system's own words; OpenCV says only that it did not work.
        with path.open("rb") as file:
            if not file.read(1):
                raise InputError(f"{path}: is empty; expected a video")
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    # FFmpeg takes what stands before a colon for a protocol, in a relative path.
    capture = cv2.VideoCapture(str(path.absolute()), cv2.CAP_FFMPEG)
    try:
        if not capture.isOpened():
            raise InputError(
                f"{path}: not a readable video: damaged, cut off, or of a kind that "
                "OpenCV does not know"
            )
        fps, promised = _fps(capture, cv2), _promised(capture, cv2)
        yield Frames(
            "video",
            _video_frames(path, capture, cv2, every, promised=promised, fps=fps),
            count=promised and math.ceil(promised / every),
            fps=fps and fps / every,
        )
    finally:
        capture.release()


def _video_frames(path, capture, cv2, every, *, promised, fps):
    number, milliseconds = yield from _captured(capture, cv2, every)
    if not number:
        raise InputError(f"{path}: no frame can be read; damaged or cut off")
    if promised is None or fps is None:
        return
    # The promise is often a guess, from a duration and a rate that varies: only one
    # that neither the frames nor their times come near to is taken as broken.
    by_time = milliseconds / 1000 * fps + 1
    if max(number, by_time) < promised - max(2, promised / 100):
        raise InputError(
            f"{path}: ends after {number} of the {promised} frames that it promises; "
            "damaged or cut off"
        )


def _camera_frames(source, capture, cv2, every):
    number, _ = yield from _captured(capture, cv2, every)
    raise InputError(f"{source}: stopped after {number} frames; is it unplugged?")


def _captured(capture, cv2, every):
    """Gives every n-th frame; returns how many there were, and the last one's time."""
    milliseconds = 0.0
    for number in count():
        if not capture.grab():
            return number, milliseconds
        milliseconds = capture.get(cv2.CAP_PROP_POS_MSEC)
        if number % every == 0:
            found, bgr = capture.retrieve()
            if not found:
                return number, milliseconds
            yield _name(number), partial(_rgb, bgr)


def _rgb(bgr: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(bgr[..., ::-1])


def _name(number: int) -> str:
    return f"frame_{number:06d}"


def _fps(capture, cv2) -> float | None:
    fps = capture.get(cv2.CAP_PROP_FPS)
    return fps if 0 < fps <= 1000 else None


def _promised(capture, cv2) -> int | None:
    frames = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    return round(frames) if 1 <= frames < 2**31 else None


@contextlib.contextmanager
def _open_camera(source, *, every):
    number = source.removeprefix("camera:")
    if not number.isdecimal():
        raise InputError(f"{source}: expected camera:NUMBER, such as camera:0")
    cv2 = import_opencv()
    capture = cv2.VideoCapture(int(number))
    try:
        if not capture.isOpened():
            raise InputError(
                f"{source}: there is no such camera, or another program uses it"
            )
        fps = _fps(capture, cv2)
        yield Frames(
            "camera",
            _camera_frames(source, capture, cv2, every),
            fps=fps and fps / every,
        )
    finally:
        capture.release()
