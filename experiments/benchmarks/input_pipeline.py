"""Images per second of the input pipeline alone, beside the training step's.

    python experiments/benchmarks/input_pipeline.py --experiment camvid_segnet_basic \
        --data-dir CAMVID_FOLDER

Runs the pipeline and the training step of an experiment in turn, `rounds` times, and
prints the medians and their ratio: a ratio of 3 leaves the devices never waiting.
"""

import dataclasses
import importlib
import statistics
import sys
import time
from functools import partial
from pathlib import Path

import jax
from rich.console import Console

from segjax import cli, schedules
from segjax.configuration import Config
from segjax.data.datasets import open_dataset
from segjax.experiment import train_batches
from segjax.models.zoo import build_model
from segjax.training import parallel, steps
from segjax.training.optimizers import make_optimizer
from segjax.training.state import create_state


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """What to time."""

    experiment: str = "upsampling_ablation"
    """Name of a script in `experiments/`."""

    model: str | None = None
    """Another network than the experiment's."""

    data_dir: Path | None = None
    """Folder of the data set as published."""

    prepared_dir: Path | None = None
    """Where prepared records lie."""

    rounds: int = 5
    """Repetitions, the two programs in turn."""

    batches: int = 10
    """Batches per repetition of the pipeline."""


def main(benchmark: Benchmark) -> None:
    """Times both programs and prints one line."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    config: Config = importlib.import_module(benchmark.experiment).CONFIG
    model_name = benchmark.model or getattr(config, "models", [config.model])[0]
    dataset = open_dataset(
        config.dataset,
        data_dir=benchmark.data_dir,
        prepared_dir=benchmark.prepared_dir,
    )
    batches = train_batches(config, dataset.splits["train"])
    mesh = parallel.make_mesh()
    model = build_model(
        model_name, num_classes=dataset.table.num_classes, width=config.width
    )
    rate = schedules.learning_rate("constant", peak=1e-3, steps=1)
    tx = make_optimizer(config.optimizer, rate)
    state = parallel.replicate(mesh, create_state(model, tx, seed=0))
    train_step = parallel.jit_train_step(
        partial(steps.train_step, model=model, tx=tx), mesh
    )
    batch = parallel.shard_batch(mesh, next(batches))
    state, sums = train_step(state, batch)
    jax.block_until_ready(sums)

    pipeline_rates, step_rates = [], []
    for _ in range(benchmark.rounds):
        # What was prefetched while the step ran is not the pipeline's speed.
        for _ in range(10):
            next(batches)
        started = time.perf_counter()
        for _ in range(benchmark.batches):
            next(batches)
        seconds = time.perf_counter() - started
        pipeline_rates.append(benchmark.batches * config.batch_size / seconds)
        time.sleep(0.5)  # lets the prefetching threads fill up and rest
        started = time.perf_counter()
        state, sums = train_step(state, batch)
        jax.block_until_ready(sums)
        step_rates.append(config.batch_size / (time.perf_counter() - started))
    alone, step = statistics.median(pipeline_rates), statistics.median(step_rates)
    Console().print(
        f"{benchmark.experiment}, {model_name}, crops {config.crop_size}, batch "
        f"{config.batch_size}: pipeline {alone:.1f} img/s, training step {step:.1f} "
        f"img/s, ratio {alone / step:.1f} (medians of {benchmark.rounds})"
    )


if __name__ == "__main__":
    cli.main(main, Benchmark())
