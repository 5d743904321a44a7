"""Several sources as one."""

import bisect
import dataclasses
import itertools
from collections.abc import Sequence

from segjax.data.source import Example, Source


@dataclasses.dataclass(frozen=True)
class Part:
    """One of the sources of a mixture.

    Attributes:
      name: of its data set.
      count: its examples; they follow those of the part before.
      weight: share of the training images that are drawn from it, relative to the
        other parts' weights.
    """

    name: str
    count: int
    weight: float


class Joined:
    """The examples of several sources one after the other, with their names before ids."""

    def __init__(self, named: Sequence[tuple[str, Source]]):
        """Joins (name, source) pairs; an example's id becomes `name-id`."""
        self._named = list(named)
        self._ends = list(itertools.accumulate(len(source) for _, source in named))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> Example:
        index = index.__index__()
        if not -len(self) <= index < len(self):
            raise IndexError(f"{self!r}: no example {index}")
        index %= len(self)
        which = bisect.bisect_right(self._ends, index)
        name, source = self._named[which]
        example = source[index - self._ends[which] + len(source)]
        return {**example, "id": f"{name}-{example['id']}"}

    def __repr__(self) -> str:
        return f"Joined({self._named!r})"

    def decoded_bytes(self) -> int:
        """See `segjax.data.cache`."""
        return sum(source.decoded_bytes() for _, source in self._named)
