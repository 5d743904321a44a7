"""The tables of the report page, as HTML."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from html import escape

from segjax.costs import Costs
from segjax.report import units
from segjax.report.comparison import METRICS, Comparison, Strategy
from segjax.report.page_markup import (
    DASH,
    Cell,
    Column,
    breakable,
    details,
    embolden,
    number,
    paragraph,
    print_signs,
    swatch,
    table,
)
from segjax.report.published import ROUNDING, SOURCE, STORAGE_REMARK
from segjax.report.statistics import (
    Summary,
    class_means,
    describe_test,
    mark,
    summarize,
)

_CLASS_COLUMNS = 10  # strategies side by side in a table of classes, so that it prints


def main_table(comparison: Comparison) -> str:
    """Quality and cost of every strategy, the test's description below."""
    columns = [Column("strategy", "number")]
    columns += [Column(title, "higher", "quality") for title in METRICS.values()]
    columns += [
        Column("parameters", "lower", "cost"),
        Column("GFLOP", "lower", "cost"),
        Column("encoder → decoder, MB", "lower", "cost"),
        Column("training memory, MB", "lower", "cost"),
        Column("inference memory, MB", "lower", "cost"),
        Column("training step, ms", "lower", "cost"),
        Column("inference, ms", "lower", "cost"),
    ]
    summaries = summarize(comparison)
    rows = [
        [
            strategy_cell(index, strategy),
            *(_score(summary, metric, strategy) for metric in METRICS),
            *_cost_cells(strategy.costs),
        ]
        for index, (strategy, summary) in enumerate(
            zip(comparison.strategies, summaries, strict=True), 1
        )
    ]
    for i, column in enumerate(columns[1:], 1):
        best = max if column.kind == "higher" else min
        for row, cell in zip(rows, embolden([r[i] for r in rows], best), strict=True):
            row[i] = cell
    baseline = [Cell("commonest class everywhere")]
    baseline += [number(comparison.baseline.get(m), units.share) for m in METRICS]
    baseline += [Cell(DASH)] * 7
    notes = [describe_test(comparison), "Bold: the best of a column."]
    if any(strategy.costs for strategy in comparison.strategies):
        notes.append(
            "Cost: operations, bytes from encoder to decoder, inference memory and "
            "inference time are those of one image; memory is the compiled program's "
            "peak; times are medians, below them the median ratio to the first row and "
            "its interquartile range over interleaved rounds. 1 MB = 1,000,000 bytes."
        )
    return table(columns, rows, label="Quality and cost", foot=[baseline]) + paragraph(
        notes
    )


def p_value_table(comparison: Comparison) -> str:
    """Difference to the first row and adjusted p value; empty without a test."""
    summaries = summarize(comparison)
    if all(p is None for summary in summaries for p in summary.p_value.values()):
        return ""
    columns = [Column("strategy", "number")]
    for title in METRICS.values():
        columns += [Column("difference", "number", title), Column("p", "number", title)]
    rows = []
    for index, strategy in enumerate(comparison.strategies[1:], 2):
        summary = summaries[index - 1]
        cells = [strategy_cell(index, strategy, described=False)]
        for metric in METRICS:
            p = summary.p_value[metric]
            cells.append(number(summary.difference[metric], units.difference))
            cells.append(number(p, lambda p: units.probability(p) + mark(p)))
        rows.append(cells)
    return details(
        "Differences to the first row and p values",
        table(columns, rows, label="Differences and p values"),
    )


