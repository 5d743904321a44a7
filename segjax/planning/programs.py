"""An experiment's own training and evaluation step, as shapes: no data, no arrays."""

import dataclasses
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from segjax import experiment
from segjax.configuration import Config
from segjax.data.datasets import Dataset
from segjax.data.folder import read_classes
from segjax.data.labels import CAMVID, ISBI_EM, LabelTable, default_colors
from segjax.data.published import PUBLISHED
from segjax.data.street_scenes import StreetScenesConfig
from segjax.data.taxonomy import read_taxonomy
from segjax.errors import InputError
from segjax.flops import count_flops
from segjax.training.state import create_state

_NUM_CLASSES = {
    "street_scenes": CAMVID.num_classes,
    "isbi_em": ISBI_EM.num_classes,
    **{name: published.table.num_classes for name, published in PUBLISHED.items()},
}
# Height and width as published, at which predictions are scored.
_LABEL_SIZES = {
    "street_scenes": StreetScenesConfig.size,
    "camvid": (360, 480),
    "isbi_em": (512, 512),
}


@dataclasses.dataclass(frozen=True)
class Program:
    """A step that can be compiled.

    Attributes:
      batch_size: images, over all devices.
      step: the jitted step.
      arguments: pytrees of `jax.ShapeDtypeStruct`.
    """

    batch_size: int
    step: Callable[..., Any]
    arguments: tuple[Any, ...]

    def lower(self) -> jax.stages.Lowered:
        """Traces the step; `compile()` of the result compiles it for its mesh."""
        return self.step.lower(*self.arguments)

    def operations(self) -> int:
        """In its convolutions and matrix products on all devices together."""
        return count_flops(self.step, *self.arguments)


@dataclasses.dataclass(frozen=True)
class Data:
    """What a program has to know of a data set.

    Attributes:
      num_classes: of the labels.
      label_size: height and width of the evaluated labels.
    """

    num_classes: int
    label_size: tuple[int, int]


def read_config(script: Path) -> Config:
    """The `CONFIG` of an experiment's script; the script is imported, not run.

    Raises:
      InputError: there is no such file, it cannot be imported, or has no `CONFIG`.
    """
    if not script.is_file():
        raise InputError(f"{script}: no such file")
    spec = importlib.util.spec_from_file_location(f"experiment_{script.stem}", script)
    if spec is None or spec.loader is None:
        raise InputError(f"{script}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise InputError(
            f"{script}: cannot be imported: {type(error).__name__}: {error}"
        ) from error
    config = getattr(module, "CONFIG", None)
    if not isinstance(config, Config):
        raise InputError(
            f"{script}: has no CONFIG, expected CONFIG = segjax.configuration.Config(...)"
        )
    return config


def describe_data(
    config: Config,
    *,
    num_classes: int | None = None,
    label_size: tuple[int, int] | None = None,
) -> Data:
    """What is known of the data set of `config` without reading its examples.

    Args:
      config: the experiment.
      num_classes: instead of the data set's.
      label_size: likewise.

    Raises:
      InputError: it is not known, and not given.
    """
    if num_classes is None and config.taxonomy is not None:
        num_classes = len(read_taxonomy(config.taxonomy).classes)
    if num_classes is None and config.dataset == "folder" and config.data_dir:
        num_classes = read_classes(config.data_dir / "classes.txt").num_classes
    num_classes = num_classes or _NUM_CLASSES.get(config.dataset)
    if num_classes is None:
        raise InputError(
            f"data set {config.dataset!r} has classes of its own: expected "
            "--num-classes, or --data-dir with a classes.txt"
        )
    # Otherwise evaluation would take images of a size that nothing here knows.
    size = label_size or _LABEL_SIZES.get(config.dataset) or config.image_size
    return Data(num_classes, tuple(size or config.crop_size))


def training_program(config: Config, data: Data, mesh: Mesh) -> Program:
    """The step that a run of `config` repeats.

    Raises:
      InputError: an option is wrong, or the batch does not split over the mesh.
    """
    prepared, state = _prepare(config, data, mesh)
    batch = _batch(config.batch_size, config.crop_size, config.crop_size)
    if config.border_weight is not None:
        shape = (config.batch_size, *config.crop_size)
        batch["weight"] = jax.ShapeDtypeStruct(shape, jnp.float32)
    return Program(config.batch_size, prepared.train_step, (state, batch))


def evaluation_program(config: Config, data: Data, mesh: Mesh) -> Program:
    """The step that scores one batch; see `training_program`."""
    prepared, state = _prepare(config, data, mesh)
    image_size = config.image_size or data.label_size
    batch = _batch(config.eval_batch_size, image_size, data.label_size)
    return Program(
        config.eval_batch_size, prepared.eval_step, (state.eval_variables, batch)
    )


class _Example:
    """A source of one example, which stands for a data set that is not read.

    Attributes:
      example: with some pixels of every class: rules that weight classes need them.
    """

    def __init__(self, data: Data):
        height, width = data.label_size
        # Not as many of each: equal weights would be a simpler program.
        classes = np.sqrt(np.arange(height * width) % data.num_classes**2)
        self.example = {
            "image": np.zeros((height, width, 3), np.uint8),
            "label": classes.astype(np.uint8).reshape(height, width),
            "id": "none",
        }

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return self.example


def _prepare(config, data, mesh):
    """The experiment as a run prepares it, and the shapes of its state."""
    if config.parallel != "jit":
        raise InputError(
            f"parallel is {config.parallel!r}, which runs one program per device: a plan "
            "is of the program that the compiler splits, expected 'jit'"
        )
    table = LabelTable(
        names=tuple(map(str, range(data.num_classes))),
        colors=default_colors(data.num_classes),
        raw_ids={i: i for i in range(data.num_classes)},
    )
    source = _Example(data)
    prepared = experiment.prepare(
        # The weights that it starts from do not matter.
        dataclasses.replace(config, init_from=None),
        dataset=Dataset(config.dataset, table, {"train": source, "val": source}),
        mesh=mesh,
    )
    ema = config.ema_decay is not None
    state = jax.eval_shape(
        lambda: create_state(prepared.model, prepared.tx, seed=0, ema=ema)
    )
    return prepared, state


def _batch(batch_size, image_size, label_size):
    return {
        "image": jax.ShapeDtypeStruct((batch_size, *image_size, 3), jnp.uint8),
        "label": jax.ShapeDtypeStruct((batch_size, *label_size), jnp.uint8),
        "valid": jax.ShapeDtypeStruct((batch_size,), jnp.bool_),
    }
