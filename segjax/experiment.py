"""One experiment: a configuration of plain values in, a measured result out.

Every script in `experiments/` is a `Config` with its numbers written out and a call
of `run`. Nothing is hidden between the two: this file opens the data, builds the
network and the recipe, trains, and scores.
"""

import contextlib
import dataclasses
import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from rich.console import Console

from segjax import class_weights, configuration, schedules, scoring
from segjax.configuration import Config
from segjax.data import pipeline
from segjax.data.bad_records import SkipBad, skip_bad
from segjax.data.cache import cached_splits
from segjax.data.datasets import Dataset, open_dataset
from segjax.data.mixture import Part
from segjax.data.published import PUBLISHED
from segjax.data.source import Source
from segjax.errors import InputError
from segjax.models.zoo import build_model, count_parameters
from segjax.ops.normalization import IMAGENET_MEAN, IMAGENET_STD
from segjax.port.files import is_checkpoint_file, load_checkpoint_file
from segjax.report.panels import draw_panels
from segjax.report.tables import Row, class_table, comparison_table
from segjax.results import Result, read_result, write_result
from segjax.training import checkpoint, loop, parallel, processes, steps
from segjax.training.initialization import transfer
from segjax.training.optimizers import make_optimizer
from segjax.training.preemption import Stopped, StopRequest, listening
from segjax.training.state import TrainState, create_state
from segjax.training.workdir import check_resume, claim_workdir, hold_workdir


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Everything but a run: data opened, network built, steps jitted.

    Runs of several seeds share one, and so its compiled programs.

    Attributes:
      config: as it will run.
      dataset: what it trains on.
      report_split: the split that is scored: "test" where there is one, else "val".
      eval_sizes: split -> options of `pipeline.eval_batches` that fix its shape.
      mesh: the devices.
      model: the network.
      tx: the optimiser.
      learning_rate: step -> rate.
      train_step: jitted `(state, batch) -> (state, sums)`; it donates the state.
      eval_step: jitted `(variables, batch) -> sums`.
    """

    config: Config
    dataset: Dataset
    report_split: str
    eval_sizes: dict[str, dict[str, Any]]
    mesh: jax.sharding.Mesh
    model: nn.Module
    tx: optax.GradientTransformation
    learning_rate: optax.Schedule
    train_step: Callable
    eval_step: Callable


def prepare(
    config: Config,
    *,
    dataset: Dataset | None = None,
    mesh: jax.sharding.Mesh | None = None,
) -> Experiment:
    """Opens the data and builds everything; checks all that can be checked.

    Writes nothing but prepared records.

    Args:
      config: what to run; `smoke` replaces its sizes by tiny ones.
      dataset: already opened; None opens `config.dataset`.
      mesh: of `parallel.make_mesh`; None makes that of `config.mesh`.

    Raises:
      InputError: an option, file or folder is wrong; the message says which.
    """
    if config.smoke:
        config = configuration.smoke(config)
    configuration.check(config)
    if mesh is None:
        mesh = parallel.open_mesh(config.mesh)
    parallel.check_batch_size(
        config.batch_size, mesh, field="batch_size", accumulate=config.accumulate
    )
    parallel.check_batch_size(config.eval_batch_size, mesh, field="eval_batch_size")
    skips = config.bad_records == "skip"
    if dataset is None:
        dataset = open_data(config)
    for split in ("train", "val"):
        if split not in dataset.splits:
            raise InputError(
                f"data set {dataset.name!r} has no split {split!r}, only "
                f"{', '.join(dataset.splits)}: expected train and val, and maybe test"
            )
    if skips:  # not those that are scored: a score is of the whole split
        train = skip_bad(dataset.splits["train"], max_bad=config.max_bad)
        dataset = dataclasses.replace(
            dataset, splits={**dataset.splits, "train": train}
        )
    train = dataset.splits["train"]
    report_split = "test" if "test" in dataset.splits else "val"
    num_classes = dataset.table.num_classes
    axis_name = parallel.AXIS if config.parallel == "pmap" else None
    model = build_model(
        config.model,
        num_classes=num_classes,
        width=config.width,
        dropout=config.dropout,
        dtype=jnp.dtype(config.dtype),
        axis_name=axis_name,
        remat=config.remat,
    )
    parallel.check_height(model, config.crop_size, mesh, field="crop_size")
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
    # Raises for options that the pipeline cannot take.
    train_batches(config, train, mesh=mesh, parts=dataset.parts).close()
    compile_train_step, compile_eval_step = parallel.COMPILE[config.parallel]
    experiment = Experiment(
        config=config,
        dataset=dataset,
        report_split=report_split,
        eval_sizes={
            split: _eval_size(dataset.splits[split], image_size=config.image_size)
            for split in {"val", report_split}
        },
        mesh=mesh,
        model=model,
        tx=tx,
        learning_rate=rate,
        train_step=compile_train_step(
            partial(
                steps.train_step,
                model=model,
                tx=tx,
                class_weights=weights,
                ema_decay=config.ema_decay or 0.0,
                accumulate=config.accumulate,
                axis_name=axis_name,
            ),
            mesh,
        ),
        eval_step=compile_eval_step(
            partial(
                steps.eval_step,
                model=model,
                num_classes=num_classes,
                class_weights=weights,
                axis_name=axis_name,
            ),
            mesh,
        ),
    )
    if config.init_from is not None:
        initial_state(experiment, seed=config.seed)  # raises if it does not fit
    return experiment


def open_data(config: Config) -> Dataset:
    """Opens the data set of `config`; prepared records are written once, by one process.

    Raises:
      InputError: a file or folder is wrong; the message says which. Or what is to be
        kept in memory does not fit.
    """
    skips = config.bad_records == "skip" and config.dataset in {*PUBLISHED, "folder"}
    dataset = processes.first_before_others(
        partial(
            open_dataset,
            config.dataset,
            data_dir=config.data_dir,
            prepared_dir=config.prepared_dir,
            taxonomy=config.taxonomy,
            **{"max_bad": config.max_bad} if skips else {},
            **configuration.SMOKE_DATA if config.smoke else {},
        )
    )
    if config.cache == "none":
        return dataset
    splits = cached_splits(dataset.splits, ("train", "val"))
    return dataclasses.replace(dataset, splits=splits)


def initial_state(experiment: Experiment, *, seed: int) -> TrainState:
    """The state a run starts from: random weights, or those of `init_from`.

    Raises:
      InputError: `init_from` is no run and no file of tensors, or does not fit.
    """
    config = experiment.config
    state = create_state(
        experiment.model, experiment.tx, seed=seed, ema=config.ema_decay is not None
    )
    if config.init_from is None:
        return state
    if is_checkpoint_file(config.init_from):
        own = {"params": state.params, "batch_stats": state.batch_stats}
        source = load_checkpoint_file(config.init_from, own, network=config.model)
    else:
        saved = checkpoint.read(config.init_from / "checkpoints")
        source = {"params": saved.params, "batch_stats": saved.batch_stats}
    try:
        params, report = transfer(state.params, source["params"])
    except InputError as error:
        raise InputError(f"init_from {config.init_from}: {error}") from error
    logging.getLogger(__name__).info(
        "%d arrays from %s, random: %s, unused: %s",
        len(report.copied),
        config.init_from,
        ", ".join(report.kept) or "none",
        ", ".join(report.ignored) or "none",
    )
    if state.batch_stats and source.get("batch_stats"):
        batch_stats, _ = transfer(state.batch_stats, source["batch_stats"])
        state = state.replace(batch_stats=batch_stats)
    ema_params = params if config.ema_decay is not None else None
    return state.replace(params=params, ema_params=ema_params)


def run(config: Config, *, console: Console | None = None) -> Result:
    """Trains and scores `config`; resumes what its `workdir` already holds.

    Raises:
      InputError: an option, file or folder is wrong; the message says which. Nothing
        is written before everything that can be checked has been.
    """
    return train(prepare(config), console=console)


def train(
    experiment: Experiment,
    *,
    seed: int | None = None,
    workdir: Path | None = None,
    console: Console | None = None,
) -> Result:
    """Trains and scores one run; a finished one is read from its folder.

    Writes into the work directory: `config.json`, `log.jsonl`, `tensorboard/`,
    `checkpoints/`, `panels/STEP.png` and, at the end, `predictions/` and
    `result.json`.

    Args:
      experiment: what to run.
      seed: instead of the configuration's.
      workdir: instead of the configuration's.
      console: where progress and results are printed.

    Raises:
      InputError: the folder holds another run, is in use or cannot be written; or
        training came to something that is not finite, see `loop.fit`.
      Stopped: SIGTERM or SIGINT came, and all that was done is saved; see
        `segjax.training.preemption`.
    """
    console = console or Console(quiet=not processes.is_first())
    config = experiment.config
    workdir = workdir or config.workdir or Path("runs") / config.name
    # A temporary folder has another name in every process.
    workdir = Path(processes.on_first(lambda: str(workdir)))
    seed = config.seed if seed is None else seed
    config = dataclasses.replace(config, workdir=workdir, seed=seed)
    plain = configuration.plain(config)
    processes.check_agreement(plain)

    defaults = configuration.defaults()

    def claim() -> bool:
        check_resume(workdir, config.resume)
        claim_workdir(workdir, plain, defaults=defaults)
        return (workdir / "result.json").is_file()

    if processes.on_first(claim):
        return read_result(workdir)
    with contextlib.ExitStack() as held:
        hold = hold_workdir(workdir, plain, defaults=defaults)
        processes.on_first(lambda: held.enter_context(hold))
        _train(experiment, config, held.enter_context(listening()), console)
    return read_result(workdir)


def _train(
    experiment: Experiment, config: Config, stop: StopRequest, console: Console
) -> None:
    """Trains and scores in a folder that is this run's, and writes the result."""
    workdir, plain = config.workdir, configuration.plain(config)
    dataset = experiment.dataset
    shown = _spread(config.panels, len(dataset.splits["val"]))
    predicted: dict[int, np.ndarray] = {}

    def evaluate(state: TrainState) -> dict[str, Any]:
        scores, predictions = score_split(
            experiment, state.eval_variables, "val", boundaries=False, keep=shown
        )
        predicted.update(predictions)
        return scores

    def panels(state: TrainState, step: int) -> np.ndarray:
        # fit() draws right after it has evaluated this very state.
        examples = [dataset.splits["val"][index] for index in shown]
        return draw_panels(
            workdir / "panels" / f"{step:06d}.png",
            images=[e["image"] for e in examples],
            labels=[e["label"] for e in examples],
            predictions={"prediction": [predicted[i] for i in shown]},
            table=dataset.table,
            title=f"{config.name}: {config.model}, step {step}",
        )

    fitted = loop.fit(
        initial_state(experiment, seed=config.seed),
        train_step=experiment.train_step,
        train_batches=partial(
            train_batches,
            config,
            dataset.splits["train"],
            mesh=experiment.mesh,
            parts=dataset.parts,
        ),
        evaluate_state=evaluate,
        learning_rate=experiment.learning_rate,
        mesh=experiment.mesh,
        workdir=workdir,
        config=plain,
        meta=_prediction_meta(plain, dataset),
        steps=config.steps,
        log_every=config.log_every,
        eval_every=config.eval_every,
        select=config.select,
        draw_panels=panels if shown else None,
        stop=stop,
        stall_seconds=config.stall_seconds,
        title=f"{config.model}, seed {config.seed}",
        console=console,
    )
    split = experiment.report_split
    source = dataset.splits[split]
    indices = _spread(config.panels, len(source))
    try:
        with stop.interrupting():
            scores, predictions = score_split(
                experiment, fitted.state.eval_variables, split, keep=indices
            )
    except Stopped:
        console.print(
            "stopped after the last step, saved; run the same command to go on",
            soft_wrap=True,
        )
        raise
    train_split = dataset.splits["train"]
    # Reads the whole split: from here on each of its bad records has been met, also
    # those that an earlier start of this run skipped.
    baseline = scoring.majority_baseline(train_split, source, dataset.table)
    bad = len(train_split.bad) if isinstance(train_split, SkipBad) else 0
    if bad:
        console.print(f"skipped {bad} bad record(s) of the split train")
    result = Result(
        workdir=workdir,
        split=split,
        step=fitted.selected_step,
        scores=scores,
        baseline=baseline,
        bad_records=bad,
        parameters=count_parameters(experiment.model),
        step_seconds=fitted.step_seconds,
        indices=tuple(indices),
        predictions=tuple(predictions[index] for index in indices),
    )
    processes.on_first(lambda: write_result(result, dataset.table))


