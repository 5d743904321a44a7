"""One experiment: a configuration of plain values in, a measured result out.

Every script in `experiments/` is a `Config` with its numbers written out and a call
of `run`. Nothing is hidden between the two: this file opens the data, builds the
network and the recipe, trains, and scores.
"""

import dataclasses
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from segjax import class_weights, configuration, metrics, schedules
from segjax.configuration import Config
from segjax.data import pipeline
from segjax.data.datasets import Dataset, open_dataset
from segjax.data.source import Example, Source
from segjax.errors import InputError
from segjax.models.zoo import build_model, count_parameters
from segjax.report.panels import draw_panels
from segjax.report.tables import Row, class_table, comparison_table
from segjax.training import loop, parallel, steps
from segjax.training.optimizers import make_optimizer
from segjax.training.state import TrainState, create_state
from segjax.training.workdir import claim_workdir, write_json


@dataclasses.dataclass(frozen=True)
class Result:
    """What an experiment measured.

    Attributes:
      config: as it ran.
      workdir: folder of the run.
      split: the split that was scored: "test" where there is one, else "val".
      scores: `segjax.training.loop.evaluate` of the last weights on that split.
      baseline: the scores of calling every pixel the training set's commonest class.
      parameters: trainable parameters.
      step_seconds: median wall time of one training step; None if none was timed.
      images: the first `config.panels` images spread over the split.
      labels: their labels.
      predictions: the network's predictions for them.
      dataset: what it was trained on.
    """

    config: Config
    workdir: Path
    split: str
    scores: dict[str, Any]
    baseline: dict[str, Any]
    parameters: int
    step_seconds: float | None
    images: list[np.ndarray]
    labels: list[np.ndarray]
    predictions: list[np.ndarray]
    dataset: Dataset


def run(config: Config, *, console: Console | None = None) -> Result:
    """Trains and scores `config`; resumes what its `workdir` already holds.

    Writes into the work directory: `config.json`, `log.jsonl`, `tensorboard/`,
    `checkpoints/`, `panels/STEP.png` and, at the end, `result.json`. Nothing is
    written before everything that can be checked has been.

    Raises:
      InputError: an option, file or folder is wrong; the message says which.
    """
    console = console or Console()
    if config.smoke:
        config = configuration.smoke(config)
    workdir = config.workdir or Path("runs") / config.name
    mesh = parallel.make_mesh()
    configuration.check(config)
    for field in ("batch_size", "eval_batch_size"):
        parallel.check_batch_size(getattr(config, field), mesh, field=field)
    dataset = open_dataset(
        config.dataset,
        data_dir=config.data_dir,
        prepared_dir=config.prepared_dir,
        **configuration.SMOKE_DATA if config.smoke else {},
    )
    for split in ("train", "val"):
        if split not in dataset.splits:
            raise InputError(
                f"data set {dataset.name!r} has no split {split!r}, only "
                f"{', '.join(dataset.splits)}: expected train and val, and maybe test"
            )
    train = dataset.splits["train"]
    report_split = "test" if "test" in dataset.splits else "val"
    eval_sizes = {
        split: _eval_size(dataset.splits[split], image_size=config.image_size)
        for split in {"val", report_split}
    }
    num_classes = dataset.table.num_classes
    model = build_model(
        config.model,
        num_classes=num_classes,
        width=config.width,
        dropout=config.dropout,
        dtype=jnp.dtype(config.dtype),
    )
    weights = class_weights.loss_weights(config.class_weights, train, num_classes)
    rate = schedules.learning_rate(
        config.schedule,
        peak=config.learning_rate,
        steps=config.steps,
        warmup_steps=config.warmup_steps,
    )
    tx = make_optimizer(
        config.optimizer,
        rate,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        clip_norm=config.clip_norm,
    )
    train_step = parallel.jit_train_step(
        partial(
            steps.train_step,
            model=model,
            tx=tx,
            seed=config.seed,
            class_weights=weights,
            ema_decay=config.ema_decay or 0.0,
        ),
        mesh,
    )
    eval_step = parallel.jit_eval_step(
        partial(
            steps.eval_step,
            model=model,
            num_classes=num_classes,
            class_weights=weights,
        ),
        mesh,
    )
    predict_step = jax.jit(partial(steps.predict_step, model=model))

    def evaluate(state: TrainState, split: str) -> dict[str, Any]:
        source = dataset.splits[split]
        return loop.evaluate(
            eval_step,
            state.eval_variables,
            pipeline.eval_batches(
                source,
                batch_size=config.eval_batch_size,
                **eval_sizes[split],
                **_this_process(),
            ),
            mesh=mesh,
            num_examples=len(source),
        )

    def predict(state: TrainState, split: str) -> tuple[list[Example], list]:
        source = dataset.splits[split]
        examples = [source[i] for i in _spread(config.panels, len(source))]
        if not examples:
            return [], []
        one_by_one = pipeline.eval_batches(
            examples, batch_size=1, num_threads=0, **eval_sizes[split]
        )
        predictions = [
            np.asarray(predict_step(state.eval_variables, batch))[0]
            for batch in one_by_one
        ]
        # Padding to a common size is undone.
        return examples, [
            p[: e["label"].shape[0], : e["label"].shape[1]]
            for p, e in zip(predictions, examples, strict=True)
        ]

    def panels(state: TrainState, step: int) -> np.ndarray:
        examples, predictions = predict(state, "val")
        return draw_panels(
            workdir / "panels" / f"{step:06d}.png",
            images=[e["image"] for e in examples],
            labels=[e["label"] for e in examples],
            predictions={"prediction": predictions},
            table=dataset.table,
            title=f"{config.name}: {config.model}, step {step}",
        )

    train_batches(
        config, train
    ).close()  # raises for options that the pipeline cannot take
    plain = configuration.plain(config)
    claim_workdir(workdir, plain)
    fitted = loop.fit(
        create_state(
            model,
            tx,
            key=jax.random.key(config.seed),
            ema=config.ema_decay is not None,
        ),
        train_step=train_step,
        train_batches=partial(train_batches, config, train),
        evaluate_state=partial(evaluate, split="val"),
        learning_rate=rate,
        mesh=mesh,
        workdir=workdir,
        config=plain,
        steps=config.steps,
        log_every=config.log_every,
        eval_every=config.eval_every,
        draw_panels=panels if config.panels else None,
        console=console,
    )
    examples, predictions = predict(fitted.state, report_split)
    result = Result(
        config=config,
        workdir=workdir,
        split=report_split,
        scores=evaluate(fitted.state, report_split),
        baseline=majority_baseline(train, dataset.splits[report_split], num_classes),
        parameters=count_parameters(model),
        step_seconds=fitted.step_seconds or _previous_step_seconds(workdir),
        images=[e["image"] for e in examples],
        labels=[e["label"] for e in examples],
        predictions=predictions,
        dataset=dataset,
    )
    write_json(
        workdir / "result.json",
        {
            "split": result.split,
            "scores": loop.json_scores(result.scores),
            "baseline": loop.json_scores(result.baseline),
            "parameters": result.parameters,
            "step_seconds": result.step_seconds,
        },
    )
    return result


