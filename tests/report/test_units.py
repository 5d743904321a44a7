"""Numbers print as people read them."""

import math

import pytest

from segjax.report import units


@pytest.mark.parametrize(
    ("n", "text"),
    [
        (0, "0"),
        (950, "950"),
        (99_999, "99,999"),
        (611_520, "0.612 M"),
        (999_999, "1.00 M"),
        (1_415_040, "1.42 M"),
        (251_805_653, "252 M"),
        (None, "-"),
    ],
)
def test_count(n, text):
    assert units.count(n) == text


def test_megabytes_of_the_switches_and_maps_of_a_360x480_image():
    pixels = 64 * 180 * 240
    assert units.megabytes(pixels // 4) == "0.69 MB"
    assert units.megabytes(pixels * 4) == "11.06 MB"
    assert units.megabytes(pixels * 8, unit=False) == "22.12"


@pytest.mark.parametrize(
    ("n", "text"),
    [
        (0, "0"),
        (24_576, "0.025"),
        (99_999, "0.10"),
        (99.996e6, "100"),
        (1.2e9, "1,200"),
        (None, "-"),
    ],
)
def test_megabytes(n, text):
    assert units.megabytes(n, unit=False) == text


def test_operations_and_times_have_three_digits():
    assert units.gigaflops(12_345_678_900) == "12.3 GFLOP"
    assert units.gigaflops(9.999e9) == "10.0 GFLOP"
    assert units.gigaflops(34_500_000, unit=False) == "0.0345"
    assert units.milliseconds(0.0526) == "52.6 ms"
    assert units.milliseconds(1.2346, unit=False) == "1,235"


def test_shares_differences_ratios_and_probabilities():
    assert units.share(0.4771) == "0.477"
    assert units.difference(0.0231) == "+0.023"
    assert units.difference(-0.0231) == "-0.023"
    assert units.difference(-0.0004) == "0.000"
    assert units.ratio(1.8437) == "1.84x"
    assert units.probability(0.0123) == "0.012"
    assert units.probability(0.0009) == "<0.001"


@pytest.mark.parametrize(
    "write",
    [
        units.count,
        units.megabytes,
        units.gigaflops,
        units.milliseconds,
        units.share,
        units.difference,
        units.ratio,
        units.probability,
    ],
)
def test_nothing_is_written_for_a_number_that_does_not_exist(write):
    assert write(None) == write(math.nan) == units.MISSING
