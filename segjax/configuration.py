"""Config: every number of an experiment, as plain values."""

import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import tyro

from segjax.class_weights import WeightsName
from segjax.errors import InputError
from segjax.models.layers import Remat
from segjax.models.zoo import build_model
from segjax.schedules import ScheduleName
from segjax.training.loop import SelectName
from segjax.training.optimizers import OptimizerName
from segjax.training.parallel import Engine
from segjax.training.workdir import Resume


@dataclasses.dataclass(frozen=True)
class Config:
    """What an experiment is. Sizes are (height, width) in pixels."""

    name: Annotated[str, tyro.conf.Suppress]
    """Name of the experiment; its runs go to `runs/<name>`."""

    dataset: str
    """Name of the data set (`python -m segjax data list`), or a .toml file that mixes
    several."""

    model: str
    """Name of the network; `python -m segjax models` lists them."""

    data_dir: Path | None = None
    """Folder of the data set as published. None downloads or draws it."""

    prepared_dir: Path | None = None
    """Where prepared records lie. None is TFDS_DATA_DIR or ~/tensorflow_datasets."""

    taxonomy: str | None = None
    """Table that maps the classes to others: a CSV or TSV file, or "urban"."""

    workdir: Path | None = None
    """Folder of the run. None is runs/<name>. A run found there is resumed."""

    width: float = 1.0
    """Factor on the network's channels; 1 is the paper's network."""

    dropout: float = 0.0
    """Rate of the network's dropout: FCN 0.5, U-Net not stated, SegNet-Basic none."""

    image_size: tuple[int, int] | None = None
    """Images are resized to this; labels are not, scores are at their resolution."""

    crop_size: tuple[int, int] = (64, 96)
    """Training crop."""

    scale_range: tuple[float, float] = (1.0, 1.0)
    """Range of the random scale, relative to image_size."""

    flip: bool = True
    """Mirror half of the training images left to right."""

    photometric: float = 0.0
    """Strength 0..1 of random brightness, contrast and saturation."""

    elastic: float = 0.0
    """Standard deviation in pixels of random elastic deformation; 0: none."""

    border_weight: tuple[float, float, int] | None = None
    """U-Net's weight map of the loss: w0, sigma in pixels, the class of the cells."""

    class_weights: WeightsName | tuple[float, ...] = "none"
    """Weights of the loss: a rule, or one number per class."""

    optimizer: OptimizerName = "sgd"
    """Optimiser."""

    learning_rate: float = 0.1
    """Peak learning rate."""

    schedule: ScheduleName = "constant"
    """How the learning rate goes down."""

    warmup_steps: int = 0
    """Steps of linear warm-up."""

    momentum: float = 0.9
    """Momentum of SGD, first beta of AdamW."""

    weight_decay: float = 0.0
    """Weight decay, on kernels only."""

    init_from: Path | None = None
    """What this run starts from where layers agree: a run's folder, another library's
    weights (.safetensors), or hub:ORG/REPO/FILE on the Hugging Face hub."""

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

    select: SelectName = "last"
    """Which weights are scored: the last, or the best evaluated ones by this score."""

    panels: int = 3
    """Images in the panels of every evaluation and predictions kept; 0: none."""

    parallel: Engine = "jit"
    """Who splits the work over devices: the compiler, or the step itself (pmap)."""

    mesh: str | None = None
    """Devices that split batch and image height: data=4,space=2. None: all the batch."""

    accumulate: int = 1
    """Parts that a batch goes through the network in, one after the other."""

    remat: Remat = "none"
    """Maps that are computed twice instead of kept: those inside of "blocks"."""

    cache: Literal["none", "memory"] = "none"
    """Keep the decoded training and validation images in memory; they must fit."""

    bad_records: Literal["stop", "skip"] = "stop"
    """Bad training data: stop the run, or take the next good ones, and tell."""

    max_bad: int = 10
    """Bad records, and bad files of camvid and folder, to skip at most."""

    stall_seconds: float = 60.0
    """A wait for input that is longer is told, with the stage that it is in."""

    resume: Resume = "auto"
    """A run found in workdir: go on with it; it must (not) be there: never, must."""

    seed: int = 0
    """Seed of initialisation, order of data, augmentation and dropout."""

    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the computation; parameters, statistics and logits stay float32."""

    smoke: bool = False
    """Two tiny steps on embedded data, in a temporary folder."""


def check(config: Config) -> None:
    """Raises InputError for an option that is wrong whatever the data and devices."""
    for field in ("steps", "eval_every", "log_every", "accumulate"):
        if getattr(config, field) < 1:
            raise InputError(f"{field} is {getattr(config, field)}, expected >= 1")
    if config.max_bad < 0:
        raise InputError(f"max_bad is {config.max_bad}, expected >= 0")
    if not config.stall_seconds > 0:
        raise InputError(f"stall_seconds is {config.stall_seconds}, expected > 0")
    if config.panels < 0:
        raise InputError(f"panels is {config.panels}, expected >= 0")
    if not 0 <= config.dropout < 1:
        raise InputError(f"dropout is {config.dropout}, expected 0 <= rate < 1")
    if config.ema_decay is not None and not 0 < config.ema_decay < 1:
        raise InputError(f"ema_decay is {config.ema_decay}, expected 0 < decay < 1")
    if config.clip_norm is not None and not config.clip_norm > 0:
        raise InputError(f"clip_norm is {config.clip_norm}, expected > 0")
    if not config.width > 0:
        raise InputError(f"width is {config.width}, expected > 0")
    # Here and not when the step is traced: by then the run's folder exists.
    model = build_model(config.model, num_classes=1, width=config.width)
    height, width = config.crop_size
    needed = model.input_size((height - 2 * model.margin, width - 2 * model.margin))
    if (height, width) != tuple(needed):
        raise InputError(
            f"crop_size is {height}x{width}, but {config.model} needs "
            f"{needed[0]}x{needed[1]}, the next size that it takes"
        )
    # Traced, not run: raises where a decoder needs what its encoder does not give.
    image = jax.ShapeDtypeStruct((1, height, width, 3), jnp.float32)
    jax.eval_shape(
        lambda key, x: model.init(key, x, train=False), jax.random.key(0), image
    )


def plain(config: Config) -> dict[str, Any]:
    """The configuration as JSON values."""
    return json.loads(json.dumps(dataclasses.asdict(config), default=str))


def defaults() -> dict[str, Any]:
    """The fields with a default as JSON values.

    What a configuration of an older version lacks was done in the default's way.
    """
    values = {
        field.name: field.default
        for field in dataclasses.fields(Config)
        if field.default is not dataclasses.MISSING
    }
    return json.loads(json.dumps(values, default=str))


def from_plain(values: dict[str, Any]) -> Config:
    """The configuration that `plain` made JSON values of.

    A field that is missing was added later; its default is what was done before.

    Raises:
      InputError: a field is missing or unknown: another version wrote it.
    """
    fields = dataclasses.fields(Config)
    names = {field.name for field in fields}
    needed = {f.name for f in fields if f.default is dataclasses.MISSING}
    if not needed <= set(values) <= names:
        strangers = ", ".join(sorted(needed - set(values) | set(values) - names))
        raise InputError(
            f"configuration was written by another version of segjax: {strangers}"
        )
    paths = ("data_dir", "prepared_dir", "workdir", "init_from")

    def value(name, x):
        if name in paths and x is not None:
            return Path(x)
        return tuple(x) if isinstance(x, list) else x

    return Config(**{name: value(name, x) for name, x in values.items()})


# What --smoke replaces, in the configuration and in the embedded data.
_SMOKE = {
    "dataset": "street_scenes",
    "data_dir": None,
    "taxonomy": None,
    "width": 0.125,
    "image_size": None,
    "elastic": 0.0,
    "border_weight": None,
    "class_weights": "none",
    "warmup_steps": 0,
    "steps": 2,
    "eval_every": 2,
    "log_every": 1,
    "panels": 1,
}
SMOKE_DATA = {"size": (48, 64), "counts": {"train": 4, "val": 2, "test": 2}}


def smoke(config: Config) -> Config:
    """The same experiment in two tiny steps, in a temporary folder if none is given."""
    devices = jax.device_count()
    # The smallest crop that all networks take, whatever they lose at the border; where
    # its rows are split, one with enough of them for a 7x7 kernel at stride 16.
    rows = 32 if config.mesh is None else 128
    sizes = [
        build_model(name, num_classes=1).input_size((rows, 48))
        for name in getattr(config, "models", (config.model,))
    ]
    workdir = config.workdir or Path(tempfile.mkdtemp(prefix="segjax_smoke_"))
    return dataclasses.replace(
        config,
        **_SMOKE,
        crop_size=tuple(map(max, zip(*sizes, strict=True))),
        workdir=workdir,
        batch_size=2 * devices,
        eval_batch_size=2 * devices,
    )
