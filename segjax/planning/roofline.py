"""The shortest time that a step can take at stated peak rates."""

import dataclasses
from collections.abc import Sequence

from segjax.planning.chips import Chip
from segjax.planning.hlo import Collective


@dataclasses.dataclass(frozen=True)
class Rates:
    """Peak rates of one device: of a chip, or of its share of one.

    Attributes:
      flops: operations per second in matrix products.
      memory_bandwidth: bytes per second.
      memory_bytes: capacity.
      links: links of the device with the fewest; None where none are stated.
      link_bandwidth: bytes per second of one link in one direction.
    """

    flops: float
    memory_bandwidth: float
    memory_bytes: int
    links: int | None
    link_bandwidth: float | None


@dataclasses.dataclass(frozen=True)
class Roofline:
    """Least seconds of a step, were each unit alone to set the pace.

    Attributes:
      compute: of the convolutions and matrix products.
      memory: of all bytes read and written.
      communication: of all bytes sent; None where no rate is stated.
    """

    compute: float
    memory: float
    communication: float | None

    @property
    def seconds(self) -> float:
        """If everything overlaps: no step is faster."""
        return max(self.compute, self.memory, self.communication or 0.0)

    @property
    def seconds_without_overlap(self) -> float:
        """If devices stand still while they communicate."""
        return max(self.compute, self.memory) + (self.communication or 0.0)

    @property
    def bound(self) -> str:
        """What takes longest: "compute", "memory" or "communication"."""
        times = {
            "compute": self.compute,
            "memory": self.memory,
            "communication": self.communication or 0.0,
        }
        return max(times, key=times.__getitem__)


def device_rates(
    chip: Chip, dtype: str, coordinates: Sequence[tuple[int, ...]] | None
) -> Rates:
    """Rates of one device in a slice.

    Args:
      chip: what the slice is made of.
      dtype: "bfloat16" or "float32", what the networks compute in.
      coordinates: of every device's chip; devices on the same chip share it. None
        where there are none: then a device is a chip with all of its links.
    """
    sharing = 1
    links = chip.links
    if coordinates is not None:
        chips = set(coordinates)
        sharing = len(coordinates) // len(chips)
        if links is not None:
            sides = [max(axis) - min(axis) + 1 for axis in zip(*chips, strict=True)]
            links = sum(_links(side, chip.torus_multiple) for side in sides)
    flops = chip.bfloat16_flops if dtype == "bfloat16" else chip.float32_flops
    return Rates(
        flops=flops / sharing,
        memory_bandwidth=chip.memory_bandwidth / sharing,
        memory_bytes=chip.memory_bytes // sharing,
        links=links,
        link_bandwidth=chip.link_bandwidth and chip.link_bandwidth / sharing,
    )


def roofline(
    rates: Rates,
    *,
    operations: float,
    bytes_moved: float,
    collectives: Sequence[Collective],
) -> Roofline:
    """Times of one device's share of a step.

    Latency, contention and what is between two chips that are no neighbours are left
    out. A permutation uses one link, everything else all of them.

    Args:
      rates: of the device.
      operations: in its convolutions and matrix products.
      bytes_moved: to and from its memory.
      collectives: that it takes part in.
    """
    return Roofline(
        compute=operations / rates.flops,
        memory=bytes_moved / rates.memory_bandwidth,
        communication=_communication(rates, collectives),
    )


def _links(side: int, torus_multiple: int | None) -> int:
    """Links along one dimension, of the chips that have the fewest of them."""
    if side == 1:
        return 0
    return 2 if torus_multiple and side % torus_multiple == 0 else 1


def _communication(rates: Rates, collectives: Sequence[Collective]) -> float | None:
    if not collectives:
        return 0.0
    if not rates.links or not rates.link_bandwidth:
        return None
    return sum(
        c.sent_bytes
        / rates.link_bandwidth
        / (1 if c.kind == "collective-permute" else rates.links)
        for c in collectives
    )
