"""OpenCV, for videos and cameras only: an optional package that is kept quiet."""

import os
from types import ModuleType

from segjax.errors import InputError


def import_opencv() -> ModuleType:
    """Imports `cv2` and silences it; what it would print is raised as InputError here.

    Environment variables of OpenCV's own that are set win: `OPENCV_LOG_LEVEL` and
    `OPENCV_FFMPEG_LOGLEVEL` (both go to stderr, past Python).

    Raises:
      InputError: it is not installed.
    """
    # Read by OpenCV when it opens its first video; -8 is FFmpeg's AV_LOG_QUIET.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    try:
        import cv2
    except ImportError as error:
        raise InputError(
            f"videos and cameras need OpenCV: pip install segjax[video] ({error})"
        ) from error
    if "OPENCV_LOG_LEVEL" not in os.environ:
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    return cv2
