"""What a network scores on a split, and what a constant picture would.

One pass (`run_pass`) serves validation while training (`score`) and the evaluator of a
finished run (`segjax.evaluation`). The device never waits for the host: a batch's
results are fetched when the next batch is on its way, and what only the host can
compute (boundaries) is computed by threads meanwhile.
"""

import collections
import math
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from segjax import boundary, class_weights, metrics
from segjax.data.labels import LabelTable
from segjax.data.source import Source
from segjax.models.segmenter import Segmenter
from segjax.training import parallel, steps

Measure = Callable[[int, dict[str, np.ndarray]], Any]
"""`(index, maps)`, the maps of one image as the step gave them, padding included."""

MAPS = ("prediction", "confidence")
"""What a step returns that is fetched only to be measured."""

THREADS = min(8, os.cpu_count() or 1)
"""Threads that measure images, and that read them."""

BATCHES_IN_FLIGHT = 12
"""Eight that the pipeline has ready, two on the device, two that wait for a thread."""


class SeenLabels:
    """A source that remembers the labels it was read for until they are asked for.

    The pipeline reads images ahead and gives their labels to the device, padded; who
    measures predictions on the host needs them once more, as they are. Asking this
    source costs no second decoding.
    """

    def __init__(self, source: Source, *, limit: int):
        """Wraps `source`; of more than `limit` labels the oldest is forgotten."""
        self._source = source
        self._limit = limit
        self._labels: dict[int, np.ndarray] = {}
        self._ids: dict[int, str] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> dict[str, Any]:
        example = self._source[index]
        with self._lock:
            self._ids[index] = example["id"]
            self._labels[index] = example["label"]
            if len(self._labels) > self._limit:
                del self._labels[next(iter(self._labels))]
        return example

    def __repr__(self) -> str:
        return repr(self._source)

    def take_label(self, index: int) -> np.ndarray:
        """The label of an example, uint8 `[h w]`, which is forgotten."""
        with self._lock:
            label = self._labels.pop(index, None)
        # Rows of another process, for instance, are not read here.
        return self._source[index]["label"] if label is None else label

    def ids(self) -> tuple[str, ...]:
        """The ids of all examples, in order."""
        return tuple(
            self._ids[i] if i in self._ids else self._source[i]["id"]
            for i in range(len(self))
        )


def count_step(
    variables: dict[str, Any],
    batch: dict[str, jax.Array],
    *,
    model: Segmenter,
    num_classes: int,
    maps: bool,
    confidence: bool = False,
) -> dict[str, jax.Array]:
    """Predicts one batch at the label's resolution and counts each image's pixels.

    `segjax.training.steps.eval_step` without the loss, whose logarithms and
    exponentials cost more than all of the rest beside the network.

    Args:
      variables: of the model, `params` and `batch_stats`.
      batch: `image` uint8 `[b h w 3]`, `label` uint8 `[b h w]` and `valid` bool `[b]`.
      model: the network.
      num_classes: k.
      maps: whether predictions are returned.
      confidence: whether their probabilities are, too.

    Returns:
      `confusion` int32 `[b k k]`, one matrix per image (rows true, columns predicted),
      exact below 2^31 pixels in an image; `seen` int32, the number of valid images. On
      request `prediction` uint8 `[b h w]` and `confidence` float32 `[b h w]`, the
      softmax probability of the prediction.
    """
    label = batch["label"]
    logits = steps.predict_logits(
        variables, batch["image"], model=model, size=label.shape[1:3]
    )
    prediction = jnp.argmax(logits, axis=-1).astype(jnp.uint8)
    results = {
        "confusion": metrics.image_confusions(prediction, label, num_classes),
        "seen": jnp.sum(batch["valid"].astype(jnp.int32)),
    }
    if maps:
        results["prediction"] = prediction
    if confidence:
        # The largest softmax probability: its numerator is exp(0).
        below = logits - jnp.max(logits, axis=-1, keepdims=True)
        results["confidence"] = 1.0 / jnp.sum(jnp.exp(below), axis=-1)
    return results


def run_pass(
    step: Callable[[dict[str, Any], dict[str, jax.Array]], dict[str, jax.Array]],
    variables: dict[str, Any],
    batches: Iterable[dict[str, np.ndarray]],
    *,
    mesh: jax.sharding.Mesh,
    num_examples: int,
    measure: Measure | None = None,
    threads: int = THREADS,
) -> tuple[list[dict[str, np.ndarray]], list[Any]]:
    """Runs a step over a whole split, every image once.

    Args:
      step: jitted `count_step` or `segjax.training.steps.eval_step`.
      variables: of the model.
      batches: host batches in the split's order, the last one padded.
      mesh: where batches go.
      num_examples: images in the split.
      measure: called for every image, by several threads and in no certain order, with
        its index and its maps (those of MAPS that the step returns). None fetches no
        map from the device.
      threads: that call `measure`.

    Returns:
      What the step returned for each batch but the maps, and what `measure` returned
      for each image, in the split's order.

    Raises:
      RuntimeError: images were missed or seen twice, on this or any other host.
    """
    results, measured, first = [], [], 0
    with ThreadPoolExecutor(threads) as pool:
        waiting: collections.deque = collections.deque()
        try:
            for outputs in _fetched(step, variables, batches, mesh, measure):
                maps = {name: outputs.pop(name) for name in MAPS if name in outputs}
                results.append(outputs)
                if measure is None:
                    continue
                rows = len(maps["prediction"])
                for row in range(min(rows, num_examples - first)):
                    own = {name: array[row] for name, array in maps.items()}
                    waiting.append(pool.submit(measure, first + row, own))
                first += rows
                # Maps of a few batches at most wait for a slower host.
                while len(waiting) > 2 * rows:
                    measured.append(waiting.popleft().result())
            measured += [future.result() for future in waiting]
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    seen = sum(int(outputs["seen"]) for outputs in results)
    if seen != num_examples:
        raise RuntimeError(f"evaluated {seen} images of a split of {num_examples}")
    return results, measured


