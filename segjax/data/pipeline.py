"""Random-access examples to host batches, with Grain and threads.

A source is anything with `len(source)` and `source[i]` -> dict of `image` uint8
`[h w 3]`, `label` uint8 `[h w]` (class index or `VOID`) and `id` str. A batch is a
dict of `image` uint8 `[b h w 3]`, `label` uint8 `[b h w]` and `valid` bool `[b]`;
a training batch with border weights also has `weight` float32 `[b h w]`.

Decoding and resizing release the interpreter lock, so threads are enough and no
worker process is started; `source[i]` is called from several at a time.
`iterator.close()` stops them early.
"""

import functools
from collections.abc import Iterator, Sequence

import grain
import numpy as np

from segjax.data import transforms
from segjax.data.border_weights import border_weights
from segjax.data.labels import VOID
from segjax.data.mixed_order import mixed_order
from segjax.data.mixture import Part
from segjax.data.source import Source, checked
from segjax.data.transforms import Size
from segjax.errors import InputError

Batch = dict[str, np.ndarray]


def train_batches(
    source: Source,
    *,
    batch_size: int,
    crop_size: Size,
    scale_range: tuple[float, float],
    flip: bool,
    photometric: float,
    elastic: float = 0.0,
    border_weight: tuple[float, float, int] | None = None,
    image_size: Size | None = None,
    parts: Sequence[Part] = (),
    seed: int,
    start_step: int = 0,
    shard_index: int = 0,
    shard_count: int = 1,
    num_threads: int = 2,
    prefetch: int = 8,
) -> Iterator[Batch]:
    """Yields shuffled, augmented batches without end.

    Batch and augmentation at a step depend on the seed and the step alone, not on
    the number of threads or shards: starting at `start_step` costs nothing and gives
    what an uninterrupted run gives from there on. Every epoch holds each example
    once, in another order; a batch may span two epochs.

    Args:
      source: random-access examples.
      batch_size: rows of the global batch, over all shards.
      crop_size: `(height, width)` of every image and label.
      scale_range: `(lowest, highest)` factor, see `transforms.random_scale_crop`.
      flip: whether to mirror half of the examples left to right.
      photometric: strength in 0..1 of the colour jitter, 0 for none.
      elastic: standard deviation of the elastic deformation, in pixels of the
        example before it is scaled, 0 for none; see `transforms.random_elastic`.
      border_weight: `(w0, sigma, cell_class)` of `border_weights`, sigma in pixels of
        the crop; None for no weights. The weights are those of the augmented label,
        with 1 for every class: class weights are the loss's to multiply by.
      image_size: `(height, width)` that scale 1 means; each example's own if None.
      parts: of a source that joins several: where each lies and how often it is drawn
        from (`mixed_order.py`); an epoch is each part's own then. Empty: all
        examples equally often.
      seed: integer >= 0 that fixes order and augmentation.
      start_step: first step to yield.
      shard_index: which rows of the global batch to yield: shard `i` of `n` gets
        rows `i * b / n` to `(i + 1) * b / n`.
      shard_count: number of shards, a divisor of `batch_size`.
      num_threads: threads that prepare batches; 0 does it in the caller's.
      prefetch: batches kept ready.

    Returns:
      An iterator over batches of `batch_size / shard_count` rows, all `valid`.

    Raises:
      InputError: for an option out of range or an empty source, at once; for an
        example that cannot be read or is malformed, when its batch is due.
    """
    _check_source(source)
    rows = _rows_per_shard(batch_size, shard_index=shard_index, shard_count=shard_count)
    _check_size("crop_size", crop_size)
    _check_size("image_size", image_size, optional=True)
    lowest, highest = scale_range
    if not 0 < lowest <= highest:
        raise InputError(f"scale_range {scale_range}: expected 0 < lowest <= highest")
    if not 0 <= photometric <= 1:
        raise InputError(f"photometric {photometric}: expected a strength in 0..1")
    if not elastic >= 0:
        raise InputError(f"elastic {elastic}: expected a number of pixels >= 0")
    _check_border_weight(border_weight)
    if start_step < 0:
        raise InputError(f"start_step {start_step}: expected an integer >= 0")
    if seed < 0:
        raise InputError(f"seed {seed}: expected an integer >= 0")
    augment = functools.partial(
        augment_row,
        crop_size=tuple(crop_size),
        scale_range=(lowest, highest),
        flip=flip,
        strength=photometric,
        elastic=elastic,
        border_weight=border_weight,
        image_size=image_size,
    )
    # Rows are chosen after the random steps: their seed is the row's index in the
    # endless global stream, whatever the shard.
    if parts:
        _check_parts(parts, source)
        order = mixed_order(parts, seed=seed).seed(seed)
        stream = order.map(Reading(source).__getitem__)
    else:
        stream = grain.MapDataset.source(Reading(source)).seed(seed)
        stream = stream.shuffle().repeat(None)
    stream = _ShardRows(
        stream.map(checked).random_map(augment),
        batch_size=batch_size,
        rows=rows,
        shard_index=shard_index,
        start_step=start_step,
    )
    return _iterate(stream, rows, num_threads=num_threads, prefetch=prefetch)