def score_split(
    experiment: Experiment, variables: dict[str, Any], split: str, **options: Any
) -> tuple[dict[str, Any], dict[int, np.ndarray]]:
    """Scores variables of the model on a split; see `segjax.scoring.score`."""
    batch_size = experiment.config.eval_batch_size
    source = scoring.SeenLabels(
        experiment.dataset.splits[split], limit=scoring.BATCHES_IN_FLIGHT * batch_size
    )
    return scoring.score(
        experiment.eval_step,
        variables,
        pipeline.eval_batches(
            source,
            batch_size=batch_size,
            num_threads=scoring.THREADS,
            **experiment.eval_sizes[split],
            **parallel.batch_share(experiment.mesh),
        ),
        source,
        table=experiment.dataset.table,
        mesh=experiment.mesh,
        **options,
    )


def main(config: Config, *, dataset: Dataset | None = None) -> None:
    """Runs one experiment and prints its scores, for a script's command line."""
    console = Console(quiet=not processes.is_first())
    experiment = prepare(config, dataset=dataset)
    result = train(experiment, console=console)
    config = experiment.config
    rows = [
        Row(config.model, result.scores, result.parameters, result.step_seconds),
        Row("majority class", result.baseline, None, None),
    ]
    images = result.scores["num_images"]
    where = f"{config.dataset} {result.split}, {images} images"
    console.print(comparison_table(rows, title=f"{config.name}: {where}"))
    console.print(class_table(rows, experiment.dataset.table, title="IoU by class"))
    console.print(f"log, panels and checkpoints: {result.workdir}")