def class_table(comparison: Comparison) -> str:
    """IoU of every class, a column per strategy, shaded by its value."""
    strategies = comparison.strategies
    means = [class_means(strategy) for strategy in strategies]
    rows = []
    for k in range(comparison.table.num_classes):
        cells = []
        for strategy, mean in zip(strategies, means, strict=True):
            runs = [units.share(run[k]) for run in strategy.class_iou]
            note = f"seeds: {', '.join(runs)}" if len(runs) > 1 else ""
            cell = number(mean[k], units.share, note=note)
            cells.append(dataclasses.replace(cell, tint=cell.value))
        rows.append(embolden(cells, max))
    tables = []
    for start in range(0, len(strategies), _CLASS_COLUMNS):
        chosen = range(start, min(start + _CLASS_COLUMNS, len(strategies)))
        columns = [Column("class", "number")]
        columns += [Column(f"{i + 1} {strategies[i].name}", "higher") for i in chosen]
        heads = [
            Cell(swatch(color) + escape(name), k)
            for k, (name, color) in enumerate(
                zip(comparison.table.names, comparison.table.colors, strict=True)
            )
        ]
        body = [
            [head, *(row[i] for i in chosen)]
            for head, row in zip(heads, rows, strict=True)
        ]
        tables.append(table(columns, body, label="IoU per class"))
    over = "Mean over the seeds. " if len(strategies[0].seeds) > 1 else ""
    return "".join(tables) + paragraph([f"{over}Bold: the best strategy of the class."])


def border_lists(comparison: Comparison) -> str:
    """What crosses from encoder to decoder, tensor by tensor, one list each."""
    parts = []
    for index, strategy in enumerate(comparison.strategies, 1):
        name = f'<span class="number">{index}</span> {escape(strategy.name)}'
        if strategy.costs is None or strategy.costs.border is None:
            reason = "not measured" if strategy.costs is None else "not an encoder and "
            reason += "" if strategy.costs is None else "a decoder"
            parts.append(f'<p class="unfolded">{name}: {reason}</p>')
            continue
        tensors = strategy.costs.border
        total = units.megabytes(strategy.costs.border_bytes)
        plural = "" if len(tensors) == 1 else "s"
        rows = [
            [
                Cell(f"<code>{escape(tensor.name)}</code>", tensor.name),
                Cell(f"<code>{escape(tensor.type)}</code>", tensor.type),
                Cell(f"{tensor.num_bytes:,}", tensor.num_bytes),
            ]
            for tensor in tensors
        ]
        columns = [
            Column("tensor"),
            Column("type and shape"),
            Column("bytes", "number"),
        ]
        parts.append(
            details(
                f"{name}: {total} in {len(tensors)} tensor{plural}",
                table(columns, rows, label=f"Tensors of {strategy.name}"),
            )
        )
    return "".join(parts)


def published_table(comparison: Comparison) -> str:
    """The paper's numbers beside ours and what differs; empty without published."""
    known = [
        (index, strategy, summary)
        for index, (strategy, summary) in enumerate(
            zip(comparison.strategies, summarize(comparison), strict=True), 1
        )
        if strategy.published
    ]
    if not known:
        return ""
    shown = {key for _, strategy, _ in known for key in strategy.published}
    groups = [(m, t, units.share, _our_score(m)) for m, t in METRICS.items()]
    groups += [
        ("parameters", "parameters, M", _millions, lambda s, _: _cost(s, "parameters")),
        (
            "milliseconds",
            "inference, ms",
            _milliseconds,
            lambda s, _: _scaled(_cost(s, "inference_seconds"), 1e3),
        ),
    ]
    groups = [group for group in groups if group[0] in shown]
    columns = [Column("strategy", "number")]
    for _, title, _, _ in groups:
        columns += [Column("paper", "number", title), Column("here", "number", title)]
    if "storage" in shown:
        group = "stored for the decoder"
        columns.append(Column("paper: multiplier", "number", group))
        columns.append(Column("here: MB", "number", group))
    rows = []
    for index, strategy, summary in known:
        row = [strategy_cell(index, strategy, described=False)]
        for key, _, show, ours in groups:
            row.append(number(strategy.published.get(key), show))
            row.append(number(ours(strategy, summary), show))
        if "storage" in shown:
            row.append(number(strategy.published.get("storage"), "{:.0f}x".format))
            row.append(number(_cost(strategy, "border_bytes"), _megabytes))
        rows.append(row)
    notes = [f"Paper: {SOURCE}.", ROUNDING]
    notes += [STORAGE_REMARK] if "storage" in shown else []
    return (
        table(columns, rows, label="The paper's table beside ours")
        + paragraph(notes)
        + _differing_settings(comparison)
    )


