"""Mean, spread and the paired test, against formulas worked by hand."""

import dataclasses
import itertools
import math

import numpy as np
import pytest

from segjax.data.labels import LabelTable
from segjax.errors import InputError
from segjax.report.comparison import METRICS, Comparison, Strategy
from segjax.report.statistics import (
    check_seeds,
    class_means,
    describe_test,
    holm,
    mark,
    summarize,
)

NAN = math.nan


def row(name, miou, *, seeds=None):
    """A strategy with these mIoUs; its other scores are 0.5."""
    miou = tuple(miou)
    return Strategy(
        name=name,
        description="",
        seeds=tuple(range(len(miou))) if seeds is None else seeds,
        scores={m: (0.5,) * len(miou) for m in METRICS} | {"miou": miou},
        class_iou=((0.5, 0.25),) * len(miou),
        costs=None,
        published=None,
        predictions=(),
    )


def comparison(*strategies):
    return Comparison(
        title="t",
        command="c",
        split="s",
        settings={},
        published_settings={},
        environment={},
        notes=(),
        table=LabelTable(("a", "b"), ((1, 0, 0), (0, 1, 0)), {0: 0, 1: 1}),
        baseline={},
        strategies=strategies,
        image_ids=(),
        images=(),
        labels=(),
    )


def p_two_degrees(t):
    """Two-sided p of Student's t with 2 degrees of freedom, in closed form."""
    return 1 - abs(t) / math.sqrt(t * t + 2)


def p_one_degree(t):
    """With 1 degree of freedom: the Cauchy distribution."""
    return 1 - 2 / math.pi * math.atan(abs(t))


def test_mean_spread_and_p_value_of_three_seeds():
    first, other = summarize(
        comparison(row("a", (0.5, 0.6, 0.7)), row("b", (0.6, 0.8, 1.0)))
    )
    assert first.strategy == "a"
    assert first.mean["miou"] == pytest.approx(0.6)
    assert first.spread["miou"] == pytest.approx(0.1)  # sqrt((0.01 + 0 + 0.01) / 2)
    assert first.p_value["miou"] is None
    assert first.difference["miou"] is None
    assert other.mean["miou"] == pytest.approx(0.8)
    assert other.spread["miou"] == pytest.approx(0.2)
    assert other.difference["miou"] == pytest.approx(0.2)
    # Differences 0.1, 0.2, 0.3: mean 0.2, deviation 0.1, t = 0.2 / (0.1 / sqrt(3)).
    expected = p_two_degrees(2 * math.sqrt(3))
    assert other.p_value["miou"] == pytest.approx(expected)
    assert other.mean.keys() == other.p_value.keys() == METRICS.keys()


def test_p_value_of_two_seeds():
    _, other = summarize(comparison(row("a", (0.5, 0.5)), row("b", (0.6, 0.7))))
    # Mean 0.15, deviation 0.1 / sqrt(2), t = 0.15 / (0.1 / sqrt(2) / sqrt(2)) = 3.
    assert other.p_value["miou"] == pytest.approx(p_one_degree(3))


def test_p_values_are_adjusted_over_the_rows_of_a_metric():
    # Differences (x, 2x, 3x) have t = 2 sqrt(3) for any x; (1, 2, 6) have mean 3,
    # deviation sqrt(7), t = 3 sqrt(3) / sqrt(7).
    rows = summarize(
        comparison(
            row("a", (0.1, 0.1, 0.1)),
            row("b", (0.2, 0.3, 0.7)),
            row("c", (0.2, 0.3, 0.4)),
        )
    )
    small = p_two_degrees(2 * math.sqrt(3))
    large = p_two_degrees(3 * math.sqrt(3 / 7))
    assert small < large
    assert rows[2].p_value["miou"] == pytest.approx(2 * small)
    assert rows[1].p_value["miou"] == pytest.approx(max(large, 2 * small))


def test_order_of_rows_and_of_seeds_does_not_matter():
    rng = np.random.default_rng(0)
    first = row("a", rng.random(3))
    others = [row(name, rng.random(3)) for name in "bcd"]
    expected = {s.strategy: s for s in summarize(comparison(first, *others))}
    for permuted in itertools.permutations(others):
        for summary in summarize(comparison(first, *permuted)):
            assert summary == expected[summary.strategy]
    b = others[0]
    turned = row("b", b.scores["miou"][::-1], seeds=b.seeds[::-1])
    assert summarize(comparison(first, turned, *others[1:]))[1] == expected["b"]


def test_pairing_is_by_seed():
    _, other = summarize(
        comparison(
            row("a", (0.1, 0.5, 0.9), seeds=(3, 1, 2)),
            row("b", (0.6, 0.93, 0.11), seeds=(1, 2, 3)),
        )
    )
    # Differences 0.01, 0.1, 0.03 and not 0.5, 0.43, -0.79.
    differences = np.array([0.01, 0.1, 0.03])
    t = differences.mean() / (differences.std(ddof=1) / math.sqrt(3))
    assert other.p_value["miou"] == pytest.approx(p_two_degrees(t))


