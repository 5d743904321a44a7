"""Evaluation of a finished run on any split of its data set, from its checkpoint.

Void pixels count nowhere, every image counts once, predictions are scored at the
label's own resolution, and counts are integers until the last division. A class without
a pixel in labels and predictions is left out of means; one that is predicted but never
true counts with 0 (`segjax.policies` has the rules of other tools).

What is measured beside the confusion matrix costs the time of other hardware: boundaries
and object sizes are counted by threads of the host while the device works, calibration
takes an exponential per logit on the device and four bytes per pixel to the host.
`experiments/benchmarks/evaluation.py` measures all of it beside the network alone.
"""

import dataclasses
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from segjax import configuration, scoring
from segjax.configuration import Config
from segjax.data import pipeline
from segjax.data.datasets import Dataset, open_dataset
from segjax.data.labels import LabelTable
from segjax.errors import InputError
from segjax.evaluation_counts import ALL, Counts, Parts, count_image, stack_counts
from segjax.evaluation_scores import all_intervals, all_scores
from segjax.intervals import Interval
from segjax.models.zoo import build_model
from segjax.training import checkpoint, parallel

POLICY = (
    "A class without a pixel in labels and predictions is left out of means; one that "
    "is predicted but never true counts with 0. Pixels without a label count nowhere."
)
"""What decides the scores where tools differ."""


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What a run scores on a split.

    Attributes:
      model: name of the network.
      step: updates that its weights have seen.
      dataset: name of the data set.
      split: of it.
      table: its classes.
      ids: of the images.
      counts: of every image.
      scores: `segjax.evaluation_scores.all_scores` of the counts.
      intervals: name of a score -> its 95 % bootstrap interval over images; empty if
        not asked for, and for a single image.
    """

    model: str
    step: int
    dataset: str
    split: str
    table: LabelTable
    ids: tuple[str, ...]
    counts: Counts
    scores: dict[str, Any]
    intervals: dict[str, Interval]

    @property
    def confusions(self) -> np.ndarray:
        """Of each image, int64 `[n k k]`, rows true, columns predicted."""
        return self.counts.confusions


def evaluate(
    run: Path,
    *,
    split: str | None = None,
    data_dir: Path | None = None,
    prepared_dir: Path | None = None,
    batch_size: int | None = None,
    mesh: jax.sharding.Mesh | None = None,
    parts: Parts = ALL,
) -> Evaluation:
    """Scores the weights that a run's results are of.

    Args:
      run: folder of the run.
      split: of its data set, train among them, without augmentation; None is the one
        that the run reported.
      data_dir: the data set's folder, if it lies elsewhere than when the run trained.
      prepared_dir: likewise of the prepared records.
      batch_size: images at once, over all devices; None is the run's own, rounded up
        to a multiple of the devices.
      mesh: of `segjax.training.parallel.make_mesh`; None splits batches over all
        devices.
      parts: what to measure beside the confusion matrix.

    Raises:
      InputError: no checkpoint, weights of another network or number of classes, no
        such split, data with other classes, or a batch size that does not split over
        the devices.
      RuntimeError: images were missed or seen twice.
    """
    saved, config = _read(run)
    names = tuple(saved.meta["labels"]["names"])
    model = build_model(
        config.model,
        num_classes=len(names),
        width=config.width,
        dtype=jnp.dtype(config.dtype),
    )
    variables = {"params": saved.params, "batch_stats": saved.batch_stats}
    _check_weights(run, variables, model, f"{config.model} of {len(names)} classes")
    dataset = open_dataset(
        config.dataset,
        data_dir=data_dir or config.data_dir,
        prepared_dir=prepared_dir or config.prepared_dir,
        taxonomy=config.taxonomy,
        **configuration.SMOKE_DATA if config.smoke else {},
    )
    if dataset.table.names != names:
        raise InputError(
            f"run {run} knows {len(names)} classes ({', '.join(names)}), but data set "
            f"{dataset.name!r} has {dataset.table.num_classes} "
            f"({', '.join(dataset.table.names)})"
        )
    split = split or ("test" if "test" in dataset.splits else "val")
    if split not in dataset.splits:
        raise InputError(
            f"split is {split!r}, expected one of {', '.join(dataset.splits)}"
        )
    mesh = mesh or parallel.make_mesh()
    if batch_size is None:
        rows = mesh.shape["data"]
        batch_size = -(-config.eval_batch_size // rows) * rows
    parallel.check_batch_size(batch_size, mesh, field="batch_size")
    ids, counts = count_split(
        jit_count_step(model, dataset.table.num_classes, parts=parts, mesh=mesh),
        jax.device_put(variables),
        dataset,
        split,
        image_size=config.image_size,
        batch_size=batch_size,
        parts=parts,
        mesh=mesh,
    )
    scores = all_scores(counts, dataset.table)
    intervals = {}
    if parts.intervals:
        intervals = all_intervals(counts, dataset.table, scores)
    return Evaluation(
        model=config.model,
        step=saved.step,
        dataset=dataset.name,
        split=split,
        table=dataset.table,
        ids=ids,
        counts=counts,
        scores=scores,
        intervals=intervals,
    )


def jit_count_step(
    model: nn.Module, num_classes: int, *, parts: Parts, mesh: jax.sharding.Mesh
):
    """Jits `segjax.scoring.count_step` with the maps that `parts` need.

    Returns:
      `(variables, batch) -> results`.
    """
    step = partial(
        scoring.count_step,
        model=model,
        num_classes=num_classes,
        maps=parts.maps,
        confidence=parts.calibration,
    )
    return parallel.jit_eval_step(step, mesh)


def count_split(
    step,
    variables: dict[str, Any],
    dataset: Dataset,
    split: str,
    *,
    image_size: tuple[int, int] | None,
    batch_size: int,
    parts: Parts,
    mesh: jax.sharding.Mesh,
    count=count_image,
) -> tuple[tuple[str, ...], Counts]:
    """Predicts every image of a split once, and counts.

    Args:
      step: of `jit_count_step`.
      variables: of its model.
      dataset: holds the split.
      split: its name.
      image_size: `(height, width)` that the network sees; None is the images' own.
      batch_size: images at once, over all devices.
      parts: what to count.
      mesh: where batches go.
      count: counts one image on the host, in place of `count_image`.

    Returns:
      The images' ids and their counts, in the split's order.

    Raises:
      RuntimeError: images were missed or seen twice.
    """
    num_classes = dataset.table.num_classes
    source = scoring.SeenLabels(
        dataset.splits[split], limit=scoring.BATCHES_IN_FLIGHT * batch_size
    )

    def measure(index: int, maps: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        label = source.take_label(index)
        own = {name: scoring.cropped(pixels, label) for name, pixels in maps.items()}
        return count(
            own["prediction"],
            label,
            own.get("confidence"),
            num_classes=num_classes,
            parts=parts,
        )

    results, images = scoring.run_pass(
        step,
        variables,
        _batches(source, mesh, image_size=image_size, batch_size=batch_size),
        mesh=mesh,
        num_examples=len(source),
        measure=measure if parts.maps else None,
    )
    # What is behind the last image padded the last batch.
    confusions = np.concatenate([r["confusion"] for r in results])[: len(source)]
    return source.ids(), stack_counts(confusions, images)


def _batches(
    source: scoring.SeenLabels,
    mesh: jax.sharding.Mesh,
    *,
    image_size: tuple[int, int] | None,
    batch_size: int,
) -> Iterator[pipeline.Batch]:
    """Batches of one shape: images resized, or padded to the largest of the split."""
    size = {"image_size": image_size}
    if image_size is None:
        size = {"pad_size": pipeline.max_size(source)}
    return pipeline.eval_batches(
        source,
        batch_size=batch_size,
        num_threads=scoring.THREADS,
        **parallel.batch_share(mesh),
        **size,
    )


def _read(run: Path) -> tuple[checkpoint.Saved, Config]:
    """The checkpoint that a run's results are of, and its configuration."""
    folder = run / "checkpoints"
    saved = checkpoint.read(folder)
    missing = {"config", "labels"} - set(saved.meta)
    if missing:
        raise InputError(
            f"{folder}: the checkpoint lacks {', '.join(sorted(missing))}; expected "
            "one that training wrote"
        )
    config = configuration.from_plain(saved.meta["config"])
    if config.select != "last":
        saved = checkpoint.read(folder, best=config.select)
    return saved, config


def _check_weights(
    run: Path, variables: dict[str, Any], model: nn.Module, name: str
) -> None:
    """Raises InputError unless the arrays are those of the network."""
    height, width = model.input_size((32, 48))
    image = jax.ShapeDtypeStruct((1, height, width, 3), jnp.float32)
    # Traced, not run.
    needed = jax.eval_shape(
        lambda key, x: model.init(key, x, train=False), jax.random.key(0), image
    )
    found, expected = (
        {
            jax.tree_util.keystr(path, simple=True, separator="/"): tuple(leaf.shape)
            for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
        }
        for tree in (variables, dict(needed))
    )
    for key in sorted(found.keys() | expected.keys()):
        if found.get(key) != expected.get(key):
            raise InputError(
                f"{run / 'checkpoints'}: {key} is {_shape(found.get(key))}, but {name} "
                f"needs {_shape(expected.get(key))}"
            )


def _shape(shape: tuple[int, ...] | None) -> str:
    return "missing" if shape is None else f"of shape {list(shape)}"
