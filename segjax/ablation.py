"""An ablation: several networks, several seeds, one recipe, one comparison.

Everything measured is on disk: a finished run is read and not repeated, a run that
was cut off goes on, and a folder may be given more networks or seeds later.
"""

import dataclasses
import datetime
import json
import os
import platform
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import numpy as np
import tyro
from rich.console import Console

from segjax import configuration, experiment
from segjax.configuration import Config
from segjax.costs import Costs, Network, Tensor, measure_costs
from segjax.data import transforms
from segjax.errors import InputError
from segjax.experiment import Experiment
from segjax.models.zoo import MODELS
from segjax.report import published
from segjax.report.comparison import METRICS, Comparison, Strategy
from segjax.report.statistics import check_seeds
from segjax.results import Result
from segjax.training import parallel, processes, steps
from segjax.training.logs import provenance
from segjax.training.workdir import FREE_FIELDS, claim_workdir, write_json


@dataclasses.dataclass(frozen=True)
class Ablation(Config):
    """Networks compared under one recipe."""

    preset: str = ""
    """Which of the script's sets of numbers the other options change."""

    model: Annotated[str, tyro.conf.Suppress] = "each of models"
    seed: Annotated[int, tyro.conf.Suppress] = 0

    models: tuple[str, ...] = ()
    """Networks, the first one is what the others are compared with. Names of
    `python -m segjax models`, or strategies ENCODER:UPSAMPLING+SKIP."""

    seeds: tuple[int, ...] = (0,)
    """Every network is trained with each of these."""

    test: Literal["none", "paired-t"] = "none"
    """Significance test against the first network; needs two seeds or more."""

    timing_rounds: int = 10
    """How often steps and predictions are timed in turn; 0 measures no costs."""


def run(
    config: Ablation, *, preset: Ablation, console: Console | None = None
) -> tuple[Comparison, Path]:
    """Trains what is not trained yet, measures what it costs, and compares.

    Of several processes all call this, on one common work directory. Writes `NETWORK/seedN/` (see `segjax.experiment.train`) and `costs.json` into the
    work directory.

    Args:
      config: what to compare.
      preset: the numbers that `config` started from, for the command in the report.
      console: where progress and results are printed.

    Returns:
      The comparison and the work directory.

    Raises:
      InputError: an option is wrong, a network does not fit the recipe, or the
        folder holds results of another one. Nothing is written before all networks
        have been checked.
    """
    console = console or Console(quiet=not processes.is_first())
    command = _command(config, preset)
    if config.smoke:
        config = configuration.smoke(config)
        config = dataclasses.replace(config, timing_rounds=min(2, config.timing_rounds))
    _check(config)
    workdir = config.workdir or Path("runs") / config.name
    dataset = experiment.open_data(config)
    # `smoke` is done: the sizes are tiny already.
    base = {
        field.name: getattr(config, field.name) for field in dataclasses.fields(Config)
    } | {"smoke": False}
    experiments = {
        model: experiment.prepare(
            Config(**base | {"model": model, "workdir": workdir}), dataset=dataset
        )
        for model in config.models
    }
    plain = configuration.plain(Config(**base))
    processes.on_first(lambda: claim_workdir(workdir, plain))

    results: dict[str, dict[int, Result]] = {model: {} for model in config.models}
    for seed in config.seeds:
        for model, prepared in experiments.items():
            results[model][seed] = experiment.train(
                prepared,
                seed=seed,
                workdir=workdir / _slug(model) / f"seed{seed}",
                console=console,
            )
    costs = _costs(config, experiments, workdir / "costs.json")
    return _compare(config, experiments, results, costs, command), workdir


def _check(config: Ablation) -> None:
    if not config.models:
        raise InputError("models is empty, expected at least one network")
    if len(set(config.models)) != len(config.models):
        raise InputError(f"models lists a network twice: {', '.join(config.models)}")
    check_seeds(config.seeds, test=config.test != "none")
    if config.timing_rounds < 0:
        raise InputError(f"timing_rounds is {config.timing_rounds}, expected >= 0")
    if config.timing_rounds and config.parallel != "jit":
        raise InputError(
            f"parallel is {config.parallel!r}, but costs are those of one compiled "
            "program: expected jit, or --timing-rounds 0"
        )


def _slug(model: str) -> str:
    """The name of a network as a folder's."""
    return re.sub(r"[^a-z0-9_]+", "-", model)