def test_one_seed_has_no_spread_and_no_test():
    first, other = summarize(comparison(row("a", (0.5,)), row("b", (0.75,))))
    assert first.spread["miou"] is None
    assert other.spread["miou"] is None
    assert other.p_value["miou"] is None
    assert other.mean["miou"] == 0.75
    assert other.difference["miou"] == 0.25


def test_no_variance():
    a = (0.5, 0.6, 0.7)
    rows = summarize(
        comparison(
            row("a", a),
            row("same", a),
            row("shifted", (x + 0.1 for x in a)),  # to the last bit not constant
            row("b", (0.6, 0.8, 1.0)),
        )
    )
    assert rows[1].p_value["miou"] == 1
    assert rows[1].difference["miou"] == 0
    assert rows[2].p_value["miou"] is None
    assert rows[2].difference["miou"] == pytest.approx(0.1)
    # Two of the three rows were tested.
    expected = 2 * p_two_degrees(2 * math.sqrt(3))
    assert rows[3].p_value["miou"] == pytest.approx(expected)
    constant = summarize(comparison(row("a", (0.5, 0.5))))[0]
    assert constant.spread["miou"] == 0


def test_undefined_scores():
    rows = summarize(
        comparison(
            row("a", (0.5, 0.6, 0.7)),
            row("partly", (0.5, NAN, 0.7)),
            row("b", (0.6, 0.8, 1.0)),
        )
    )
    assert math.isnan(rows[1].mean["miou"])
    assert rows[1].spread["miou"] is None
    assert rows[1].difference["miou"] is None
    assert rows[1].p_value["miou"] is None
    assert rows[2].p_value["miou"] == pytest.approx(p_two_degrees(2 * math.sqrt(3)))
    undefined = summarize(comparison(row("a", (NAN, NAN)), row("b", (0.1, 0.2))))
    assert undefined[1].p_value["miou"] is None
    assert undefined[1].mean["miou"] == pytest.approx(0.15)


def test_nothing_to_summarize():
    assert summarize(comparison()) == ()


def test_holm():
    # Sorted: 0.005 * 4, 0.01 * 3, 0.03 * 2, then 0.04 * 1 is lifted to 0.06.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, None, 0.5]) == [1.0, None, 1.0]
    assert holm([0.04]) == [0.04]
    assert holm([]) == []


def test_marks():
    assert [mark(p) for p in (None, 0.05, 0.049, 0.01, 0.0099)] == (
        ["", "", "*", "*", "**"]
    )


def test_class_means():
    strategy = dataclasses.replace(
        row("a", (0.5, 0.5, 0.5)),
        class_iou=((0.1, 0.5), (0.2, NAN), (0.6, 0.5)),
    )
    means = class_means(strategy)
    assert means[0] == pytest.approx(0.3)
    assert math.isnan(means[1])


def test_description_states_the_degrees_of_freedom_and_the_power():
    rows = [row("a", (0.5, 0.6)), row("b", (0.6, 0.8))]
    text = describe_test(comparison(*rows))
    assert "1 degree of freedom" in text
    assert "1 comparison per score" in text
    # One comparison, two seeds: t = tan(pi / 2 * 0.95) = 12.7, over sqrt(2).
    assert f"exceed {math.tan(math.pi / 2 * 0.95) / math.sqrt(2):.1f} standard" in text
    rows = [row(name, (0.5, 0.6, 0.8), seeds=(4, 5, 6)) for name in "abcdefgh"]
    text = describe_test(comparison(*rows))
    assert "3 seeds (4, 5, 6)" in text
    assert "2 degrees of freedom" in text
    # p = 0.05 / 7 solved for t in the closed form above.
    q = 1 - 0.05 / 7
    t = math.sqrt(2 * q * q / (1 - q * q))
    assert f"exceed {t / math.sqrt(3):.1f} standard deviations" in text
    assert "One seed (0)" in describe_test(comparison(row("a", (0.5,))))


def test_other_seeds_are_an_error():
    with pytest.raises(InputError, match=r"b has seeds 0, 2 but a has seeds 0, 1:"):
        summarize(comparison(row("a", (0.5, 0.5)), row("b", (0.5, 0.5), seeds=(0, 2))))
    with pytest.raises(InputError, match=r"a has seeds 1, 1 but expected"):
        summarize(comparison(row("a", (0.5, 0.5), seeds=(1, 1))))
    with pytest.raises(InputError, match=r"2 values of miou for 1 seeds"):
        summarize(comparison(row("a", (0.5, 0.5), seeds=(0,))))


def test_check_seeds():
    check_seeds((0, 1), test=True)
    check_seeds((0,), test=False)
    with pytest.raises(InputError, match=r"--seeds 0 is one seed but .* at least two"):
        check_seeds((0,), test=True)
    with pytest.raises(InputError, match=r"--seeds 0 0 repeats 0"):
        check_seeds((0, 0), test=True)
    with pytest.raises(InputError, match=r"--seeds is empty"):
        check_seeds((), test=False)
