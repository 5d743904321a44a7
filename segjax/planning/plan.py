"""Plan: what an experiment's steps need on a set of devices, before any is rented.

Everything is read from compiled programs or follows from stated peak rates. Nothing is
run, so nothing here is a measurement.
"""

import dataclasses
import importlib.metadata
from collections.abc import Callable, Sequence
from typing import Any

import jax

from segjax.configuration import Config
from segjax.errors import InputError
from segjax.planning.chips import CHIPS, Chip
from segjax.planning.estimate import Estimate, estimate, memory_limit
from segjax.planning.largest_batch import LargestBatch, find_largest
from segjax.planning.programs import Data, evaluation_program, training_program
from segjax.planning.roofline import Rates, Roofline, device_rates
from segjax.training import parallel


@dataclasses.dataclass(frozen=True)
class Plan:
    """What `python -m segjax plan` prints.

    Attributes:
      experiment: its name.
      model: its network.
      dtype: that it computes in.
      crop_size: height and width of the training images.
      topology: as asked for.
      device_kind: JAX's name of the devices.
      chip: their stated peak rates; None where none are known.
      rates: of one device in this slice; likewise.
      num_devices: of them.
      mesh: axis -> size.
      training: the training step.
      evaluation: the evaluation step; None if not asked for.
      one_device: the training step of as many images per device on a single device;
        None if there is no other, or not asked for.
      largest_batch: None if not asked for.
      quick: whether it was compiled with the least effort, and not as for a run.
      versions: of what compiled.
    """

    experiment: str
    model: str
    dtype: str
    crop_size: tuple[int, int]
    topology: str
    device_kind: str
    chip: Chip | None
    rates: Rates | None
    num_devices: int
    mesh: dict[str, int]
    training: Estimate
    evaluation: Estimate | None
    one_device: Estimate | None
    largest_batch: LargestBatch | None
    quick: bool
    versions: dict[str, str]

    @property
    def efficiency(self) -> float | None:
        """Images per second and device relative to one device, all overlapping."""
        return self._efficiency(lambda times: times.seconds)

    @property
    def efficiency_without_overlap(self) -> float | None:
        """The same if devices stand still while they communicate."""
        return self._efficiency(lambda times: times.seconds_without_overlap)

    def _efficiency(self, seconds: Callable[[Roofline], float]) -> float | None:
        one, many = self.one_device, self.training
        if one is None or one.roofline is None or many.roofline is None:
            return None
        if many.collectives and many.roofline.communication is None:
            return None
        alone = one.batch_size / seconds(one.roofline)
        together = many.batch_size / seconds(many.roofline)
        return together / self.num_devices / alone


