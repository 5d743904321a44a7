"""A stream of images through a network: read ahead, batched, predicted, one behind."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from segjax.errors import InputError

Source = tuple[str, Callable[[], np.ndarray]]
"""An image's name, and what reads it: uint8 `[h w 3]`."""

Maps = dict[str, Any]
"""Name of a map -> array `[n h w ...]` of a batch, or `[h w ...]` of an image."""


def predict_stream(
    sources: Iterable[Source],
    predict: Callable[[np.ndarray], Maps],
    *,
    batch_size: int,
    read_ahead: int,
) -> Iterator[tuple[str, np.ndarray, Maps]]:
    """Predicts images in the order in which they come.

    Threads read the next images while the device works, and the next batch is handed
    to the device before the maps of the last one are looked at. Consecutive images of
    one size share a batch; a batch that does not fill up is padded by black images to
    the next power of two, so that a folder compiles for few batch sizes.

    Args:
      sources: the images.
      predict: images uint8 `[n h w 3]` -> maps of them.
      batch_size: largest n.
      read_ahead: images that are read before they are needed; 0 for a camera, where
        only the newest image is of interest.

    Yields:
      Name, image and maps (on the host) of each image.

    Raises:
      InputError: `batch_size` is below 1, or an image cannot be read; everything
        before it has been given by then.
    """
    if batch_size < 1:
        raise InputError(f"batch_size {batch_size}: expected at least 1")
    images = _read(sources, ahead=read_ahead)
    started = (
        (batch, predict(_filled(batch, batch_size)))
        for batch in _batches(images, batch_size)
    )
    for batch, maps in _one_behind(started):
        maps = {name: np.asarray(values) for name, values in maps.items()}
        for row, (name, image) in enumerate(batch):
            yield name, image, {key: values[row] for key, values in maps.items()}


def _read(sources, *, ahead):
    if not ahead:
        for name, read in sources:
            yield name, read()
        return
    with ThreadPoolExecutor(min(ahead, 4)) as pool:
        waiting = deque()
        try:
            for name, read in sources:
                waiting.append((name, pool.submit(read)))
                if len(waiting) > ahead:
                    name, image = waiting.popleft()
                    yield name, image.result()
            while waiting:
                name, image = waiting.popleft()
                yield name, image.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _batches(images, batch_size):
    """Groups of consecutive images of one shape; a group is given before an error."""
    group = []
    try:
        for name, image in images:
            if group and image.shape != group[0][1].shape:
                yield group
                group = []
            group.append((name, image))
            if len(group) == batch_size:
                yield group
                group = []
    except InputError:
        if group:
            yield group
        raise
    if group:
        yield group


def _filled(batch, batch_size):
    images = np.stack([image for _, image in batch])
    count = min(batch_size, 1 << (len(images) - 1).bit_length())
    padding = np.zeros((count - len(images), *images.shape[1:]), np.uint8)
    return np.concatenate([images, padding]) if len(padding) else images


def _one_behind(items):
    """Each item when the next one is there too; what is held is given before an error."""
    held = deque()
    try:
        for item in items:
            held.append(item)
            if len(held) > 1:
                yield held.popleft()
    except InputError:
        yield from held
        raise
    yield from held
