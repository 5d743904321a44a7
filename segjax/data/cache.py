"""Decoded examples kept in memory, in front of the augmentation."""

import logging
import threading
from collections.abc import Iterable, Mapping
from typing import Protocol

from segjax.data.host_memory import available_memory
from segjax.data.source import Example, Source
from segjax.errors import InputError

logger = logging.getLogger(__name__)


class SizedSource(Source, Protocol):
    """A source that knows what its examples take without decoding them."""

    def decoded_bytes(self) -> int: ...


def cached_splits(
    splits: Mapping[str, SizedSource],
    names: Iterable[str],
    *,
    available: int | None = None,
) -> dict[str, Source]:
    """Caches some splits, after checking that all of them fit into memory together.

    Says in the log what they will take. Of several processes each has a cache of its
    own, of whole splits: which examples it reads changes from epoch to epoch.

    Args:
      splits: split name -> source.
      names: the splits to cache; one that does not exist is left out.
      available: bytes there are; None asks the system.

    Returns:
      `splits` with some of them `Cached`.

    Raises:
      InputError: they do not fit, or the system does not say what it has.
    """
    names = [name for name in names if name in splits]
    sizes = {name: splits[name].decoded_bytes() for name in names}
    if available is None:
        available = available_memory()
    needed = sum(sizes.values())
    examples = " + ".join(f"{len(splits[name])} of {name}" for name in names)
    if available is None:
        raise InputError(
            f"cache is memory, and {examples} take {_text(needed)}, but this system "
            "does not say how much memory is available: expected Linux, or cache none"
        )
    if needed > available:
        raise InputError(
            f"cache is memory, but {examples} take {_text(needed)} and "
            f"{_text(available)} are available: expected cache none, or more memory"
        )
    logger.info(
        "cache: %s take %s of %s of memory", examples, _text(needed), _text(available)
    )
    return {
        **splits,
        **{name: Cached(splits[name], limit=sizes[name]) for name in names},
    }


class Cached:
    """A source that decodes every example once; it may be read from several threads.

    An example is kept when it is first read, so the first epoch is as fast as without.
    An example that cannot be read is not kept: reading it raises each time. The arrays
    are read-only, since all epochs share them.

    Attributes:
      nbytes: of image and label arrays kept, at most the limit.
    """

    def __init__(self, source: Source, *, limit: int):
        """Keeps at most `limit` bytes of arrays; what does not fit is read anew."""
        self._source = source
        self._limit = limit
        self._lock = threading.Lock()
        self._examples: dict[int, Example] = {}
        self.nbytes = 0

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Example:
        index = index.__index__()
        if index < 0:
            index += len(self)
        example = self._examples.get(index)
        if example is None:
            example = self._source[index]
            self._keep(index, example)
        return dict(example)

    def __repr__(self) -> str:
        return f"Cached({self._source!r})"

    def _keep(self, index: int, example: Example) -> None:
        image, label = example["image"], example["label"]
        size = image.nbytes + label.nbytes
        with self._lock:
            if index in self._examples or self.nbytes + size > self._limit:
                return
            image.flags.writeable = label.flags.writeable = False
            self._examples[index] = dict(example)
            self.nbytes += size


def _text(size: int) -> str:
    unit, name = (1e9, "GB") if size >= 1e9 else (1e6, "MB")
    return f"{size / unit:.1f} {name}"