def _costs(
    config: Ablation, experiments: dict[str, Experiment], path: Path
) -> dict[str, Costs]:
    """Measured, or read where the same were measured on this hardware before."""
    if not config.timing_rounds:
        return {}
    key = {
        "models": list(config.models),
        "rounds": config.timing_rounds,
        "hardware": _hardware(),
    }

    def found() -> dict[str, Any] | None:
        if path.is_file():
            costs = json.loads(path.read_text(encoding="utf-8"))
            if {name: costs.get(name) for name in key} == key:
                return costs["costs"]
        return None

    known = processes.on_first(found)
    if known is not None:
        return {model: _read_costs(c) for model, c in known.items()}
    costs = measure_costs(
        {model: _network(prepared) for model, prepared in experiments.items()},
        rounds=config.timing_rounds,
    )
    plain = {model: dataclasses.asdict(c) for model, c in costs.items()}
    processes.on_first(lambda: write_json(path, {**key, "costs": plain}))
    return costs


def _read_costs(plain) -> Costs:
    border = plain["border"] and tuple(Tensor(**t) for t in plain["border"])
    spreads = {n: tuple(plain[n]) for n in ("train_spread", "inference_spread")}
    return Costs(**plain | spreads | {"border": border})


def _network(prepared: Experiment) -> Network:
    """The programs that ran, with the batch they ran on and one image."""
    config = prepared.config
    batches = experiment.train_batches(
        config, prepared.dataset.splits["train"], mesh=prepared.mesh
    )
    batch = next(batches)
    batches.close()
    image = prepared.dataset.splits[prepared.report_split][0]["image"]
    if config.image_size is not None:
        image = transforms.resize_image(image, config.image_size)
    state = experiment.initial_state(prepared, seed=config.seed)
    return Network(
        model=prepared.model,
        train_step=prepared.train_step,
        predict_step=jax.jit(
            lambda variables, batch: steps.predict_step(
                variables, batch, model=prepared.model
            )
        ),
        state=parallel.replicate(prepared.mesh, state),
        train_batch=parallel.shard_batch(prepared.mesh, batch),
        image_batch={
            "image": image[None],
            "label": np.zeros((1, *image.shape[:2]), np.uint8),
        },
    )


def _compare(
    config: Ablation,
    experiments: dict[str, Experiment],
    results: dict[str, dict[int, Result]],
    costs: dict[str, Costs],
    command: str,
) -> Comparison:
    prepared = next(iter(experiments.values()))
    first = next(iter(next(iter(results.values())).values()))
    dataset = prepared.dataset
    source = dataset.splits[first.split]
    shown = [source[index] for index in first.indices]
    training = (
        "natural_frequency" if config.class_weights == "none" else "median_frequency"
    )
    strategies = tuple(
        Strategy(
            name=model,
            description=_describe(model),
            seeds=tuple(runs),
            scores={
                metric: tuple(float(r.scores[metric]) for r in runs.values())
                for metric in METRICS
            },
            class_iou=tuple(tuple(r.scores["iou"]) for r in runs.values()),
            costs=costs.get(model),
            published=published.published(model, training=training),
            predictions=next(iter(runs.values())).predictions,
        )
        for model, runs in results.items()
    )
    settings = _settings(config, prepared, first)
    return Comparison(
        title=config.name.replace("_", " ").capitalize(),
        command=command,
        split=f"{config.dataset} {first.split}, {first.scores['num_images']} images",
        settings=settings,
        published_settings=(
            {**published.PROTOCOL, "class weights": published.WEIGHTS[training]}
            if any(s.published for s in strategies)
            else {}
        ),
        environment=_environment(),
        notes=tuple(_notes(config, prepared, results)),
        table=dataset.table,
        baseline={metric: float(first.baseline[metric]) for metric in METRICS},
        strategies=strategies,
        image_ids=tuple(e["id"] for e in shown),
        images=tuple(e["image"] for e in shown),
        labels=tuple(e["label"] for e in shown),
    )


def _describe(model: str) -> str:
    encoder, strategy, decoder = model.partition(":")
    if strategy:
        upsampling, _, skip = decoder.partition("+")
        return f"{encoder}, upsampling {upsampling}, skips {skip}"
    return f"{MODELS[model].encoder}, {MODELS[model].decoder}"


def _encoder(model: str) -> str:
    encoder, strategy, _ = model.partition(":")
    return encoder if strategy else MODELS[model].encoder


def _hardware() -> str:
    device = jax.devices()[0]
    if device.platform != "cpu":
        return f"{jax.device_count()} x {device.device_kind}"
    return f"{os.cpu_count()} CPU cores ({platform.machine()})"