def _fetched(
    step: Callable,
    variables: dict[str, Any],
    batches: Iterable[dict[str, np.ndarray]],
    mesh: jax.sharding.Mesh,
    measure: Measure | None,
) -> Iterator[dict[str, np.ndarray]]:
    """What the step returns, on the host; the device is one batch ahead."""
    ahead = None
    for batch in batches:
        # Returns at once: the device works while the last batch is fetched.
        outputs = dict(step(variables, parallel.shard_batch(mesh, batch)))
        if measure is None:
            outputs = {k: v for k, v in outputs.items() if k not in MAPS}
        if ahead is not None:
            yield jax.device_get(ahead)
        ahead = outputs
    if ahead is not None:
        yield jax.device_get(ahead)


def score(
    eval_step: Callable,
    variables: dict[str, Any],
    batches: Iterator[dict[str, np.ndarray]],
    source: Source,
    *,
    table: LabelTable,
    mesh: jax.sharding.Mesh,
    boundaries: bool = True,
    keep: Sequence[int] = (),
) -> tuple[dict[str, Any], dict[int, np.ndarray]]:
    """Scores a whole split in one pass.

    Args:
      eval_step: jitted `segjax.training.steps.eval_step`.
      variables: of the model.
      batches: `segjax.data.pipeline.eval_batches` of `source`.
      source: the split; if it is `SeenLabels`, no label is read twice.
      table: its classes.
      mesh: where batches go.
      boundaries: whether boundaries are scored, too.
      keep: indices of images whose predictions are returned.

    Returns:
      `segjax.metrics.scores` of the split's confusion matrix, plus `loss` (mean over
      labelled pixels), `confusion` (int64 `[k k]`), `num_images`, `thin_iou` (mean IoU
      of the data set's thin classes, NaN without any) and, if asked for,
      `boundary_f1` (one-to-one matching, `segjax.boundary`) and `boundary_f1_dilated`
      (what dilation would have given instead); and index -> prediction, uint8 `[h w]`
      of the label's size.

    Raises:
      RuntimeError: images were missed or seen twice.
    """
    kept: dict[int, np.ndarray] = {}

    def measure(index: int, maps: dict[str, np.ndarray]) -> Any:
        if not boundaries and index not in keep:
            return None
        seen = isinstance(source, SeenLabels)
        label = source.take_label(index) if seen else source[index]["label"]
        prediction = cropped(maps["prediction"], label)
        if index in keep:
            kept[index] = prediction.copy()
        if not boundaries:
            return None
        return boundary.boundary_f1_both_ways(
            prediction, label, num_classes=table.num_classes
        )

    results, measured = run_pass(
        eval_step,
        variables,
        batches,
        mesh=mesh,
        num_examples=len(source),
        measure=measure if boundaries or keep else None,
    )
    # Totals are kept in 64 bits: a split has more pixels than int32 or float32.
    confusion = sum(r["confusion"].astype(np.int64) for r in results)
    loss_sum, weight = (
        math.fsum(float(r[name]) for r in results)
        for name in ("loss_sum", "loss_weight")
    )
    scores = {
        **metrics.scores(confusion),
        "loss": loss_sum / weight if weight else math.nan,
        "confusion": confusion,
        "num_images": len(source),
    }
    scores["thin_iou"] = metrics.mean_iou_of(scores["iou"], table.thin_ids)
    if boundaries:
        matched, dilated = zip(*measured, strict=True)
        scores["boundary_f1"] = boundary.mean_boundary_f1(matched)
        scores["boundary_f1_dilated"] = boundary.mean_boundary_f1(dilated)
    return scores, kept


def cropped(pixels: np.ndarray, label: np.ndarray) -> np.ndarray:
    """A map `[h w]` of a batch without what padded its example."""
    return pixels[: label.shape[0], : label.shape[1]]


def majority_baseline(
    train: Source, source: Source, table: LabelTable
) -> dict[str, Any]:
    """Scores on `source` of calling every pixel the commonest class of `train`."""
    num_classes = table.num_classes
    counts, _ = class_weights.class_pixel_counts(train, num_classes)
    true, _ = class_weights.class_pixel_counts(source, num_classes)
    confusion = np.zeros((num_classes, num_classes), np.int64)
    confusion[:, counts.sum(axis=0).argmax()] = true.sum(axis=0)
    scores = metrics.scores(confusion)
    thin = metrics.mean_iou_of(scores["iou"], table.thin_ids)
    # A constant picture has no boundary, and every image with one scores 0.
    return {
        **scores,
        "thin_iou": thin,
        "boundary_f1": 0.0,
        "num_images": len(source),
    }