def settings_table(values: Mapping[str, str], *, label: str) -> str:
    """Names and values in two columns."""
    rows = [[Cell(escape(k)), Cell(escape(str(v)))] for k, v in values.items()]
    columns = [Column("setting"), Column("value")]
    return table(columns, rows, label=label, sortable=False)


def strategy_cell(index: int, strategy: Strategy, *, described: bool = True) -> Cell:
    """Number, name and, unless told otherwise, the description."""
    html = f'<span class="number">{index}</span> <b>{breakable(strategy.name)}</b>'
    if described:
        html += f"<small>{escape(strategy.description)}</small>"
    return Cell(html, index)


def _differing_settings(comparison: Comparison) -> str:
    ours, paper = comparison.settings, comparison.published_settings
    names = [name for name in paper if ours.get(name) != paper[name]]
    if not names:
        return ""
    rows = [
        [
            Cell(escape(name)),
            Cell(escape(str(paper[name]))),
            Cell(escape(str(ours[name])) if name in ours else DASH),
        ]
        for name in names
    ]
    columns = [Column("setting"), Column("paper"), Column("here")]
    return "<h3>Settings that differ from the paper's</h3>" + table(
        columns, rows, label="Settings that differ", sortable=False
    )


def _score(summary: Summary, metric: str, strategy: Strategy) -> Cell:
    mean, spread = summary.mean[metric], summary.spread[metric]
    if math.isnan(mean):
        return Cell(DASH)
    html = units.share(mean)
    p = summary.p_value[metric]
    note = ""
    if p is not None:
        html += f"<sup>{mark(p)}</sup>" if mark(p) else ""
        note = f"{units.difference(summary.difference[metric])} against the first row, "
        note += f"adjusted p {units.probability(p)}; "
    if spread is not None:
        html += f" <small>± {units.share(spread)}</small>"
    if len(strategy.seeds) > 1:
        note += "seeds: " + ", ".join(
            f"{seed}: {units.share(value)}"
            for seed, value in zip(strategy.seeds, strategy.scores[metric], strict=True)
        )
    return Cell(html, mean, note)


def _cost_cells(costs: Costs | None) -> list[Cell]:
    if costs is None:
        return [Cell(DASH)] * 7
    return [
        number(costs.parameters, units.count, note=f"{costs.parameters:,}"),
        number(costs.flops, lambda n: units.gigaflops(n, unit=False)),
        *(
            number(n, _megabytes, note="" if n is None else f"{n:,} bytes")
            for n in (costs.border_bytes, costs.train_memory, costs.inference_memory)
        ),
        _time(costs.train_seconds, costs.train_ratio, costs.train_spread),
        _time(costs.inference_seconds, costs.inference_ratio, costs.inference_spread),
    ]


def _time(seconds: float, ratio: float, spread: tuple[float, float]) -> Cell:
    cell = number(seconds, lambda s: units.milliseconds(s, unit=False))
    if cell.value is None or math.isnan(ratio):
        return cell
    low, high = (f"{value:.2f}" for value in spread)
    below = f"<small>{print_signs(units.ratio(ratio))}</small>"
    below += f" <small>[{low}, {high}]</small>"
    return dataclasses.replace(cell, html=f"{cell.html} {below}")


def _our_score(metric: str) -> Callable[[Strategy, Summary], float]:
    return lambda _, summary: summary.mean[metric]


def _cost(strategy: Strategy, name: str) -> float | None:
    return None if strategy.costs is None else getattr(strategy.costs, name)


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _millions(value: float) -> str:
    # The paper's digits: units.count would make 1.43 M of 1.425 M.
    return f"{value / 1e6:.3f}"


def _milliseconds(value: float | None) -> str:
    return units.milliseconds(_scaled(value, 1e-3), unit=False)


def _megabytes(value: float | None) -> str:
    return units.megabytes(value, unit=False)
