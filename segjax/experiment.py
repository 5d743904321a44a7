"""One experiment: a configuration of plain values in, a measured result out.

Every script in `experiments/` is a `Config` with its numbers written out and a call
of `run`. Nothing is hidden between the two: this file opens the data, builds the
network and the recipe, trains, and scores.
"""

import dataclasses
import json
import math
import tempfile
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console

from segjax import class_weights, metrics, schedules
from segjax.data import pipeline
from segjax.data.datasets import Dataset, open_dataset
from segjax.errors import InputError
from segjax.models.segmenter import Segmenter
from segjax.models.zoo import build_model, count_parameters
from segjax.report.panels import draw_panels
from segjax.report.tables import Row, class_table, comparison_table
from segjax.training import loop, parallel, steps
from segjax.training.optimizers import OptimizerName, make_optimizer
from segjax.training.state import TrainState, create_state

WeightsName = Literal[
    "none",
    "median_frequency",
    "median_frequency_present",
    "enet",
    "segnet_camvid",
]

# Fields that say where files lie or how much is shown: they change no number, so a
# run may be resumed with others.
_FREE_FIELDS = frozenset({"data_dir", "prepared_dir", "workdir"})


@dataclasses.dataclass(frozen=True)
class Config:
    """What an experiment is. Sizes are (height, width) in pixels."""

    name: Annotated[str, tyro.conf.Suppress]
    """Name of the experiment; its runs go to `runs/<name>`."""

    dataset: str
    """Name of the data set: street_scenes, camvid, isbi_em, folder."""

    model: str
    """Name of the network; `python -m segjax models` lists them."""

    data_dir: Path | None = None
    """Folder of the data set as published. None downloads or draws it."""

    prepared_dir: Path | None = None
    """Where prepared records lie. None is TFDS_DATA_DIR or ~/tensorflow_datasets."""

    workdir: Path | None = None
    """Folder of the run. None is runs/<name>. A run found there is resumed."""

    width: float = 1.0
    """Factor on the network's channels; 1 is the paper's network."""

    dropout: float = 0.0
    """Rate of the dropout at the end of the encoder."""

    image_size: tuple[int, int] | None = None
    """Images are resized to this; labels are not, scores are at their resolution."""

    crop_size: tuple[int, int] = (96, 128)
    """Training crop."""

    scale_range: tuple[float, float] = (1.0, 1.0)
    """Range of the random scale, relative to image_size."""

    flip: bool = True
    """Mirror half of the training images left to right."""

    photometric: float = 0.0
    """Strength 0..1 of random brightness, contrast and saturation."""

    class_weights: WeightsName | tuple[float, ...] = "none"
    """Weights of the loss: a rule, or one number per class."""

    optimizer: OptimizerName = "sgd"
    """Optimiser."""

    learning_rate: float = 0.1
    """Peak learning rate."""

    schedule: Literal["constant", "poly", "cosine"] = "constant"
    """How the learning rate goes down."""

    warmup_steps: int = 0
    """Steps of linear warm-up."""

    momentum: float = 0.9
    """Momentum of SGD, first beta of AdamW."""

    weight_decay: float = 0.0
    """Weight decay, on kernels only."""

    clip_norm: float | None = None
    """Largest norm of the gradient; None does not clip."""

    ema_decay: float | None = None
    """Decay of a moving average of the weights, used for evaluation; None: none."""

    steps: int = 1000
    """Updates."""

    batch_size: int = 8
    """Images per update, over all devices and hosts."""

    eval_batch_size: int = 8
    """Images per evaluation batch, over all devices and hosts."""

    eval_every: int = 200
    """Steps between evaluations, checkpoints and panels."""

    log_every: int = 20
    """Steps between log records."""

    panels: int = 3
    """Images in the panels drawn at every evaluation; 0 draws none."""

    seed: int = 0
    """Seed of initialisation, order of data, augmentation and dropout."""

    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the computation; parameters, statistics and logits stay float32."""

    smoke: bool = False
    """Two tiny steps on embedded data, in a temporary folder."""


@dataclasses.dataclass(frozen=True)
class Result:
    """What an experiment measured.

    Attributes:
      config: as it ran.
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
        config = smoke(config)
    workdir = config.workdir or Path("runs") / config.name
    mesh = parallel.make_mesh()
    _check(config, mesh)
    model = build_model(
        config.model,
        num_classes=1,
        width=config.width,
    )
    _check_crop(config, model)
    dataset = open_dataset(
        config.dataset,
        data_dir=config.data_dir,
        prepared_dir=config.prepared_dir,
        **_SMOKE_DATA if config.smoke else {},
    )
    train, val = _split(dataset, "train"), _split(dataset, "val")
    report_split = "test" if "test" in dataset.splits else "val"
    num_classes = dataset.table.num_classes
    model = build_model(
        config.model,
        num_classes=num_classes,
        width=config.width,
        dropout=config.dropout,
        dtype=jnp.dtype(config.dtype),
    )
    weights = loss_weights(config.class_weights, train, num_classes)
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
    plain = plain_config(config)
    claim_workdir(workdir, plain)

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
    shards = {
        "shard_index": jax.process_index(),
        "shard_count": jax.process_count(),
    }

    def train_batches(start_step):
        return pipeline.train_batches(
            train,
            batch_size=config.batch_size,
            crop_size=config.crop_size,
            scale_range=config.scale_range,
            flip=config.flip,
            photometric=config.photometric,
            image_size=config.image_size,
            seed=config.seed,
            start_step=start_step,
            **shards,
        )

    eval_size = partial(_eval_size, image_size=config.image_size)

    def evaluate(state: TrainState, source):
        return loop.evaluate(
            eval_step,
            state.eval_variables,
            pipeline.eval_batches(
                source,
                batch_size=config.eval_batch_size,
                **eval_size(source),
                **shards,
            ),
            mesh=mesh,
            num_examples=len(source),
        )

    def predict(state: TrainState, source):
        examples = [source[i] for i in _spread(config.panels, len(source))]
        one_by_one = pipeline.eval_batches(
            examples, batch_size=1, num_threads=0, **eval_size(source)
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
        examples, predictions = predict(state, val)
        return draw_panels(
            workdir / "panels" / f"{step:06d}.png",
            images=[e["image"] for e in examples],
            labels=[e["label"] for e in examples],
            predictions={"prediction": predictions},
            table=dataset.table,
            title=f"{config.name}: {config.model}, step {step}",
        )

    fitted = loop.fit(
        create_state(
            model,
            tx,
            key=jax.random.key(config.seed),
            ema=config.ema_decay is not None,
        ),
        train_step=train_step,
        train_batches=train_batches,
        evaluate_state=lambda state: evaluate(state, val),
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
    source = dataset.splits[report_split]
    examples, predictions = predict(fitted.state, source)
    result = Result(
        config=config,
        split=report_split,
        scores=evaluate(fitted.state, source),
        baseline=majority_baseline(train, source, num_classes),
        parameters=count_parameters(model),
        step_seconds=fitted.step_seconds or _previous_step_seconds(workdir),
        images=[e["image"] for e in examples],
        labels=[e["label"] for e in examples],
        predictions=predictions,
        dataset=dataset,
    )
    _write_json(
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
        Row(
            result.config.model, result.scores, result.parameters, result.step_seconds
        ),
        Row("majority class", result.baseline, None, None),
    ]
    images = result.scores["num_images"]
    where = f"{result.config.dataset} {result.split}, {images} images"
    console.print(comparison_table(rows, title=f"{result.config.name}: {where}"))
    console.print(class_table(rows, result.dataset.table, title="IoU by class"))


# What --smoke replaces, in the configuration and in the embedded data.
_SMOKE = {
    "dataset": "street_scenes",
    "data_dir": None,
    "width": 0.125,
    "image_size": None,
    "crop_size": (32, 48),
    "class_weights": "none",
    "warmup_steps": 0,
    "steps": 2,
    "eval_every": 2,
    "log_every": 1,
    "panels": 1,
}
_SMOKE_DATA = {"size": (48, 64), "counts": {"train": 4, "val": 2, "test": 2}}


def smoke(config: Config) -> Config:
    """The same experiment in two tiny steps, in a temporary folder."""
    devices = jax.device_count()
    workdir = config.workdir or Path(tempfile.mkdtemp(prefix="segjax_smoke_"))
    return dataclasses.replace(
        config,
        **_SMOKE,
        workdir=workdir,
        batch_size=2 * devices,
        eval_batch_size=2 * devices,
    )


def loss_weights(
    rule: str | tuple[float, ...], source, num_classes: int
) -> jax.Array | None:
    """Class weights `[k]` by rule or as given; None for all one.

    Raises:
      InputError: not one finite, non-negative number per class, or a class that the
        rule needs does not occur in `source`.
    """
    if rule == "none":
        return None
    if isinstance(rule, str) and rule != "segnet_camvid":
        counts, sizes = class_weights.class_pixel_counts(source, num_classes)
        if rule == "median_frequency":
            values = class_weights.median_frequency(counts)
        elif rule == "median_frequency_present":
            values = class_weights.median_frequency_present(counts, sizes)
        else:
            values = class_weights.enet(counts)
    else:
        values = class_weights.SEGNET_CAMVID if rule == "segnet_camvid" else rule
    if len(values) != num_classes:
        raise InputError(
            f"class_weights has {len(values)} numbers, but the data set has "
            f"{num_classes} classes"
        )
    if not all(math.isfinite(v) and v >= 0 for v in values) or not any(values):
        raise InputError(
            f"class_weights {tuple(values)}: expected finite numbers >= 0, not all 0"
        )
    return jnp.asarray(values, jnp.float32)


def majority_baseline(train, source, num_classes: int) -> dict[str, Any]:
    """Scores on `source` of calling every pixel the commonest class of `train`."""
    counts, _ = class_weights.class_pixel_counts(train, num_classes)
    true, _ = class_weights.class_pixel_counts(source, num_classes)
    confusion = np.zeros((num_classes, num_classes), np.int64)
    confusion[:, counts.sum(axis=0).argmax()] = true.sum(axis=0)
    return {**metrics.scores(confusion), "num_images": len(source)}


def plain_config(config: Config) -> dict[str, Any]:
    """The configuration as JSON values."""
    return json.loads(json.dumps(dataclasses.asdict(config), default=str))


def claim_workdir(workdir: Path, config: dict[str, Any]) -> None:
    """Makes `workdir` and writes `config.json`, or checks that it is this run's.

    Raises:
      InputError: the folder holds another experiment or other files.
    """
    path = workdir / "config.json"
    if path.is_file():
        found = json.loads(path.read_text(encoding="utf-8"))
        for field in sorted(found.keys() | config.keys()):
            if field in _FREE_FIELDS or found.get(field) == config.get(field):
                continue
            raise InputError(
                f"workdir {workdir} holds a run of {found.get('name')!r} with "
                f"{field} = {found.get(field)!r}, not {config.get(field)!r}: give "
                "another --workdir, or the same options to resume it"
            )
        return
    if workdir.exists() and (not workdir.is_dir() or any(workdir.iterdir())):
        raise InputError(
            f"workdir {workdir} exists and is not a run of segjax (no config.json): "
            "give a new or empty folder"
        )
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        _write_json(path, config)
    except OSError as error:
        raise InputError(f"workdir {workdir} cannot be written: {error}") from error


def _check(config: Config, mesh: jax.sharding.Mesh) -> None:
    parallel.check_batch_size(config.batch_size, mesh, field="batch_size")
    parallel.check_batch_size(config.eval_batch_size, mesh, field="eval_batch_size")
    for field in ("steps", "eval_every", "log_every"):
        if getattr(config, field) < 1:
            raise InputError(f"{field} is {getattr(config, field)}, expected >= 1")
    if config.panels < 0:
        raise InputError(f"panels is {config.panels}, expected >= 0")
    if not 0 <= config.dropout < 1:
        raise InputError(f"dropout is {config.dropout}, expected 0 <= rate < 1")
    if config.ema_decay is not None and not 0 < config.ema_decay < 1:
        raise InputError(f"ema_decay is {config.ema_decay}, expected 0 < decay < 1")
    if config.clip_norm is not None and not config.clip_norm > 0:
        raise InputError(f"clip_norm is {config.clip_norm}, expected > 0")
    if config.width <= 0:
        raise InputError(f"width is {config.width}, expected > 0")


def _check_crop(config: Config, model: Segmenter) -> None:
    if any(side < 1 or side % model.multiple for side in config.crop_size):
        height, width = config.crop_size
        raise InputError(
            f"crop_size is {height}x{width}, but {config.model} needs both sides to "
            f"be positive multiples of {model.multiple}"
        )


def _split(dataset: Dataset, name: str):
    if name not in dataset.splits:
        raise InputError(
            f"data set {dataset.name!r} has no split {name!r} to train and validate "
            f"with, only {', '.join(dataset.splits)}"
        )
    return dataset.splits[name]


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


def _write_json(path: Path, value: dict[str, Any]) -> None:
    scratch = path.with_suffix(".tmp")
    scratch.write_text(
        json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8"
    )
    scratch.replace(path)