def eval_batches(
    source: Source,
    *,
    batch_size: int,
    image_size: Size | None = None,
    pad_size: Size | None = None,
    shard_index: int = 0,
    shard_count: int = 1,
    num_threads: int = 2,
    prefetch: int = 8,
) -> Iterator[Batch]:
    """Yields every example once, in the source's order, in batches of one shape.

    The last batch is filled with rows of image 0, label `VOID` and `valid` False,
    and every shard yields the same number of batches. Labels are never resized: a
    prediction is scored at the label's own resolution.

    Args:
      source: random-access examples.
      batch_size: rows of the global batch, over all shards.
      image_size: `(height, width)` to resize images to. Needs examples of one size
        and excludes `pad_size`, as padding would be stretched along with the image.
      pad_size: `(height, width)` to pad smaller examples to, at the bottom and on
        the right: the image with its mirror image, the label with void (see
        `max_size`). If None, all examples must have the size of the first.
      shard_index: which rows of each global batch to yield, as in `train_batches`.
      shard_count: number of shards, a divisor of `batch_size`.
      num_threads: threads that prepare batches; 0 does it in the caller's.
      prefetch: batches kept ready.

    Returns:
      An iterator over `ceil(len(source) / batch_size)` batches of
      `batch_size / shard_count` rows.

    Raises:
      InputError: for an option out of range or an empty source, at once; for an
        example that cannot be read or does not fit, when its batch is due.
    """
    _check_source(source)
    rows = _rows_per_shard(batch_size, shard_index=shard_index, shard_count=shard_count)
    _check_size("image_size", image_size, optional=True)
    _check_size("pad_size", pad_size, optional=True)
    if image_size is not None and pad_size is not None:
        raise InputError("image_size and pad_size exclude each other: give one")
    if pad_size is None:
        label_size = checked(source[0])["label"].shape
        prepare = functools.partial(_same_size, size=label_size, image_size=image_size)
    else:
        label_size = tuple(pad_size)
        prepare = functools.partial(_padded, size=label_size)
    padding = {
        "image": np.zeros((*(image_size or label_size), 3), np.uint8),
        "label": np.full(label_size, VOID, np.uint8),
        "valid": np.bool_(False),
    }
    row = functools.partial(
        eval_row, source=Reading(source), prepare=prepare, padding=padding
    )
    steps = -(-len(source) // batch_size)
    stream = _ShardRows(
        grain.MapDataset.range(steps * batch_size).map(row),
        batch_size=batch_size,
        rows=rows,
        shard_index=shard_index,
        start_step=0,
    )
    return _iterate(stream, rows, num_threads=num_threads, prefetch=prefetch)


def max_size(source: Source) -> Size:
    """The smallest `(height, width)` that holds every example; reads them all.

    Args:
      source: random-access examples.

    Returns:
      Two integers, for `eval_batches(pad_size=...)`.

    Raises:
      InputError: for an empty source or a malformed example.
    """
    _check_source(source)
    shapes = [checked(source[index])["label"].shape for index in range(len(source))]
    height, width = np.max(shapes, axis=0)
    return int(height), int(width)


class Reading:
    """The source itself; a place on the stack that tells who reads which example."""

    def __init__(self, source: Source):
        self._source = source

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index):
        return self._source[index]

    def __repr__(self) -> str:
        return repr(self._source)


