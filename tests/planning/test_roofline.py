"""Times by hand: rates are round numbers, so every quotient is exact."""

import math

import pytest

from segjax.planning.chips import CHIPS, Chip
from segjax.planning.hlo import Collective
from segjax.planning.roofline import Rates, Roofline, device_rates, roofline

RATES = Rates(
    flops=100.0, memory_bandwidth=10.0, memory_bytes=64, links=4, link_bandwidth=2.0
)
CHIP = Chip(
    name="round",
    bfloat16_flops=100.0,
    float32_flops=50.0,
    memory_bytes=64,
    memory_bandwidth=10.0,
    links=4,
    link_bandwidth=2.0,
    torus_multiple=16,
    source="here",
)


def grid(*sides):
    return [
        tuple(i // math.prod(sides[:axis]) % side for axis, side in enumerate(sides))
        for i in range(math.prod(sides))
    ]


def test_each_unit_at_its_rate():
    times = roofline(
        RATES,
        operations=300.0,
        bytes_moved=50.0,
        collectives=(
            # 2 * 3/4 * 16 bytes over four links, 6 bytes over one.
            Collective("all-reduce", 16, group_size=4, times=1),
            Collective("collective-permute", 3, group_size=1, times=2),
        ),
    )
    assert times == Roofline(compute=3.0, memory=5.0, communication=3.0 + 3.0)
    assert times.seconds == 6.0
    assert times.seconds_without_overlap == 11.0
    assert times.bound == "communication"


def test_nothing_to_send_takes_no_time_and_no_rate_gives_none():
    quiet = roofline(RATES, operations=1.0, bytes_moved=50.0, collectives=())
    assert quiet.communication == 0.0
    assert quiet.bound == "memory"
    unstated = Rates(100.0, 10.0, 64, links=None, link_bandwidth=None)
    sent = (Collective("all-reduce", 16, group_size=4, times=1),)
    times = roofline(unstated, operations=600.0, bytes_moved=50.0, collectives=sent)
    assert times.communication is None
    assert times.seconds == times.seconds_without_overlap == 6.0
    assert times.bound == "compute"


@pytest.mark.parametrize(
    ("sides", "links"),
    [((1, 1), 0), ((2, 1), 1), ((2, 2), 2), ((4, 4), 2), ((8, 16), 3), ((16, 16), 4)],
)
def test_links_of_the_chips_that_have_the_fewest(sides, links):
    assert device_rates(CHIP, "bfloat16", grid(*sides)).links == links


def test_devices_that_share_a_chip_share_its_rates():
    rates = device_rates(CHIP, "float32", [c for c in grid(2, 2) for _ in range(2)])
    assert rates == Rates(
        flops=25.0, memory_bandwidth=5.0, memory_bytes=32, links=2, link_bandwidth=1.0
    )


def test_a_device_without_coordinates_has_all_links():
    assert device_rates(CHIP, "bfloat16", None).links == 4


def test_one_way_rate_of_a_link_is_the_stated_total_over_directions_and_links():
    # v5e: 400 GB/s in both directions over 4 links; v5p: 1200 over 6.
    assert CHIPS["TPU v5 lite"].link_bandwidth == 50e9
    assert CHIPS["TPU v5"].link_bandwidth == 100e9
    # Stated as all-reduce bandwidth of a v5e pod: 51.2 TB/s, 256 chips at 200 GB/s.
    chip = CHIPS["TPU v5 lite"]
    assert 256 * chip.links * chip.link_bandwidth == 51.2e12