def main(config: Config) -> None:
    """Runs one experiment and prints its scores, for a script's command line."""
    console = Console()
    result = run(config, console=console)
    rows = [
        Row(result.config.model, result.scores, result.parameters, result.step_seconds),
        Row("majority class", result.baseline, None, None),
    ]
    images = result.scores["num_images"]
    where = f"{result.config.dataset} {result.split}, {images} images"
    console.print(comparison_table(rows, title=f"{result.config.name}: {where}"))
    console.print(class_table(rows, result.dataset.table, title="IoU by class"))
    console.print(f"log, panels and checkpoints: {result.workdir}")


def train_batches(
    config: Config, source: Source, start_step: int = 0
) -> Iterator[pipeline.Batch]:
    """This process's rows of the training batches of `config`, from a step on."""
    return pipeline.train_batches(
        source,
        batch_size=config.batch_size,
        crop_size=config.crop_size,
        scale_range=config.scale_range,
        flip=config.flip,
        photometric=config.photometric,
        image_size=config.image_size,
        seed=config.seed,
        start_step=start_step,
        **_this_process(),
    )


def _this_process() -> dict[str, int]:
    return {"shard_index": jax.process_index(), "shard_count": jax.process_count()}


def majority_baseline(
    train: Source, source: Source, num_classes: int
) -> dict[str, Any]:
    """Scores on `source` of calling every pixel the commonest class of `train`."""
    counts, _ = class_weights.class_pixel_counts(train, num_classes)
    true, _ = class_weights.class_pixel_counts(source, num_classes)
    confusion = np.zeros((num_classes, num_classes), np.int64)
    confusion[:, counts.sum(axis=0).argmax()] = true.sum(axis=0)
    return {**metrics.scores(confusion), "num_images": len(source)}


def _eval_size(source, *, image_size) -> dict[str, tuple[int, int]]:
    """One shape per split: resized, or padded to the largest example."""
    if image_size is not None:
        return {"image_size": image_size}
    return {"pad_size": pipeline.max_size(source)}


def _spread(count: int, length: int) -> list[int]:
    count = min(count, length)
    return [(2 * i + 1) * length // (2 * count) for i in range(count)]


def _previous_step_seconds(workdir: Path) -> float | None:
    path = workdir / "result.json"
    if not path.is_file():
        return None
    return json.loads(path.read_text(encoding="utf-8"))["step_seconds"]
