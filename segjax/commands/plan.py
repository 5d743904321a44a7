"""`python -m segjax plan`."""

import contextlib
import dataclasses
import json
from pathlib import Path
from typing import Literal

from rich.console import Console

from segjax.planning import programs
from segjax.planning.plan import make_plan, plan_values
from segjax.planning.topology import find_devices
from segjax.report.plan_tables import plan_notes, plan_tables


def plan(
    experiment: Path,
    topology: str = "local",
    mesh: str | None = None,
    batch_size: int | None = None,
    model: str | None = None,
    dtype: Literal["float32", "bfloat16"] | None = None,
    crop_size: tuple[int, int] | None = None,
    data_dir: Path | None = None,
    num_classes: int | None = None,
    label_size: tuple[int, int] | None = None,
    evaluation: bool = True,
    one_device: bool = True,
    largest_batch: bool = False,
    quick: bool = False,
    json: bool = False,
) -> None:
    """Says what an experiment needs on a TPU slice, without a TPU.

    Compiles the experiment's own training and evaluation step with the slice's
    compiler (`pip install segjax[tpu]`); reads no data and runs nothing.

    Args:
      experiment: its script; the numbers of its CONFIG hold unless given here.
      topology: a TPU slice such as v5e:4x4, or local, the devices of this machine.
      mesh: data=4,space=2: devices that split the batch and the images' height.
      batch_size: images per update, over all devices.
      model: name of the network.
      dtype: type of the computation.
      crop_size: height and width of the training images.
      data_dir: of a data set of your own, whose classes.txt is read.
      num_classes: of a data set of your own.
      label_size: height and width of the labels that are evaluated.
      evaluation: compile the evaluation step, too.
      one_device: compile for one device, too, which gives the efficiency.
      largest_batch: look for the largest batch that fits; compiles several times.
      quick: compile with the least effort, in a fraction of the time; bytes moved come
        out a tenth higher.
      json: print everything as JSON.
    """
    given = {
        "batch_size": batch_size,
        "model": model,
        "dtype": dtype,
        "crop_size": crop_size,
        "data_dir": data_dir,
        "mesh": mesh,
    }
    config = programs.read_config(experiment)
    config = dataclasses.replace(
        config, **{name: value for name, value in given.items() if value is not None}
    )
    data = programs.describe_data(
        config, num_classes=num_classes, label_size=label_size
    )
    devices = find_devices(topology)
    console = Console()
    status = contextlib.nullcontext() if json else console.status("compiling")
    with status as shown:
        made = make_plan(
            config,
            data,
            devices,
            topology=topology,
            evaluation=evaluation,
            one_device=one_device,
            largest_batch=largest_batch,
            quick=quick,
            progress=lambda text: shown and shown.update(f"compiling: {text}"),
        )
    if json:
        _print_json(plan_values(made))
        return
    for table in plan_tables(made):
        console.print(table)
    for note in plan_notes(made):
        console.print(note, highlight=False)


def _print_json(values) -> None:
    print(json.dumps(values, indent=2, default=str))
