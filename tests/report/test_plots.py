"""Plots put points where their numbers say."""

import re
from xml.etree import ElementTree

import pytest

from segjax.report.plots import Point, linear_ticks, log_ticks, pareto_front, scatter


def draw(points, **options):
    titles = {"title": "a & b", "x_title": "ms", "y_title": "mIoU"}
    return ElementTree.fromstring(scatter(points, **{**titles, **options}))


def groups(svg):
    return {g.find("title").text: g for g in svg.iter("g")}


def place(group):
    circle = group.find("circle")
    return float(circle.get("cx")), float(circle.get("cy"))


def ticks(svg, *, anchor):
    """Value -> coordinate of the tick labels of one axis."""
    axis = "x" if anchor == "middle" else "y"
    return {
        float(text.text.replace(",", "")): float(text.get(axis))
        for text in svg.iter("text")
        if text.get("class") == f"tick {anchor}"
    }


def test_points_lie_where_the_axes_say():
    svg = draw([Point(1, "one", 2.0, 0.5), Point(2, "two", 4.0, 0.3)])
    (x1, y1), (x2, y2) = (place(groups(svg)[name]) for name in ("one", "two"))
    across = ticks(svg, anchor="middle")
    assert across[2.0] == pytest.approx(x1, abs=0.2)
    assert across[4.0] == pytest.approx(x2, abs=0.2)
    up = ticks(svg, anchor="end")  # labels are set 4 lower, to be centred
    assert up[0.5] == pytest.approx(y1 + 4, abs=0.2)
    assert up[0.3] == pytest.approx(y2 + 4, abs=0.2)


def test_costs_of_other_magnitude_have_a_logarithmic_axis():
    svg = draw([Point(i, str(i), 10.0**i, 0.1 * i) for i in range(3)])
    x = [place(groups(svg)[str(i)])[0] for i in range(3)]
    assert x[1] - x[0] == pytest.approx(x[2] - x[1], abs=0.2)
    assert "ms, log scale" in [text.text for text in svg.iter("text")]
    # A cost of nothing has no logarithm.
    svg = draw([Point(1, "1", 0.0, 0.1), Point(2, "2", 100.0, 0.2)])
    assert "ms" in [text.text for text in svg.iter("text")]


def test_error_bars():
    svg = draw([Point(1, "one", 2.0, 0.5, (1.0, 4.0), 0.2), Point(2, "two", 3.0, 0.4)])
    vertical, horizontal = [
        line for line in groups(svg)["one"].iter("line") if line.get("class") == "bar"
    ]
    across, up = ticks(svg, anchor="middle"), ticks(svg, anchor="end")
    assert float(horizontal.get("x1")) == pytest.approx(across[1.0], abs=0.2)
    assert float(horizontal.get("x2")) == pytest.approx(across[4.0], abs=0.2)
    assert float(vertical.get("y1")) + 4 == pytest.approx(up[0.3], abs=0.2)
    assert float(vertical.get("y2")) + 4 == pytest.approx(up[0.7], abs=0.2)
    assert not [x for x in groups(svg)["two"].iter("line") if x.get("class") == "bar"]


def test_one_point_and_equal_points_have_room():
    for points in ([Point(1, "1", 0.0, 0.0)], [Point(i, str(i), 5, 1) for i in (1, 2)]):
        svg = draw(points)
        x, y = place(groups(svg)["1"])
        assert 46 < x < 326
        assert 12 < y < 210


def test_numbers_do_not_lie_on_each_other_nor_on_points():
    points = [Point(i, str(i), 5.0 + (i % 3) / 50, 0.5) for i in range(12)]
    points.append(Point(12, "far", 30.0, 0.9))
    svg = draw(points)
    numbers = [
        (float(t.get("x")), float(t.get("y")))
        for t in svg.iter("text")
        if t.get("class") == "number middle"
    ]
    assert len(numbers) == 13
    for i, (x, y) in enumerate(numbers):
        for u, v in numbers[:i]:
            assert abs(x - u) >= 13.8 or abs(y - v) >= 12.8
        for u, v in map(place, groups(svg).values()):
            assert abs(x - u) >= 10.8 or abs(y - 4 - v) >= 9.8


def test_names_are_text():
    text = scatter(
        [Point(1, "<script>", 1.0, 1.0)], title='"<', x_title="<x>", y_title="&y"
    )
    assert not re.search(r"<(script|x)>", text)
    assert ElementTree.fromstring(text).get("aria-label") == '"<'


def test_pareto_front_by_hand():
    cheap, good, beaten, twin, best = (
        Point(1, "", 1.0, 0.2),
        Point(2, "", 2.0, 0.5),
        Point(3, "", 3.0, 0.4),
        Point(4, "", 2.0, 0.3),
        Point(5, "", 4.0, 0.6),
    )
    front = pareto_front([best, beaten, twin, good, cheap])
    assert front == [cheap, good, best]


def test_ticks_by_hand():
    assert linear_ticks(0.29, 0.52) == pytest.approx([0.3, 0.35, 0.4, 0.45, 0.5])
    assert linear_ticks(-3.0, 107.0) == pytest.approx([0, 50, 100])
    assert log_ticks(0.8, 25.0) == pytest.approx([1, 2, 5, 10, 20])
    assert log_ticks(0.5, 3e4) == pytest.approx([1, 10, 100, 1000, 10000])
