"""The report as one HTML page that needs nothing beside it: no network, no files."""

import json
import math
import string
from html import escape
from pathlib import Path

from segjax.errors import InputError
from segjax.report import units
from segjax.report.comparison import METRICS, Comparison, Strategy
from segjax.report.page_assets import asset, digest
from segjax.report.page_markup import paragraph, swatch
from segjax.report.page_tables import (
    border_lists,
    class_table,
    main_table,
    p_value_table,
    published_table,
    settings_table,
)
from segjax.report.page_viewer import viewer_data
from segjax.report.plots import Point, scatter
from segjax.report.statistics import Summary, summarize
from segjax.whole_file import whole_file

_PLOTTED_QUALITIES = ("miou", "boundary_f1")
_PLOTTED_COSTS = {
    "inference_seconds": ("inference, ms", 1e3),
    "flops": ("GFLOP per image", 1e-9),
    "border_bytes": ("encoder → decoder, MB", 1e-6),
    "train_memory": ("peak memory of training, MB", 1e-6),
}


def write_page(path: Path, comparison: Comparison) -> None:
    """Writes the report to `path`, whole or not at all; its folder is made.

    The page holds the tables, plots and the viewer of `comparison`, and forbids the
    browser (by its content security policy) to load anything from anywhere.

    Raises:
      InputError: the comparison has no strategy, or parts that do not fit each other
        (`viewer_data`, `summarize`), or `path` cannot be written.
    """
    page = render_page(comparison)
    with whole_file(path) as scratch:
        scratch.write_text(page, encoding="utf-8")


def render_page(comparison: Comparison) -> str:
    """The page of `write_page` as text."""
    if not comparison.strategies:
        raise InputError("comparison has no strategies; expected at least one")
    sections = [
        ("results", "Results", main_table(comparison) + p_value_table(comparison)),
        ("plots", "Quality against cost", _plots(comparison)),
        ("viewer", "Predictions", _viewer(comparison)),
        ("classes", "IoU per class", class_table(comparison)),
        ("border", "What crosses from encoder to decoder", border_lists(comparison)),
        ("paper", "Beside the paper", published_table(comparison)),
        ("settings", "Settings", settings_table(comparison.settings, label="Settings")),
        (
            "environment",
            "Environment",
            settings_table(comparison.environment, label="Environment"),
        ),
    ]
    sections = [section for section in sections if section[2]]
    names = ["tables.js"]
    names += ["classmaps.js", "panzoom.js", "viewer.js"] if comparison.image_ids else []
    scripts = [asset(name) for name in names]
    return string.Template(asset("report.html")).substitute(
        title=escape(comparison.title),
        split=escape(comparison.split),
        command=escape(comparison.command),
        notes="".join(f"<li>{escape(note)}</li>" for note in comparison.notes),
        links="".join(f'<a href="#{key}">{name}</a>' for key, name, _ in sections),
        sections="".join(
            f'<section id="{key}"><h2>{name}</h2>{body}</section>'
            for key, name, body in sections
        ),
        style=asset("report.css"),
        policy=" ".join(digest(script) for script in scripts),
        scripts="".join(f"<script>{script}</script>" for script in scripts),
    )


def _plots(comparison: Comparison) -> str:
    summaries = summarize(comparison)
    plots = []
    for metric in _PLOTTED_QUALITIES:
        for cost, (title, scale) in _PLOTTED_COSTS.items():
            points = [
                point
                for number, (strategy, summary) in enumerate(
                    zip(comparison.strategies, summaries, strict=True), 1
                )
                if (point := _point(number, strategy, summary, metric, cost, scale))
            ]
            if points:
                plots.append(
                    scatter(
                        points,
                        title=f"{METRICS[metric]} against {title}",
                        x_title=title,
                        y_title=METRICS[metric],
                    )
                )
    if not plots:
        return "<p>Costs were not measured.</p>"
    names = "".join(
        f'<li><span class="number">{i}</span> {escape(strategy.name)}</li>'
        for i, strategy in enumerate(comparison.strategies, 1)
    )
    left_out = [
        strategy.name
        for strategy in comparison.strategies
        if strategy.costs is None or strategy.costs.border is None
    ]
    note = "Further up is better, further left is cheaper; the dashed line joins what "
    note += "no other strategy beats on both. "
    if any(value for s in summaries for value in s.spread.values()):
        note += "Vertical bars: one standard deviation over the seeds to either side. "
    note += "Horizontal bars: interquartile range over interleaved rounds, relative to "
    note += "the first row."
    if left_out:
        note += f" Not in every plot, for want of a measurement: {', '.join(left_out)}."
    return (
        f'<ol class="names">{names}</ol><div class="plots">{"".join(plots)}</div>'
        + paragraph([note])
    )


def _point(
    number: int,
    strategy: Strategy,
    summary: Summary,
    metric: str,
    cost: str,
    scale: float,
) -> Point | None:
    """The strategy's point, or None where one of its coordinates was not measured."""
    value = None if strategy.costs is None else getattr(strategy.costs, cost)
    quality, spread = summary.mean[metric], summary.spread[metric]
    if value is None or math.isnan(value) or math.isnan(quality):
        return None
    x_range = None
    if cost == "inference_seconds" and strategy.costs.inference_ratio > 0:
        relative = [
            edge / strategy.costs.inference_ratio
            for edge in strategy.costs.inference_spread
        ]
        x_range = (value * scale * relative[0], value * scale * relative[1])
    shown = units.share(quality) + (f" ± {units.share(spread)}" if spread else "")
    title, _ = _PLOTTED_COSTS[cost]
    return Point(
        number=number,
        text=f"{number} {strategy.name}: {METRICS[metric]} {shown}; "
        f"{title} {value * scale:,.4g}",
        x=value * scale,
        y=quality,
        x_range=x_range,
        y_spread=spread,
    )


def _viewer(comparison: Comparison) -> str:
    if not comparison.image_ids:
        return ""
    # "<" would let a name end the script element that the data stand in.
    data = json.dumps(viewer_data(comparison), allow_nan=False).replace("<", "\\u003c")
    classes = [
        f"<li>{swatch(color)}{escape(name)}</li>"
        for name, color in zip(
            comparison.table.names, comparison.table.colors, strict=True
        )
    ]
    seed = comparison.strategies[0].seeds[0]
    return string.Template(asset("viewer.html")).substitute(
        data=data, classes="".join(classes), seed=escape(str(seed))
    )
