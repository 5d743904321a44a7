"""Going on past a few bad records, by choice and with a count."""

import logging
import threading

from segjax.data.source import Example, Source, checked
from segjax.errors import InputError

logger = logging.getLogger(__name__)


def skip_bad(source: Source, *, max_bad: int) -> "SkipBad":
    """Replaces every bad example of a source by the next good one.

    An example is bad if reading it raises `InputError`, or if it is malformed. In
    place of example `i` stands the first good one of `i + 1, i + 2, ...`, cyclically,
    so what is read stays a function of the index: a resumed run reads the same.

    Args:
      source: random-access examples.
      max_bad: how many different bad examples to put up with, at least 0. They are
        counted as they are met, anew in a resumed run.

    Raises:
      InputError: `max_bad` is negative.
    """
    if max_bad < 0:
        raise InputError(f"max_bad {max_bad}: expected 0 or more")
    return SkipBad(source, max_bad)


class SkipBad:
    """A source without bad examples; `skip_bad` makes it.

    Attributes:
      bad: index of a bad example met so far -> what is wrong with it, with the names
        of file and record. Each is also a warning in the log, once.
    """

    def __init__(self, source: Source, max_bad: int):
        self._source = source
        self._max_bad = max_bad
        self._lock = threading.Lock()
        self.bad: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Example:
        for offset in range(len(self)):
            candidate = (index + offset) % len(self)
            try:
                return checked(self._source[candidate])
            except InputError as error:
                self._note(candidate, error)
        raise InputError("every example of the source is bad")

    def _note(self, index: int, error: InputError) -> None:
        with self._lock:
            if index in self.bad:
                return
            # Several threads read: each that meets one too many says the same.
            if len(self.bad) == self._max_bad:
                raise InputError(
                    f"{error} (bad record number {self._max_bad + 1}, "
                    f"max_bad is {self._max_bad})"
                ) from error
            self.bad[index] = str(error)
            count = len(self.bad)
        logger.warning(
            "skipped bad record %d of at most %d: %s", count, self._max_bad, error
        )
