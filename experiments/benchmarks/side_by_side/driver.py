"""Starts the sides' processes and talks to them."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from segjax.errors import InputError

_FOLDER = Path(__file__).parents[1]


class Driver:
    """One side's process; every request waits for its answer.

    Raises:
      InputError: the process ended; what it printed is on standard error.
    """

    def __init__(self, side: str, python: str):
        """Starts it; `python` is the interpreter that has the side's library."""
        self.side = side
        self._process = subprocess.Popen(
            [python, "-m", "side_by_side.worker", side],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=_FOLDER,
        )

    def ask(self, action: str, **request) -> dict:
        """What the side answers to a request of `side_by_side.worker.serve`."""
        try:
            self._process.stdin.write(json.dumps({"do": action, **request}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # then there is no answer, either
        answer = self._process.stdout.readline()
        if not answer:
            status = self._process.wait()
            raise InputError(
                f"{self.side} ended with status {status} when asked to {action}"
            )
        return json.loads(answer)

    def stop(self) -> None:
        """Lets it end, and waits."""
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


@contextlib.contextmanager
def started(sides: dict[str, str | None]) -> Iterator[dict[str, Driver]]:
    """A process for each side, by name; the values are interpreters, None is this one."""
    drivers = {}
    try:
        for side, python in sides.items():
            drivers[side] = Driver(side, python or sys.executable)
        yield drivers
    finally:
        for driver in drivers.values():
            driver.stop()
