"""Estimate: what one compiled step needs of each device."""

import dataclasses
import re
from collections.abc import Sequence

import jax

from segjax.costs import peak_memory
from segjax.planning.hlo import (
    Collective,
    KindTotal,
    find_collectives,
    memory_traffic,
    totals,
)
from segjax.planning.programs import Program
from segjax.planning.roofline import Rates, Roofline, roofline

_OUT_OF_MEMORY = (
    re.compile(r"\(([\d.]+)([KMGT]?)\) exceeds available \w+ \(([\d.]+)([KMGT]?)\)"),
    re.compile(r"Used ([\d.]+)([KMGT]?) of ([\d.]+)([KMGT]?) hbm"),
)
# Of XLA, from -1 (compile quickly) to 1 (run quickly); 0 is what a run gets.
_QUICK = {"exec_time_optimization_effort": -1.0}
_PREFIXES = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes on one device.

    Attributes:
      arguments: state and batch.
      outputs: the next state and sums.
      temporaries: activations and whatever else lives during the step.
      aliased: outputs that take the place of arguments.
      code: the program itself.
      peak: most at any time; at least arguments, outputs, temporaries and code, the
        aliased counted once.
    """

    arguments: int
    outputs: int
    temporaries: int
    aliased: int
    code: int
    peak: int


@dataclasses.dataclass(frozen=True)
class OutOfMemory:
    """Why a program has no `Memory`: the compiler found no place for it.

    Attributes:
      needed: bytes on one device, as far as the compiler says.
      available: bytes, likewise.
    """

    needed: int | None
    available: int | None


@dataclasses.dataclass(frozen=True)
class Estimate:
    """One step on one device; everything but the batch is per device and step.

    Attributes:
      batch_size: images of the step, over all devices.
      fits: into the device's memory; None where its size is not known.
      memory: by kind; None if the program does not fit at all.
      out_of_memory: None if it does.
      operations: in convolutions and matrix products, as `count_flops` counts them in
        the traced step.
      compiler_operations: all arithmetic, as the compiler counts.
      bytes_moved: to and from the device's large memory. On TPU as `memory_traffic`
        counts; elsewhere the compiler's count.
      compiler_bytes: as the compiler counts: what each of its fused operations reads
        and writes, whichever memory it is in.
      collectives: by kind.
      roofline: None where the device's peak rates are not known.
    """

    batch_size: int
    fits: bool | None
    memory: Memory | None
    out_of_memory: OutOfMemory | None
    operations: float
    compiler_operations: float | None
    bytes_moved: float | None
    compiler_bytes: float | None
    collectives: tuple[KindTotal, ...]
    roofline: Roofline | None

    @property
    def images_per_second(self) -> float | None:
        """On all devices at the roofline."""
        return self.roofline and self.batch_size / self.roofline.seconds


def estimate(
    program: Program,
    *,
    devices: Sequence[jax.Device],
    rates: Rates | None,
    quick: bool = False,
) -> Estimate:
    """Compiles one step for `devices`, that of its mesh.

    Args:
      program: the step.
      devices: of its mesh.
      rates: of one of them; None gives no times.
      quick: whether to compile with the least effort, which takes a fraction of the
        time on TPU. Operations and collectives are the same, memory within two percent,
        bytes moved a tenth higher (SegNet-Basic and U-Net on v5e:2x2).
    """
    operations = program.operations() / len(devices)
    try:
        compiled = program.lower().compile(_QUICK if quick else None)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return Estimate(
            batch_size=program.batch_size,
            fits=False,
            memory=None,
            out_of_memory=_out_of_memory(str(error)),
            operations=operations,
            compiler_operations=None,
            bytes_moved=None,
            compiler_bytes=None,
            collectives=(),
            roofline=None,
        )
    memory = _memory(compiled)
    limit = memory_limit(devices[0], rates)
    counted = compiled.cost_analysis() or {}
    moved = counted_bytes = counted.get("bytes accessed")
    collectives: tuple[Collective, ...] = ()
    if devices[0].platform == "tpu" or len(devices) > 1:
        text = compiled.as_text()
        collectives = find_collectives(text, num_devices=len(devices))
        if devices[0].platform == "tpu":
            moved = memory_traffic(text)
    return Estimate(
        batch_size=program.batch_size,
        fits=None if limit is None else memory.peak <= limit,
        memory=memory,
        out_of_memory=None,
        operations=operations,
        compiler_operations=counted.get("flops"),
        bytes_moved=moved,
        compiler_bytes=counted_bytes,
        collectives=totals(collectives),
        roofline=None
        if rates is None or moved is None
        else roofline(
            rates, operations=operations, bytes_moved=moved, collectives=collectives
        ),
    )


def _memory(compiled: jax.stages.Compiled) -> Memory:
    stats = compiled.memory_analysis()
    code = stats.generated_code_size_in_bytes
    return Memory(
        arguments=stats.argument_size_in_bytes,
        outputs=stats.output_size_in_bytes,
        temporaries=stats.temp_size_in_bytes,
        aliased=stats.alias_size_in_bytes,
        code=code,
        # The compiler's own peak leaves temporaries out on CPU.
        peak=max(peak_memory(compiled) + code, stats.peak_memory_in_bytes),
    )


def _out_of_memory(message: str) -> OutOfMemory:
    for pattern in _OUT_OF_MEMORY:
        if found := pattern.search(message):
            needed, unit, available, available_unit = found.groups()
            return OutOfMemory(
                needed=round(float(needed) * _PREFIXES[unit]),
                available=round(float(available) * _PREFIXES[available_unit]),
            )
    return OutOfMemory(None, None)


def memory_limit(device: jax.Device, rates: Rates | None) -> int | None:
    """Bytes of a device's memory: what it says itself, or what is stated.

    None on CPU, where programs share the machine's memory with everything else.
    """
    if device.platform == "cpu":
        return None
    if device.platform == "gpu":
        limit = (device.memory_stats() or {}).get("bytes_limit")
        if limit is not None:
            return limit
    return rates and rates.memory_bytes