def make_plan(
    config: Config,
    data: Data,
    devices: Sequence[jax.Device],
    *,
    topology: str,
    evaluation: bool = True,
    one_device: Estimate | bool = True,
    largest_batch: bool = False,
    quick: bool = False,
    progress: Callable[[str], Any] = lambda message: None,
) -> Plan:
    """Compiles the steps of `config` for `devices` and reads what they need.

    Args:
      config: the experiment; `batch_size` is over all devices, `eval_batch_size` is
        rounded up to what splits over them.
      data: see `segjax.planning.programs.describe_data`.
      devices: see `segjax.planning.topology.find_devices`.
      topology: what to call them.
      evaluation: whether to compile the evaluation step, too.
      one_device: whether to compile for one device, too; or that estimate.
      largest_batch: whether to look for it, which compiles several times.
      quick: whether to compile with the least effort: see `estimate`.
      progress: is told what comes next.

    Raises:
      InputError: an option is wrong, or the mesh does not fit the devices.
    """
    rows, space = parallel.parse_mesh(config.mesh) if config.mesh else (None, 1)
    mesh = parallel.make_mesh(devices, data=rows, space=space)
    shards = mesh.shape["data"]
    rounded = -(-config.eval_batch_size // shards) * shards
    config = dataclasses.replace(config, eval_batch_size=rounded)
    program = training_program(config, data, mesh)
    to_evaluate = evaluation_program(config, data, mesh) if evaluation else None
    chip = CHIPS.get(devices[0].device_kind)
    rates = chip and device_rates(chip, config.dtype, _coordinates(devices))

    progress(f"training step on {len(devices)} x {devices[0].device_kind}")
    training = estimate(program, devices=devices, rates=rates, quick=quick)
    if one_device is True and len(devices) > 1:
        progress("the same on one device")
        one_device = estimate_one_device(config, data, devices, quick=quick)
    evaluation_estimate = None
    if to_evaluate is not None:
        progress("evaluation step")
        evaluation_estimate = estimate(
            to_evaluate, devices=devices, rates=rates, quick=quick
        )
    largest = None
    if largest_batch:

        def attempt(batch: int) -> tuple[bool, int | None]:
            progress(f"batch {batch * shards}")
            changed = dataclasses.replace(config, batch_size=batch * shards)
            tried = estimate(
                training_program(changed, data, mesh),
                devices=devices,
                rates=rates,
                quick=quick,
            )
            return _attempted(tried)

        if training.fits is None:
            raise InputError(
                f"largest_batch: {devices[0].device_kind} states no size of its memory"
            )
        share = config.batch_size // shards
        largest = find_largest(
            attempt,
            start=share,
            first=_attempted(training),
            limit=memory_limit(devices[0], rates) or 0,
        )
        largest = dataclasses.replace(
            largest,
            fits=largest.fits * shards,
            too_large=largest.too_large and largest.too_large * shards,
        )
    return Plan(
        experiment=config.name,
        model=config.model,
        dtype=config.dtype,
        crop_size=tuple(config.crop_size),
        topology=topology,
        device_kind=devices[0].device_kind,
        chip=chip,
        rates=rates,
        num_devices=len(devices),
        mesh=dict(mesh.shape),
        training=training,
        evaluation=evaluation_estimate,
        one_device=one_device if isinstance(one_device, Estimate) else None,
        largest_batch=largest,
        quick=quick,
        versions=_versions(devices[0].platform),
    )


def estimate_one_device(
    config: Config, data: Data, devices: Sequence[jax.Device], *, quick: bool = False
) -> Estimate:
    """The training step on the first device, with its share of the batch."""
    share = max(1, config.batch_size // len(devices))
    alone = dataclasses.replace(config, batch_size=share, eval_batch_size=1, mesh=None)
    chip = CHIPS.get(devices[0].device_kind)
    coordinates = _coordinates(devices)
    return estimate(
        training_program(alone, data, parallel.make_mesh(devices[:1])),
        devices=devices[:1],
        rates=chip and device_rates(chip, config.dtype, coordinates),
        quick=quick,
    )


def _attempted(tried: Estimate) -> tuple[bool, int | None]:
    if tried.memory is not None:
        return bool(tried.fits), tried.memory.peak
    return False, tried.out_of_memory and tried.out_of_memory.needed


def _coordinates(devices: Sequence[jax.Device]) -> list[tuple[int, ...]] | None:
    coordinates = [getattr(device, "coords", None) for device in devices]
    if any(c is None for c in coordinates):
        return None
    return [tuple(c) for c in coordinates]


def _versions(platform: str) -> dict[str, str]:
    names = ["segjax", "jax", "jaxlib", "flax"]
    if platform == "tpu":
        names.append("libtpu")
    return {name: importlib.metadata.version(name) for name in names}


def plan_values(plan: Plan) -> dict[str, Any]:
    """The plan as JSON values, derived figures included."""
    values = dataclasses.asdict(plan)
    values["label"] = LABEL
    values["efficiency"] = plan.efficiency
    values["efficiency_without_overlap"] = plan.efficiency_without_overlap
    for name in ("training", "evaluation", "one_device"):
        part: Estimate | None = getattr(plan, name)
        if part is None:
            continue
        values[name]["images_per_second"] = part.images_per_second
        if part.roofline is not None:
            values[name]["roofline"] |= {
                "seconds": part.roofline.seconds,
                "seconds_without_overlap": part.roofline.seconds_without_overlap,
                "bound": part.roofline.bound,
            }
    return values


LABEL = "compiler estimates, not measurements"
"""What every output of a plan says."""
