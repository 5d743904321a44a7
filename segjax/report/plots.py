"""Quality against cost, as SVG that follows the page's colours.

Drawn here and not by matplotlib so that text is text (it can be searched, is read
aloud, and keeps its size on a phone) and colours come from the page's style sheet,
which has a dark mode and one for print.
"""

import dataclasses
import math
from collections.abc import Sequence
from html import escape

WIDTH, HEIGHT = 340, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 14, 12, 40
_LOG_FROM = 6.0  # largest over smallest cost from which the axis is logarithmic


@dataclasses.dataclass(frozen=True)
class Point:
    """One strategy in one plot.

    Attributes:
      number: its row, 1 = the row that the others are compared with; written beside
        the dot.
      text: for people who point at it.
      x: cost; y: quality.
      x_range: (low, high) of the horizontal error bar, or None.
      y_spread: half the length of the vertical error bar, or None.
    """

    number: int
    text: str
    x: float
    y: float
    x_range: tuple[float, float] | None = None
    y_spread: float | None = None


def scatter(points: Sequence[Point], *, title: str, x_title: str, y_title: str) -> str:
    """Draws one plot, higher and further left is better.

    A dashed line joins the points to which no other is preferable on both axes. The
    horizontal axis is logarithmic where costs differ more than six-fold.

    Args:
      points: at least one; all x and y are finite.
      title: what a screen reader says.
      x_title: of the cost, with its unit.
      y_title: of the quality.

    Returns:
      An `<svg>` element of `WIDTH` x `HEIGHT`, with classes for the style sheet.
    """
    x_low = min(p.x_range[0] if p.x_range else p.x for p in points)
    x_high = max(p.x_range[1] if p.x_range else p.x for p in points)
    y_low = min(p.y - (p.y_spread or 0.0) for p in points)
    y_high = max(p.y + (p.y_spread or 0.0) for p in points)
    log = x_low > 0 and x_high / x_low > _LOG_FROM
    if log:
        x_low, x_high = _widen(math.log10(x_low), math.log10(x_high))
        x_ticks = log_ticks(10**x_low, 10**x_high)
    else:
        x_low, x_high = _widen(x_low, x_high)
        x_ticks = linear_ticks(x_low, x_high)
    y_low, y_high = _widen(y_low, y_high)

    def across(x: float) -> float:
        share = ((math.log10(x) if log else x) - x_low) / (x_high - x_low)
        return _LEFT + share * (WIDTH - _LEFT - _RIGHT)

    def down(y: float) -> float:
        return _TOP + (y_high - y) / (y_high - y_low) * (HEIGHT - _TOP - _BOTTOM)

    bottom, right = HEIGHT - _BOTTOM, WIDTH - _RIGHT
    parts = []
    for value in linear_ticks(y_low, y_high):
        parts.append(_line("grid", _LEFT, down(value), right, down(value)))
        parts.append(_text("tick end", _LEFT - 6, down(value) + 4, f"{value:.4g}"))
    for value in x_ticks:
        parts.append(_line("grid", across(value), _TOP, across(value), bottom))
        parts.append(_text("tick middle", across(value), bottom + 15, f"{value:,.4g}"))
    parts.append(_line("axis", _LEFT, bottom, right, bottom))
    parts.append(_line("axis", _LEFT, _TOP, _LEFT, bottom))
    x_title = f"{x_title}, log scale" if log else x_title
    parts.append(_text("title middle", (_LEFT + right) / 2, HEIGHT - 6, x_title))
    parts.append(_text("title", _LEFT + 6, _TOP + 8, y_title))

    front = [(across(p.x), down(p.y)) for p in pareto_front(points)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in front)
    parts.append(f'<polyline class="front" points="{path}"/>')
    places = [(across(p.x), down(p.y)) for p in points]
    frame = (_LEFT + 2.0, _TOP + 12.0, float(right), bottom - 2.0)
    labels = _label_places(places, frame)
    marks = list(zip(points, places, labels, strict=True))
    for point, (x, y), label in reversed(marks):  # the first row lies on top
        mark = []
        if math.dist((x, y), label) > 16:
            mark.append(_line("leader", x, y, *label))
        if point.y_spread:
            ends = down(point.y - point.y_spread), down(point.y + point.y_spread)
            mark.append(_line("bar", x, ends[0], x, ends[1]))
        if point.x_range:
            ends = across(point.x_range[0]), across(point.x_range[1])
            mark.append(_line("bar", ends[0], y, ends[1], y))
        mark.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5"/>')
        mark.append(_text("number middle", label[0], label[1] + 4, str(point.number)))
        kind = "point first" if point.number == 1 else "point"
        name = f"<title>{escape(point.text)}</title>"
        parts.append(f'<g class="{kind}">{name}{"".join(mark)}</g>')
    return (
        f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(title)}">{"".join(parts)}</svg>'
    )


def pareto_front(points: Sequence[Point]) -> list[Point]:
    """Points such that none is cheaper and at least as good, by rising cost."""
    front: list[Point] = []
    for point in sorted(points, key=lambda p: (p.x, -p.y)):
        if not front or point.y > front[-1].y:
            front.append(point)
    return front


def linear_ticks(low: float, high: float, *, count: int = 5) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten in [low, high], about `count`."""
    power = 10.0 ** math.floor(math.log10((high - low) / count))
    step = next(m * power for m in (1, 2, 5, 10) if m * power * count >= high - low)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [i * step for i in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times the powers of ten in [low, high]; the powers alone if many."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1, 2, 5), (1,)):
        ticks = [d * 10.0**power for power in powers for d in digits]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) <= 6:
            break
    return ticks


def _widen(low: float, high: float) -> tuple[float, float]:
    """Adds a margin on both sides, also where there is nothing between the two."""
    margin = 0.08 * (high - low) or 0.08 * abs(high) or 1.0
    return low - margin, high + margin


def _label_places(
    points: Sequence[tuple[float, float]], frame: tuple[float, float, float, float]
) -> list[tuple[float, float]]:
    """Puts each number near its dot where it covers no dot and no other number."""
    left, top, right, bottom = frame
    places: list[tuple[float, float]] = []
    for x, y in points:
        best, best_cost = (x, y), math.inf
        for radius in (13, 21, 30, 40, 52, 66, 80, 96):
            for turn in range(16):
                angle = math.pi * (turn / 8 - 1 / 4)
                place = x + radius * math.cos(angle), y + radius * math.sin(angle)
                cost = radius / 100
                cost += sum(
                    abs(place[0] - a) < 14 and abs(place[1] - b) < 13 for a, b in places
                )
                cost += sum(
                    abs(place[0] - a) < 11 and abs(place[1] - b) < 10 for a, b in points
                )
                inside = left + 6 <= place[0] <= right - 6
                inside = inside and top + 6 <= place[1] <= bottom - 6
                cost += 0 if inside else 5
                if cost < best_cost:
                    best, best_cost = place, cost
        places.append(best)
    return places


def _line(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line class="{kind}" {ends}/>'


def _text(kind: str, x: float, y: float, text: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'
