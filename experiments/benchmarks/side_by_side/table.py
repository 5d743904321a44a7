"""The comparison as Markdown."""

import statistics

from side_by_side import before_a_step
from side_by_side.worker import SIDES

from segjax.costs import ratios


def markdown(record: dict) -> str:
    """Tables of times, differences and shares of what the machine can do."""
    machine = record["machine"]
    versions = ", ".join(f"{k} {v}" for k, v in machine["versions"].items())
    lines = [
        "# segjax beside PyTorch and plain Flax",
        "",
        f"{machine['device']}, {machine['threads']} threads, Python "
        f"{machine['python']}, {versions}, {machine['date']}. Medians of "
        f"{record['rounds']} rounds in which all sides take turns of at least "
        f"{record['seconds']} s. Ratios are a side's time divided by segjax's in the "
        "same round: above 1 segjax is faster; in brackets the quartiles over the "
        "rounds. Made by `python experiments/benchmarks/run.py`.",
    ]
    if record["cases"]:
        lines += _of_networks(record)
    if "input" in record:
        lines += ["", "## Input", ""]
        lines += _table(before_a_step.input_rows(record["input"]))
    if "start-up" in record:
        lines += ["", "## Start-up", ""]
        lines += _table(before_a_step.import_rows(record["start-up"]))
        lines += ["", *_table(before_a_step.first_step_rows(record["start-up"]))]
    return "\n".join(lines) + "\n"


def _of_networks(record):
    cases = record["cases"]
    sides = list(cases[0]["differences"])
    phases = list(cases[0]["seconds"])
    lines = []
    for phase in phases:
        lines += [
            "",
            f"## {phase.capitalize()}",
            "",
            _row(["network", "image", "batch", "channels", "segjax, ms", *sides[1:]]),
            _row(["---"] * (4 + len(sides))),
        ]
        for case in cases:
            of = ratios(case["seconds"][phase])
            cells = [
                f"{of[side].median:.2f} ({of[side].spread[0]:.2f} to "
                f"{of[side].spread[1]:.2f})"
                for side in sides[1:]
            ]
            own = 1e3 * statistics.median(case["seconds"][phase]["segjax"])
            lines.append(_row([*_name(case), f"{own:.1f}", *cells]))
    lines += [
        "",
        "## Against the machine",
        "",
        "Operations are those of the network's convolutions and matrix products, bytes "
        "and temporary memory are the compiler's count for the compiled program. Shares "
        "are of the best rates that any library here reached in the same run: "
        + "; ".join(_rates(record))
        + ".",
        "",
        _row(
            ["network", "phase", "GFLOP", "GB accessed", "temporaries, MB"]
            + [f"{side}: GFLOP/s (share)" for side in sides]
        ),
        _row(["---"] * (5 + len(sides))),
    ]
    for case in cases:
        for phase in phases:
            lines.append(_row(_against_machine(record, case, phase, sides)))
    lines += [
        "",
        "## Differences",
        "",
        "Largest difference of the logits on the same weights and small images, relative "
        "to the largest logit, and relative difference of the first loss.",
        "",
        _row(["network", *sides[1:]]),
        _row(["---"] * len(sides)),
    ]
    for case in cases:
        found = case["differences"]
        cells = [
            f"{found[side]['logits']:.0e}, {found[side]['loss']:.0e}"
            for side in sides[1:]
        ]
        lines.append(_row([_name(case)[0], *cells]))
    return lines


def _against_machine(record, case, phase, sides):
    cost = case["cost"]["segjax"][phase]
    if cost is None:
        return [_name(case)[0], phase, *["-"] * (3 + len(sides))]
    cells = []
    for side in sides:
        rates = record["rates"][SIDES[side].dtype]
        rate = max(r["flops"] for r in rates.values())
        reached = cost["flops"] / statistics.median(case["seconds"][phase][side])
        cells.append(f"{reached / 1e9:.0f} ({100 * reached / rate:.0f} %)")
    return [
        _name(case)[0],
        phase,
        f"{cost['flops'] / 1e9:.1f}",
        f"{cost['bytes'] / 1e9:.2f}",
        f"{cost['temporaries'] / 1e6:.0f}",
        *cells,
    ]


def _rates(record):
    for dtype, by_library in record["rates"].items():
        for library, rate in by_library.items():
            yield (
                f"{library} {dtype}: {rate['flops'] / 1e9:.0f} GFLOP/s, "
                f"{rate['bandwidth'] / 1e9:.1f} GB/s"
            )


def _name(case):
    of = case["case"]
    return [
        f"`{of['network']}`",
        f"{of['height']}x{of['width']}",
        str(of["batch_size"]),
        f"{of['channels']:g}",
    ]


def _table(rows):
    header, *body = rows
    return [_row(header), _row(["---"] * len(header)), *map(_row, body)]


def _row(cells):
    return f"| {' | '.join(cells)} |"
