"""Batches put on the devices ahead of the step that takes them."""

import itertools
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

DEPTH = 2
"""Batches that are ready on the devices while another one is trained on."""


class Prefetched:
    """Iterates over `put(batch)` for every batch, made ahead by one thread.

    with Prefetched(train_batches(0), partial(shard_batch, mesh)) as batches:
        for batch in batches: ...

    While a step runs, or its figures are fetched, the next batches are on their way.
    Order and values are those of `map(put, batches)`; an error that reading or
    transferring a batch raises is raised when that batch is due, after all before it.

    Waiting in `next` can be interrupted by a signal. Leaving the context never waits
    for a batch that is late: the thread ends when it comes, and closes `batches`.
    """

    def __init__(
        self,
        batches: Iterator,
        put: Callable[[Any], Any],
        *,
        count: int | None = None,
        depth: int = DEPTH,
    ):
        """Starts nothing yet: the thread starts on entering the context.

        Args:
          batches: host batches; closed at the end if it has a `close`.
          put: host batch -> what is yielded.
          count: how many are asked for at most; None takes all that there are.
          depth: how many are made ahead, at least 1.
        """
        self._batches = batches
        self._put = put
        self._count = count
        # Queues in C, with no lock of Python's that an interrupted `get` could keep.
        self._slots: queue.SimpleQueue = queue.SimpleQueue()
        self._ready: queue.SimpleQueue = queue.SimpleQueue()
        self._open = True
        for _ in range(depth):
            self._slots.put(None)
        self._thread = threading.Thread(
            target=self._work, name="device prefetch", daemon=True
        )

    def __enter__(self) -> "Prefetched":
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._open = False
        self._slots.put(None)
        self._thread.join(timeout=1.0)

    def __iter__(self) -> "Prefetched":
        return self

    def __next__(self) -> Any:
        batch, error = self._ready.get()
        if error is not None:
            self._ready.put((None, error))  # for whoever asks again
            raise error
        self._slots.put(None)
        return batch

    def _work(self) -> None:
        try:
            for batch in self._taken():
                self._ready.put((transfer(self._put, batch), None))
            raise StopIteration
        except BaseException as error:  # StopIteration, too: all are the consumer's
            self._ready.put((None, error))
        finally:
            close = getattr(self._batches, "close", None)
            if close is not None:
                close()

    def _taken(self) -> Iterator:
        """Takes one batch for every free slot."""
        for _ in itertools.count() if self._count is None else range(self._count):
            self._slots.get()
            if not self._open:
                return
            try:
                batch = next(self._batches)
            except StopIteration:
                return
            yield batch


def transfer(put: Callable[[Any], Any], batch: Any) -> Any:
    """`put(batch)`; a place on the stack that tells what the thread does."""
    return put(batch)
