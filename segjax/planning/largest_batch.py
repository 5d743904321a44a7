"""The largest batch that fits, where every attempt is a compilation."""

import dataclasses
import math
from collections.abc import Callable, Sequence


@dataclasses.dataclass(frozen=True)
class LargestBatch:
    """Where the memory ends.

    Attributes:
      fits: the largest batch found that fits, over all devices; 0 if none does.
      too_large: the smallest one found that does not; None if there was none.
      compilations: that it took.
    """

    fits: int
    too_large: int | None
    compilations: int


def find_largest(
    attempt: Callable[[int], tuple[bool, int | None]],
    *,
    start: int,
    first: tuple[bool, int | None],
    limit: int,
    accuracy: float = 1 / 32,
    attempts: int = 12,
) -> LargestBatch:
    """The largest batch that fits, in few attempts.

    Guesses along the line through what the last batches needed, and halves the
    interval where a guess does not make it half as long.

    Args:
      attempt: batch -> (does it fit, bytes that it needs or None).
      start: a batch that was tried.
      first: what came of it.
      limit: bytes that there are.
      accuracy: share of the batch up to which the answer may be too small.
      attempts: after which to give up; then the interval is larger.
    """
    fits, too_large, points, count = 0, None, [], 0
    batch, (is_fitting, needed) = start, first
    width = math.inf
    while True:
        if is_fitting:
            fits = max(fits, batch)
        else:
            too_large = batch if too_large is None else min(too_large, batch)
        if needed is not None:
            points = [*points, (batch, needed)][-2:]
        step = max(1, math.floor(accuracy * fits))
        if (too_large is not None and too_large - fits <= step) or count == attempts:
            return LargestBatch(fits, too_large, count)
        guess = _batch_of(limit, points)
        if too_large is None:
            batch = min(max(guess or 2 * fits, fits + step), 8 * fits)
        else:
            previous, width = width, too_large - fits
            is_slow = 2 * width > previous
            batch = (fits + too_large) // 2 if guess is None or is_slow else guess
            batch = min(max(batch, fits + step), too_large - step)
        is_fitting, needed = attempt(batch)
        count += 1


def _batch_of(limit: int, points: Sequence[tuple[int, int]]) -> int | None:
    """Where the line through the last two points reaches the limit."""
    if len(points) < 2:
        return None
    (b0, m0), (b1, m1) = points
    if b0 == b1 or (m1 - m0) * (b1 - b0) <= 0:
        return None
    return math.floor(b1 + (limit - m1) * (b1 - b0) / (m1 - m0))
