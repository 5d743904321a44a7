"""TensorBoard's event file, written by the caller and at once.

tensorboardX's own `SummaryWriter` writes from a thread, which ends at the first full
disk; the program then waits for it without end.
"""

import contextlib
import os
import socket
import time
from pathlib import Path

import numpy as np
from tensorboardX import summary
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.record_writer import RecordWriter


class EventFile:
    """One process's event file in a folder of them.

    Every method may raise `OSError`.
    """

    def __init__(self, folder: Path, *, start_step: int):
        """Opens a new file; what older ones have past `start_step` is not shown."""
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}"
        self._writer = RecordWriter(str(folder / f"{name}.{os.getpid()}"))
        self._write(file_version="brain.Event:2")
        restart = SessionLog(status=SessionLog.START)
        self._write(step=start_step + 1, session_log=restart)

    def scalar(self, name: str, value: float, step: int) -> None:
        """Adds a point to the curve `name`."""
        self._write(step=step, summary=summary.scalar(name, value))

    def image(self, name: str, pixels: np.ndarray, step: int) -> None:
        """Adds a picture, uint8 `[h w 3]`."""
        content = summary.image(name, pixels, dataformats="HWC")
        self._write(step=step, summary=content)

    def flush(self) -> None:
        """Puts all of it on disk."""
        self._writer.flush()

    def close(self) -> None:
        """Flushes and closes; of a disk that is full the writing methods tell."""
        with contextlib.suppress(OSError):
            self._writer.close()

    def _write(self, **fields) -> None:
        self._writer.write(Event(wall_time=time.time(), **fields).SerializeToString())