class _ShardRows(grain.MapDataset):
    """One shard's rows of each global batch, in order, from a step on."""

    def __init__(self, parent, *, batch_size, rows, shard_index, start_step):
        super().__init__(parent)
        self._batch_size = batch_size
        self._rows = rows
        self._first = start_step * batch_size + shard_index * rows
        self._length = (len(parent) // batch_size - start_step) * rows

    def __len__(self):
        return self._length

    def __getitem__(self, index):
        if isinstance(index, slice):
            return self.slice(index)
        step, row = divmod(index, self._rows)
        return self._parent[self._first + step * self._batch_size + row]


def _iterate(stream, rows, *, num_threads, prefetch):
    if num_threads < 0 or prefetch < 1:
        raise InputError(
            f"num_threads {num_threads}, prefetch {prefetch}: "
            "expected num_threads >= 0 and prefetch >= 1"
        )
    # The rows always fill the last batch. Keeping a remainder makes Grain compute the
    # number of batches in floating point, which overflows for rows of 1 without end.
    batches = stream.batch(rows, drop_remainder=True)
    # Grain's own default keeps 500 elements ready, and an element here is a batch.
    options = grain.ReadOptions(
        num_threads=min(num_threads, prefetch), prefetch_buffer_size=prefetch
    )
    return iter(batches.to_iter_dataset(options))


def eval_row(index, *, source, prepare, padding):
    """One row of an evaluation batch, `padding` past the end of the source."""
    if index >= len(source):
        return padding
    return {**prepare(checked(source[index])), "valid": np.bool_(True)}


def augment_row(
    example,
    rng,
    *,
    crop_size,
    scale_range,
    flip,
    strength,
    elastic,
    border_weight,
    image_size,
):
    """One row of a training batch."""
    if elastic:
        # Before the crop, so that what moves into it is the example, not its mirror.
        example = transforms.random_elastic(example, rng, sigma=elastic)
    example = transforms.random_scale_crop(
        example,
        rng,
        crop_size=crop_size,
        scale_range=scale_range,
        image_size=image_size,
    )
    if flip:
        example = transforms.random_flip(example, rng)
    if strength:
        example = transforms.photometric(example, rng, strength=strength)
    row = {
        "image": example["image"],
        "label": example["label"],
        "valid": np.bool_(True),
    }
    if border_weight is not None:
        w0, sigma, cell_class = border_weight
        row["weight"] = border_weights(
            example["label"], cell_class=cell_class, w0=w0, sigma=sigma
        )
    return row


def _same_size(example, *, size, image_size):
    image, label = example["image"], example["label"]
    if label.shape != size:
        raise InputError(
            f"example {example['id']}: {_text(label.shape)} pixels, but the first one "
            f"has {_text(size)}; evaluating examples of several sizes needs pad_size"
        )
    if image_size is not None:
        image = transforms.resize_image(image, image_size)
    return {"image": image, "label": label}


def _padded(example, *, size):
    image, label = example["image"], example["label"]
    if label.shape[0] > size[0] or label.shape[1] > size[1]:
        raise InputError(
            f"example {example['id']}: {_text(label.shape)} pixels do not fit "
            f"pad_size {_text(size)}"
        )
    return {
        "image": transforms.pad_image(image, size),
        "label": transforms.pad_label(label, size),
    }


def _check_parts(parts, source):
    total = sum(part.count for part in parts)
    if total != len(source):
        raise InputError(
            f"parts have {total} examples, the source {len(source)}; expected as many"
        )


def _check_source(source):
    if len(source) < 1:
        raise InputError("the source has no examples, expected at least one")


def _rows_per_shard(batch_size, *, shard_index, shard_count):
    if batch_size < 1:
        raise InputError(f"batch_size {batch_size}: expected at least 1")
    if not 0 <= shard_index < shard_count:
        raise InputError(
            f"shard_index {shard_index} of shard_count {shard_count}: "
            "expected 0 <= shard_index < shard_count"
        )
    if batch_size % shard_count:
        raise InputError(
            f"batch_size {batch_size}: expected a multiple of shard_count {shard_count}"
        )
    return batch_size // shard_count


def _check_size(name, size, *, optional=False):
    if optional and size is None:
        return
    if size is None or len(size) != 2 or min(size) < 1:
        raise InputError(f"{name} {size}: expected (height, width), both at least 1")


def _check_border_weight(border_weight):
    if border_weight is None:
        return
    w0, sigma, cell_class = border_weight
    if not (w0 >= 0 and sigma > 0 and 0 <= cell_class < VOID):
        raise InputError(
            f"border_weight {border_weight}: expected (w0, sigma, cell_class) with "
            f"w0 >= 0, sigma > 0 and 0 <= cell_class < {VOID}"
        )


def _text(size):
    return f"{size[0]}x{size[1]}"
