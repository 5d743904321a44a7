"""The one thread that predicts, and what it says of its work while it works."""

import asyncio
import base64
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

from segjax.errors import InputError
from segjax.inference.predictor import predict_image
from segjax.serve.runs import ServedRun
from segjax.serve.uploads import encode_label

_logger = logging.getLogger(__name__)

# Compiled programs that are kept. One took 6.5 MB (a quarter of SegNet-Basic, CPU).
_PROGRAMS = 64


class Labeller:
    """Labels images with the served runs, one at a time, whoever asks."""

    def __init__(self, runs: Sequence[ServedRun]):
        self.runs = tuple(runs)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="segjax-predict")
        self._seen: set[tuple] = set()
        self._stopped = asyncio.Event()
        self.busy = False  # whether an image is being labelled now

    def stop(self) -> None:
        """Ends all `events` where they are; for the thread of the event loop."""
        self._stopped.set()

    def close(self) -> None:
        """Starts nothing more, and waits for what runs: it cannot be broken off."""
        self._thread.shutdown(cancel_futures=True)

    async def events(
        self, indices: Sequence[int], image: np.ndarray, *, native_size: bool
    ) -> AsyncIterator[dict[str, Any]]:
        """Labels an image with some of the runs and tells how that goes.

        Args:
          indices: of the runs.
          image: uint8 `[h w 3]`.
          native_size: the networks see it at its own size and not at the one that they
            were trained at.

        Yields:
          For each run in turn dicts of `run`, its index, and `state`: "waiting" for
          other predictions; "compiling" (a size that this network has not seen yet)
          or "predicting"; "done" with `seconds`, whether that `compiled`, and `label`,
          the indexed PNG in base64; or "failed" with `error`, one line. After
          `stop` nothing more.
        """
        loop = asyncio.get_running_loop()
        stopped = asyncio.ensure_future(self._stopped.wait())
        try:
            for index in indices:
                started: asyncio.Future[bool] = loop.create_future()
                work = loop.run_in_executor(
                    self._thread, self._label, index, image, native_size, started
                )
                yield {"run": index, "state": "waiting"}
                await _first(started, work, stopped)
                if started.done():
                    state = "compiling" if started.result() else "predicting"
                    yield {"run": index, "state": state}
                await _first(work, stopped)
                if stopped.done():
                    work.cancel()
                    return
                yield {"run": index, **work.result()}
        finally:
            stopped.cancel()

    def _label(self, index, image, native_size, started) -> dict[str, Any]:
        """Runs in the thread; whatever goes wrong there is an answer, too."""
        self.busy = True
        try:
            return self._label_busy(index, image, native_size, started)
        finally:
            self.busy = False

    def _label_busy(self, index, image, native_size, started) -> dict[str, Any]:
        run = self.runs[index]
        size = None if native_size else run.predictor.image_size
        key = (index, size, image.shape)
        compiles = key not in self._seen
        if compiles and len(self._seen) >= _PROGRAMS:
            jax.clear_caches()
            self._seen.clear()
        _tell(started, compiles)
        start = time.perf_counter()
        try:
            scores = predict_image(run.predictor, image, image_size=size)
        except InputError as error:
            return {"state": "failed", "error": str(error)}
        except Exception as error:
            _logger.exception("%s: image of shape %s", run.title, image.shape)
            return {"state": "failed", "error": _in_one_line(error, image)}
        label = scores.argmax(axis=-1).astype(np.uint8)
        seconds = time.perf_counter() - start
        self._seen.add(key)
        png = encode_label(label, run.predictor.table)
        return {
            "state": "done",
            "seconds": seconds,
            "compiled": compiles,
            "label": base64.b64encode(png).decode("ascii"),
        }


async def _first(*futures: asyncio.Future) -> None:
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)


def _tell(future: asyncio.Future, value: bool) -> None:
    """Sets a future of the event loop from another thread, if someone still waits."""

    def set_result():
        if not future.done():
            future.set_result(value)

    # Nobody waits in a loop that is closed.
    with contextlib.suppress(RuntimeError):
        future.get_loop().call_soon_threadsafe(set_result)


def _in_one_line(error: Exception, image: np.ndarray) -> str:
    height, width = image.shape[:2]
    reason = str(error).strip().partition("\n")[0] or type(error).__name__
    if "RESOURCE_EXHAUSTED" in reason or isinstance(error, MemoryError):
        return f"image of {height}x{width} pixels: the device has not enough memory"
    return f"image of {height}x{width} pixels: the network cannot take it: {reason}"
