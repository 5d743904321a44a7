"""What stands in the tables of a report, as text without a form.

The terminal (`segjax.report.tables`) and the Markdown file
(`segjax.report.documents`) show the same grids.
"""

import dataclasses
from collections.abc import Iterable, Sequence

from segjax.report import units
from segjax.report.comparison import METRICS, Comparison, Strategy
from segjax.report.published import ARITHMETIC, ROUNDING, SOURCE, STORAGE_REMARK
from segjax.report.statistics import (
    Summary,
    class_means,
    describe_test,
    mark,
    summarize,
)

Cell = tuple[str, ...]
"""Lines of a cell: the value first, then what qualifies it (spread, range)."""


@dataclasses.dataclass(frozen=True)
class Grid:
    """A table as text.

    Attributes:
      key: what it holds, e.g. "quality".
      title: above it.
      columns: headings; the first column names the rows.
      rows: one cell per column.
      notes: sentences below it.
      prose: whether all cells are running text rather than figures.
      codes: which columns, by index, hold names as they are typed or printed by
        programs rather than words or figures.
    """

    key: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    prose: bool = False
    codes: tuple[int, ...] = (0,)


def comparison_grids(comparison: Comparison) -> tuple[Grid, ...]:
    """Every table of the report, in its order; those without content are left out.

    Keys: "quality", "differences" (with two seeds or more), "classes", "costs",
    "border" (what crosses from encoder to decoder), "times", "published" and
    "published costs" (the paper's numbers beside these), "settings" (where its
    protocol differs).

    Raises:
      InputError: the rows cannot be compared (`segjax.report.statistics.summarize`).
    """
    summaries = summarize(comparison)
    grids = (
        quality_grid(comparison, summaries),
        difference_grid(summaries),
        class_grid(comparison),
        cost_grid(comparison.strategies),
        border_grid(comparison.strategies),
        time_grid(comparison.strategies),
        published_grid(comparison, summaries),
        published_cost_grid(comparison.strategies),
        settings_grid(comparison),
    )
    return tuple(grid for grid in grids if grid.rows)


def quality_grid(comparison: Comparison, summaries: Sequence[Summary]) -> Grid:
    """Scores as shares in 0..1 with spread and mark of significance."""

    def cell(summary: Summary, metric: str) -> Cell:
        value = units.share(summary.mean[metric]) + mark(summary.p_value[metric])
        spread = summary.spread[metric]
        return (value,) if spread is None else (value, f"± {units.share(spread)}")

    rows = [
        ((s.strategy,), *(cell(s, metric) for metric in METRICS)) for s in summaries
    ]
    if comparison.baseline:
        scores = [units.share(comparison.baseline.get(metric)) for metric in METRICS]
        rows.append((("majority class",), *((score,) for score in scores)))
    return Grid(
        key="quality",
        title=f"{comparison.title}: {comparison.split}",
        columns=("strategy", *METRICS.values()),
        rows=tuple(rows),
        notes=(describe_test(comparison),),
    )


def difference_grid(summaries: Sequence[Summary]) -> Grid:
    """Mean paired differences to the first row, with adjusted p values."""

    def cell(summary: Summary, metric: str) -> Cell:
        text = units.difference(summary.difference[metric])
        p_value = summary.p_value[metric]
        return (text,) if p_value is None else (text, _p(p_value))

    tested = any(spread is not None for s in summaries for spread in s.spread.values())
    return Grid(
        key="differences",
        title=f"Difference to {summaries[0].strategy}" if summaries else "",
        columns=("strategy", *METRICS.values()),
        rows=tuple(
            ((s.strategy,), *(cell(s, metric) for metric in METRICS))
            for s in summaries[1:]
            if tested
        ),
        notes=(
            "Mean over the seeds of the paired difference, p after Holm; without p "
            "where every seed shows the same difference.",
        ),
    )


def class_grid(comparison: Comparison) -> Grid:
    """IoU of every class, mean over the seeds; one row per strategy."""
    return Grid(
        key="classes",
        title="IoU by class",
        columns=("strategy", *comparison.table.names),
        rows=tuple(
            ((s.name,), *((units.share(iou),) for iou in class_means(s)))
            for s in comparison.strategies
        ),
        notes=(
            "Mean over the seeds; - where a class occurs neither in labels nor in "
            "predictions.",
        ),
    )


def cost_grid(strategies: Sequence[Strategy]) -> Grid:
    """Parameters, operations and bytes."""
    return Grid(
        key="costs",
        title="What it costs",
        columns=(
            "strategy",
            "params",
            "GFLOP",
            "encoder to decoder, MB",
            "training peak, MB",
            "inference peak, MB",
        ),
        rows=tuple(
            (
                (s.name,),
                (units.count(s.costs.parameters),),
                (units.gigaflops(s.costs.flops, unit=False),),
                (units.megabytes(s.costs.border_bytes, unit=False),),
                (units.megabytes(s.costs.train_memory, unit=False),),
                (units.megabytes(s.costs.inference_memory, unit=False),),
            )
            for s in strategies
            if s.costs is not None
        ),
        notes=(
            "GFLOP: operations of the inference of one image, a multiplication and an "
            "addition are two. Encoder to decoder: what the decoder reads, for one "
            "image. Peaks of memory are those of the compiled programs, of a training "
            "step and of the inference of one image.",
        ),
    )


