"""A run of seconds, as a program: what the tests of this folder kill and resume.

    python tests/faults/tiny_run.py WORKDIR PREPARED_DIR [FIELD=JSON ...]

Of everything that a checkpoint must hold it has something: momentum, running
statistics, an average of the weights, dropout, augmentation that spans epochs.
"""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import jax
from rich.console import Console

from segjax import experiment
from segjax.configuration import Config
from segjax.data.datasets import open_dataset
from segjax.errors import InputError
from segjax.training import processes

STEPS = 24
EVAL_EVERY = 3


def config(workdir: Path, prepared_dir: Path) -> Config:
    """The run's configuration."""
    return Config(
        name="tiny",
        dataset="street_scenes",
        model="segnet_basic",
        width=1 / 16,
        dropout=0.1,
        crop_size=(32, 32),
        scale_range=(0.5, 1.5),
        photometric=0.1,
        ema_decay=0.9,
        learning_rate=0.02,
        steps=STEPS,
        eval_every=EVAL_EVERY,
        log_every=2,
        batch_size=2,
        eval_batch_size=2,
        panels=0,
        select="miou",
        workdir=workdir,
        prepared_dir=prepared_dir,
    )


def main(workdir: Path, prepared_dir: Path, fields: dict[str, Any]) -> None:
    """Starts the run, or resumes it, with some fields of it changed."""
    dataset = open_dataset(
        "street_scenes",
        prepared_dir=prepared_dir,
        size=(32, 48),
        counts={"train": 7, "val": 3},
    )
    changed = dataclasses.replace(config(workdir, prepared_dir), **fields)
    experiment.train(
        experiment.prepare(changed, dataset=dataset), console=Console(width=200)
    )


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")
    changes = (argument.split("=") for argument in sys.argv[3:])
    fields = {name: json.loads(value) for name, value in changes}
    # Address, number of processes, number of this one.
    processes.start(processes.Launch(*fields.pop("launch", ())))
    try:
        with processes.ending_together():
            main(Path(sys.argv[1]), Path(sys.argv[2]), fields)
    except InputError as error:
        print(f"error: {error}")
        sys.exit(2)
