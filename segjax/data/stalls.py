"""Says where the input stalls, while it does."""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

from segjax.data import pipeline, prefetch, records
from segjax.errors import InputError

# The innermost of these functions on a thread's stack is what the thread does.
_STAGES = {
    pipeline.Reading.__getitem__.__code__: "reading",
    records.decode.__code__: "decoding",
    pipeline.augment_row.__code__: "augmenting",
    pipeline.eval_row.__code__: "resizing",
    prefetch.transfer.__code__: "transferring to the device",
}
_INPUT = "input"


class StallWatch:
    """Watches what the training loop waits for; a context manager.

    with StallWatch(60.0, console.print) as watch:
        for batch in watch.batches(train_batches):
            with watch.stage("evaluation"):
                ...

    One thread looks on; what is watched costs two assignments. When one wait has
    lasted `seconds`, `report` is called, from that thread, with one line that names
    the stage, and again each time that the wait has doubled.
    """

    def __init__(self, seconds: float, report: Callable[[str], object]):
        """Raises `InputError` unless `seconds` is positive."""
        if not seconds > 0:
            raise InputError(f"stall_seconds is {seconds}, expected > 0")
        self._seconds = seconds
        self._report = report
        self._waiting: tuple[str, float] | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._look_on, name="stall watch", daemon=True
        )

    def __enter__(self) -> "StallWatch":
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._stop.set()
        self._thread.join()

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Watches the block under `name`."""
        self._waiting = (name, time.monotonic())
        try:
            yield
        finally:
            self._waiting = None

    def batches(self, batches: Iterator) -> Iterator:
        """Yields what `batches` yields and watches it."""
        while True:
            with self.stage(_INPUT):
                try:
                    batch = next(batches)
                except StopIteration:
                    return
            yield batch

    def _look_on(self) -> None:
        reported, due = None, 0.0
        while not self._stop.wait(self._seconds / 4):
            waiting = self._waiting
            if waiting is None:
                continue
            name, since = waiting
            if since != reported:
                reported, due = since, self._seconds
            waited = time.monotonic() - since
            if waited >= due:
                due = 2 * waited
                self._report(_message(name, waited))


def _message(name: str, seconds: float) -> str:
    if name != _INPUT:
        return f"stalled for {seconds:.0f} s: {name}"
    found = sorted({text for text in map(_activity, _frames()) if text})
    where = "; ".join(found) or "no thread prepares a batch"
    return f"no batch for {seconds:.0f} s: {where}"


def _frames() -> list[FrameType]:
    own = threading.get_ident()
    return [frame for ident, frame in sys._current_frames().items() if ident != own]


def _activity(frame: FrameType) -> str | None:
    """What a thread does for the input; None if nothing."""
    innermost, stage, example = frame, None, ""
    while frame is not None:
        code = frame.f_code
        stage = stage or _STAGES.get(code)
        if code is pipeline.Reading.__getitem__.__code__:
            example = f" example {frame.f_locals.get('index')}"
        frame = frame.f_back
    if stage is None:
        return None
    code = innermost.f_code
    place = f"{code.co_name}, {code.co_filename}:{innermost.f_lineno}"
    return f"{stage}{example} (in {place})"