def _settings(config: Ablation, prepared: Experiment, first: Result) -> dict[str, str]:
    """The recipe, under the names of `segjax.report.published.PROTOCOL`."""
    train = prepared.dataset.splits["train"]
    classes = prepared.dataset.table.num_classes
    height, width = train[0]["label"].shape
    size = config.image_size or (height, width)
    schedule = "fixed" if config.schedule == "constant" else config.schedule
    rate = f"learning rate {config.learning_rate:g} {schedule}"
    if config.warmup_steps:
        rate += f" after {config.warmup_steps} steps of warm-up"
    augmentation = [
        f"scale {config.scale_range[0]:g} to {config.scale_range[1]:g}"
        if config.scale_range != (1.0, 1.0)
        else "",
        "mirrored" if config.flip else "",
        f"photometric {config.photometric:g}" if config.photometric else "",
        f"elastic {config.elastic:g} px" if config.elastic else "",
    ]
    weights = config.class_weights
    selected = {
        "last": "the last weights",
        "pixel_accuracy": "best global accuracy",
        "miou": "best mIoU",
    }[config.select]
    if config.select != "last":
        selected += f" on the validation split, every {config.eval_every} steps"
    return {
        "data": f"{config.dataset}, {classes} classes, {len(train)} training images",
        "scored on": f"{config.dataset} {first.split}, "
        f"{first.scores['num_images']} images, at {height}x{width}",
        "image size": f"{size[0]}x{size[1]}",
        "training crop": f"{config.crop_size[0]}x{config.crop_size[1]}",
        "augmentation": ", ".join(filter(None, augmentation)) or "none",
        "input": "8-bit values to zero mean and unit variance (ImageNet's statistics)",
        "encoder": ", ".join(dict.fromkeys(map(_encoder, config.models))),
        "width": f"{config.width:g} of the networks' channels",
        "biases": "yes",
        "initialisation": "He et al."
        if config.init_from is None
        else f"from {config.init_from.name}",
        "optimiser": f"{config.optimizer.upper()}, {rate}, momentum "
        f"{config.momentum:g}",
        "weight decay": f"{config.weight_decay:g}",
        "batch size": str(config.batch_size),
        "class weights": weights
        if isinstance(weights, str)
        else ", ".join(f"{w:g}" for w in weights),
        "length": f"{config.steps} steps",
        "selection": selected,
        "batch statistics": "running averages, momentum 0.9",
        "scoring": "one confusion matrix over the split, void left out",
        "boundary F1": "tolerance 0.75 % of the diagonal, one-to-one matching",
        "seeds": ", ".join(map(str, config.seeds)),
        "arithmetic": config.dtype,
        "hardware": _hardware(),
    }


def _environment() -> dict[str, str]:
    now = datetime.datetime.now(datetime.UTC)
    return {
        "report made": f"{now:%Y-%m-%d %H:%M} UTC",
        **{name: str(value) for name, value in provenance().items()},
    }


def _notes(config: Ablation, prepared: Experiment, results) -> Sequence[str]:
    label = prepared.dataset.splits[prepared.report_split][0]["label"]
    height, width = label.shape
    tolerance = 0.0075 * float(np.hypot(height, width))
    yield (
        f"Scores are taken at the labels' own resolution ({height}x{width}); logits "
        "are resized to it, labels never are."
    )
    yield (
        f"Boundary F1 allows {tolerance:.2f} pixels (0.75 % of the diagonal) and "
        "matches boundary pixels one to one."
    )
    more = [
        run.scores["boundary_f1_dilated"] - run.scores["boundary_f1"]
        for runs in results.values()
        for run in runs.values()
    ]
    yield (
        f"Matched by dilation instead, it would be {np.mean(more):.3f} higher on "
        f"average ({min(more):.3f} to {max(more):.3f}): boundary_f1_dilated in every "
        "result.json, for comparison with tools that do so."
    )
    thin = prepared.dataset.table.thin
    if thin:
        yield f"Thin classes: {', '.join(thin)}."
    if config.select != "last" and prepared.report_split == "val":
        yield (
            "This data set has no test split: the split that chose the weights is "
            "the one that is scored, so scores are optimistic for every row alike."
        )
    if len(config.seeds) == 1:
        yield (
            "One seed: differences may be chance, and there is neither a spread nor "
            "a test."
        )
    steps_of = {
        model: {r.step for r in runs.values()} for model, runs in results.items()
    }
    if config.select != "last":
        chosen = "; ".join(
            f"{model} {', '.join(map(str, sorted(chosen)))}"
            for model, chosen in steps_of.items()
        )
        yield f"Steps whose weights were selected: {chosen}."


def _command(config: Ablation, preset: Ablation) -> str:
    """The command that makes this report again; where files lie changes no number."""
    words = ["python", f"experiments/{config.name}.py", "--preset", preset.preset]
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.name in FREE_FIELDS or value == getattr(preset, field.name):
            continue
        option = field.name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{option}" if value else f"--no-{option}")
        else:
            values = value if isinstance(value, tuple) else (value,)
            words += [f"--{option}", *map(str, values)]
    return shlex.join(words)
