"""Writing videos with OpenCV."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import chex
import numpy as np

from segjax.errors import InputError
from segjax.inference.opencv import import_opencv

CODECS = {".mp4": "mp4v", ".avi": "MJPG", ".mkv": "FFV1"}
"""Ending -> codec, out of those that OpenCV's wheels encode (MPEG-4 part 2, motion
JPEG, and FFV1 without loss)."""


@contextlib.contextmanager
def open_video(path: Path, *, fps: float) -> Iterator[Callable[[np.ndarray], None]]:
    """Gives a function that appends a frame, uint8 `[h w 3]`, to a new video.

    Of an odd height or width the last row or column is left out, as the codecs want.
    The video is written to `NAME.tmp.ENDING`. It takes its name when the block ends,
    also by an InputError or an interruption from the keyboard, with the frames that
    were there by then; any other exception leaves nothing. So does a block without
    frames.

    Args:
      path: of the video; its ending, one of CODECS, says what it is written as.
        Its folder exists; a file of this name is replaced.
      fps: frames per second.

    Raises:
      InputError: another ending, no such folder, no OpenCV; frames of several sizes;
        OpenCV cannot write the video, or not to its end (full disk).
    """
    if path.suffix.lower() not in CODECS:
        raise InputError(f"{path}: expected a video file in {', '.join(CODECS)}")
    if not path.parent.is_dir():
        raise InputError(f"{path}: cannot be written: no folder {path.parent}")
    if not 0 < fps < float("inf"):
        raise InputError(f"{path}: {fps} frames per second; expected more than 0")
    cv2 = import_opencv()
    video = _Video(path, fps, cv2)
    try:
        try:
            yield video.write
        except (InputError, KeyboardInterrupt):
            video.finish()
            raise
        video.finish()
    finally:
        video.clear()


class _Video:
    """A video under its scratch name."""

    def __init__(self, path: Path, fps: float, cv2: ModuleType):
        self._path, self._fps, self._cv2 = path, fps, cv2
        # FFmpeg tells the container by the ending, and in a relative path takes what
        # stands before a colon for a protocol.
        self._scratch = path.absolute().with_name(f"{path.stem}.tmp{path.suffix}")
        self._writer = cv2.VideoWriter()
        self._size = None
        self._count = 0

    def write(self, frame: np.ndarray) -> None:
        chex.assert_shape(frame, (None, None, 3))
        chex.assert_type(frame, np.uint8)
        size = frame.shape[:2]
        if self._size is None:
            self._open(*size)
            self._size = size
        if size != self._size:
            raise InputError(
                f"{self._path}: frame {self._count} is {size[0]}x{size[1]} (height x "
                f"width), those before {self._size[0]}x{self._size[1]}; a video has "
                "one size"
            )
        self._writer.write(np.ascontiguousarray(frame[..., ::-1]))
        self._count += 1

    def _open(self, height: int, width: int) -> None:
        self._writer.open(
            str(self._scratch),
            self._cv2.CAP_FFMPEG,
            self._cv2.VideoWriter.fourcc(*CODECS[self._path.suffix.lower()]),
            self._fps,
            (width, height),
        )
        if not self._writer.isOpened():
            raise InputError(
                f"{self._path}: cannot be written: OpenCV opens no video of "
                f"{height}x{width} (height x width), {self._fps} frames per second here"
            )

    def finish(self) -> None:
        self._writer.release()
        if not self._count:
            return
        # OpenCV does not tell of a write that failed.
        capture = self._cv2.VideoCapture(str(self._scratch), self._cv2.CAP_FFMPEG)
        readable = round(capture.get(self._cv2.CAP_PROP_FRAME_COUNT))
        capture.release()
        # Matroska knows its duration in milliseconds, so the count is rounded.
        if abs(readable - self._count) > 1:
            raise InputError(
                f"{self._path}: cannot be written: of {self._count} frames only "
                f"{max(readable, 0)} can be read back; is the disk full?"
            )
        self._scratch.replace(self._path)

    def clear(self) -> None:
        self._writer.release()
        with contextlib.suppress(OSError):
            self._scratch.unlink()