def border_grid(strategies: Sequence[Strategy]) -> Grid:
    """Every array that crosses from encoder to decoder, for one image."""
    rows = [
        ((s.name,), (t.name,), (t.type,), (units.megabytes(t.num_bytes, unit=False),))
        for s in strategies
        if s.costs is not None and s.costs.border is not None
        for t in s.costs.border
    ]
    return Grid(
        key="border",
        title="What crosses from encoder to decoder",
        columns=("strategy", "array", "type", "MB"),
        rows=tuple(rows),
        notes=("For one image; name/stride.",),
        codes=(0, 1, 2),
    )


def time_grid(strategies: Sequence[Strategy]) -> Grid:
    """Medians of interleaved runs, and their ratio to the first network."""

    def cells(seconds: float, ratio: float, spread: tuple[float, float]) -> list[Cell]:
        low, high = spread
        return [
            (units.milliseconds(seconds, unit=False),),
            (units.ratio(ratio), f"({low:.2f}-{high:.2f})"),
        ]

    return Grid(
        key="times",
        title="Time",
        columns=(
            "strategy",
            "training step, ms",
            "ratio to first",
            "inference of one image, ms",
            "ratio to first",
        ),
        rows=tuple(
            (
                (s.name,),
                *cells(
                    s.costs.train_seconds, s.costs.train_ratio, s.costs.train_spread
                ),
                *cells(
                    s.costs.inference_seconds,
                    s.costs.inference_ratio,
                    s.costs.inference_spread,
                ),
            )
            for s in strategies
            if s.costs is not None
        ),
        notes=(
            "Medians of interleaved runs; the ratio is the median over their rounds, in "
            "brackets the range of its middle half.",
        ),
    )


def published_grid(comparison: Comparison, summaries: Sequence[Summary]) -> Grid:
    """Scores here and in the paper, two rows per strategy that the paper has."""
    metrics = [
        metric
        for metric in METRICS
        if any(metric in (s.published or {}) for s in comparison.strategies)
    ]
    return Grid(
        key="published",
        title=f"Beside the {SOURCE}",
        columns=("strategy", "from", *(METRICS[metric] for metric in metrics)),
        rows=_pairs(
            (
                strategy.name,
                [units.share(summary.mean[metric]) for metric in metrics],
                [units.share(strategy.published.get(metric)) for metric in metrics],
            )
            for strategy, summary in zip(comparison.strategies, summaries, strict=True)
            if strategy.published is not None
        ),
        notes=(
            "The paper's numbers come from other settings (below) and have no spread: "
            "compare the order of the rows rather than the values.",
        ),
    )


def published_cost_grid(strategies: Sequence[Strategy]) -> Grid:
    """Costs here and in the paper, two rows per strategy that the paper has."""
    strategies = [s for s in strategies if s.published is not None]
    remarks = [
        (s.name, ARITHMETIC[s.name].remark)
        for s in strategies
        if s.name in ARITHMETIC and ARITHMETIC[s.name].remark
    ]
    return Grid(
        key="published costs",
        title=f"Costs beside the {SOURCE}",
        columns=("strategy", "from", "params", "encoder to decoder", "inference, ms"),
        rows=_pairs(
            (
                s.name,
                [
                    _millions(s.costs and s.costs.parameters),
                    units.megabytes(s.costs and s.costs.border_bytes),
                    units.milliseconds(
                        s.costs and s.costs.inference_seconds, unit=False
                    ),
                ],
                [
                    _millions(s.published.get("parameters")),
                    _multiplier(s.published.get("storage")),
                    _tenths(s.published.get("milliseconds")),
                ],
            )
            for s in strategies
        ),
        notes=(
            "The paper's times are of another machine.",
            ROUNDING,
            *_merged(remarks),
            STORAGE_REMARK,
        ),
    )


def settings_grid(comparison: Comparison) -> Grid:
    """Settings of this run and of the paper where they differ or only one has them."""
    here, paper = comparison.settings, comparison.published_settings
    names = [*paper, *(name for name in here if name not in paper)] if paper else []
    return Grid(
        key="settings",
        title="Settings that differ from the paper's",
        columns=("setting", "here", "paper"),
        rows=tuple(
            (
                (name,),
                (here.get(name, units.MISSING),),
                (paper.get(name, units.MISSING),),
            )
            for name in names
            if here.get(name) != paper.get(name)
        ),
        notes=(f"{units.MISSING}: not stated.",),
        prose=True,
        codes=(),
    )


def _pairs(
    rows: Iterable[tuple[str, Sequence[str], Sequence[str]]],
) -> tuple[tuple[Cell, ...], ...]:
    """Per strategy the row measured here, named, and the paper's below it."""
    return tuple(
        row
        for name, here, paper in rows
        for row in (
            ((name,), ("here",), *((text,) for text in here)),
            (("",), ("paper",), *((text,) for text in paper)),
        )
    )


def _merged(remarks: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """One sentence for all strategies that it is about."""
    texts = dict.fromkeys(text for _, text in remarks)
    return tuple(
        f"{', '.join(name for name, t in remarks if t == text)}: {text}"
        for text in texts
    )


def _p(p_value: float) -> str:
    text = units.probability(p_value)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def _millions(n: float | None) -> str:
    """Three decimals, as in the paper: the remarks are about the third."""
    return units.MISSING if n is None else f"{n / 1e6:.3f} M"


def _multiplier(n: float | None) -> str:
    return units.MISSING if n is None else f"{n:.0f} x"


def _tenths(x: float | None) -> str:
    return units.MISSING if x is None else f"{x:.1f}"
