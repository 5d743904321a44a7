"""Stopping early without losing a step: signals, and what hosts tell each other."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

import jax
from jax.experimental import multihost_utils

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stopped(SystemExit):
    """A run was asked to stop, and has saved what it had; ends the program.

    Attributes:
      code: the exit status, 128 + the number of the signal as shells have it: 143
        after SIGTERM or another host's notice, 130 after SIGINT (Ctrl-C).
    """


class StopRequest:
    """Whether this run has been asked to stop.

    `listening` makes one that hears signals. One made by hand hears none.
    """

    def __init__(self):
        self._signal: int | None = None
        self._interrupting = False

    def reached(self, step: int) -> bool:
        """Whether to save and stop now, after `step`; the same in all processes.

        Of several processes each must call this after every step.
        """
        if jax.process_count() == 1:
            return self._signal is not None
        # The notice of one is known to all, and they agree on a step.
        if multihost_utils.reached_preemption_sync_point(step):
            self._signal = self._signal or signal.SIGTERM
            _die_at_the_next()
            return True
        return False

    @contextlib.contextmanager
    def interrupting(self) -> Iterator[None]:
        """Raises `Stopped` in the block as soon as a signal comes, or came before.

        For what may take longer than there is time, and can be done again. Of several
        processes none is interrupted: the others would wait for it.
        """
        if jax.process_count() > 1:
            yield
            return
        self._interrupting = True
        try:
            if self._signal is not None:
                raise self.stopped()
            yield
        finally:
            self._interrupting = False

    def stopped(self) -> Stopped:
        """What to raise when all is saved."""
        return Stopped(128 + (self._signal or signal.SIGTERM))

    def _hear(self, signum: int, frame: FrameType | None) -> None:
        self._signal = signum
        if jax.process_count() > 1:
            # JAX listens to this one itself, and tells the other hosts.
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)
            return
        _die_at_the_next()
        if self._interrupting:
            self._interrupting = False
            raise self.stopped()


@contextlib.contextmanager
def listening() -> Iterator[StopRequest]:
    """A request that SIGTERM and SIGINT make while the context lasts.

    The second signal ends the program at once. Outside of the main thread, where
    Python hears none, the request is never made.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    heard = SIGNALS if jax.process_count() == 1 else (signal.SIGINT,)
    before = {signum: signal.signal(signum, request._hear) for signum in heard}
    try:
        yield request
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _die_at_the_next() -> None:
    for signum in SIGNALS:
        signal.signal(signum, signal.SIG_DFL)