def train_batches(
    config: Config,
    source: Source,
    start_step: int = 0,
    *,
    mesh: jax.sharding.Mesh | None = None,
    parts: Sequence[Part] = (),
) -> Iterator[pipeline.Batch]:
    """The training batches of `config` from a step on: this process's rows of them.

    Without a `mesh` all rows. `parts` are the data set's, if it is a mixture.
    """
    return pipeline.train_batches(
        source,
        batch_size=config.batch_size,
        crop_size=config.crop_size,
        scale_range=config.scale_range,
        flip=config.flip,
        photometric=config.photometric,
        elastic=config.elastic,
        border_weight=config.border_weight,
        image_size=config.image_size,
        parts=parts,
        seed=config.seed,
        start_step=start_step,
        **({} if mesh is None else parallel.batch_share(mesh)),
    )


def _prediction_meta(plain: dict[str, Any], dataset: Dataset) -> dict[str, Any]:
    """All that prediction needs beside the weights: it is in every checkpoint."""
    return {
        "config": plain,
        "labels": {
            "names": list(dataset.table.names),
            "colors": [list(color) for color in dataset.table.colors],
            "thin": list(dataset.table.thin),
        },
        "normalization": {"mean": list(IMAGENET_MEAN), "std": list(IMAGENET_STD)},
    }


def _eval_size(source, *, image_size) -> dict[str, tuple[int, int]]:
    """One shape per split: resized, or padded to the largest example."""
    if image_size is not None:
        return {"image_size": image_size}
    return {"pad_size": pipeline.max_size(source)}


def _spread(count: int, length: int) -> list[int]:
    count = min(count, length)
    return [(2 * i + 1) * length // (2 * count) for i in range(count)]
