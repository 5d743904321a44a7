"""Tables print what was measured and a dash for what was not."""

import dataclasses
import math

import numpy as np
import pytest
from rich.console import Console

from segjax.costs import Costs, Tensor
from segjax.data.labels import CAMVID, LabelTable
from segjax.report.comparison import METRICS, Comparison, Strategy
from segjax.report.grids import comparison_grids
from segjax.report.published import PROTOCOL, TABLE_1, published
from segjax.report.tables import (
    Row,
    class_table,
    comparison_table,
    print_comparison,
)

SCORES = {
    "miou": 0.25,
    "pixel_accuracy": 0.5,
    "class_accuracy": 0.125,
    "fwiou": 0.75,
    "iou": [0.25, float("nan")],
}
ROWS = [Row("net", SCORES, 1_234_567, 0.0321), Row("baseline", SCORES, None, None)]
COSTS = Costs(
    parameters=1_416_064,
    flops=24.6e9,
    border=(
        Tensor("switches/2", "uint8[1,180,240,16]", 691_200),
        Tensor("maps/16", "float32[1,23,30,64]", 176_640),
    ),
    train_memory=812_000_000,
    inference_memory=90_500_000,
    train_seconds=0.2061,
    inference_seconds=0.0652,
    train_ratio=1.861,
    inference_ratio=2.004,
    train_spread=(1.802, 1.899),
    inference_spread=(1.991, 2.019),
)


def lines(table):
    return cells(printed(table))


def printed(*things, width=200):
    console = Console(width=width, record=True, quiet=True)
    with console.capture() as capture:
        console.quiet = False
        for thing in things:
            if isinstance(thing, Comparison):
                print_comparison(thing, console)
            else:
                console.print(thing)
    return capture.get()


def cells(text):
    return [
        [cell.strip() for cell in line.strip("│┃ ").replace("┃", "│").split("│")]
        for line in text.splitlines()
        if "│" in line
    ]


def strategy(name, *, offset=0.0, seeds=(0, 1, 2), costs=COSTS):
    # Offsets differ from seed to seed: 1, 2 and 3 times.
    values = tuple(0.5 + offset * (i + 1) for i in range(len(seeds)))
    return Strategy(
        name=name,
        description=f"about {name}",
        seeds=seeds,
        scores={metric: values for metric in METRICS},
        class_iou=tuple((value,) * 10 + (math.nan,) for value in values),
        costs=costs,
        published=published(name),
        predictions=(),
    )


def comparison(*strategies, **changes):
    values = {
        "title": "Ablation",
        "command": "python ablation.py",
        "split": "camvid test, 233 images",
        "settings": {"batch size": "8", "width": "0.25", "seeds": PROTOCOL["seeds"]},
        "published_settings": dict(PROTOCOL),
        "environment": {"device": "cpu"},
        "notes": ("Half the resolution.",),
        "table": CAMVID,
        "baseline": {"miou": 0.027},
        "strategies": strategies,
        "image_ids": (),
        "images": (),
        "labels": (),
    }
    return Comparison(**(values | changes))


def grids(one):
    return {grid.key: grid for grid in comparison_grids(one)}


def test_comparison_table():
    assert lines(comparison_table(ROWS, title="t")) == [
        ["net", "0.250", "0.500", "0.125", "0.750", "1,234,567", "32.1"],
        ["baseline", "0.250", "0.500", "0.125", "0.750", "-", "-"],
    ]


def test_class_table():
    table = LabelTable(("a", "b"), ((0, 0, 1), (0, 1, 0)), {0: 0, 1: 1})
    assert lines(class_table(ROWS, table, title="t")) == [
        ["a", "0.250", "0.250"],
        ["b", "-", "-"],
    ]


def test_quality_has_mean_spread_mark_and_baseline():
    other = dataclasses.replace(
        strategy("segnet_basic"),
        scores=dict.fromkeys(METRICS, (0.61, 0.62, 0.63))
        | {"miou": (0.6, 0.601, 0.602), "thin_iou": (math.nan,) * 3},
    )
    grid = grids(comparison(strategy("fcn_basic"), other))["quality"]
    first, second, baseline = grid.rows
    assert first[:2] == (("fcn_basic",), ("0.500", "± 0.000"))
    assert second[0] == ("segnet_basic",)
    # Mean difference 0.101, deviation 0.001: t = 175, p < 0.01.
    assert second[1] == ("0.601**", "± 0.001")
    # 0.12, 0.01: t = 20.8, p = 0.0023.
    assert second[2] == ("0.620**", "± 0.010")
    assert second[5] == ("-",)
    assert baseline[:3] == (("majority class",), ("0.027",), ("-",))
    assert "2 degrees of freedom" in grid.notes[0]


def test_differences_need_two_seeds():
    two = grids(comparison(strategy("a"), strategy("b", offset=0.1)))
    (row,) = two["differences"].rows
    # t = 2 sqrt(3), p = 1 - t / sqrt(t^2 + 2).
    assert row[:2] == (("b",), ("+0.200", "p = 0.074"))
    one = comparison(strategy("a", seeds=(0,)), strategy("b", seeds=(0,)))
    assert "differences" not in grids(one)
    assert grids(one)["quality"].rows[0][1] == ("0.500",)


def test_costs_times_and_what_crosses():
    tables = grids(comparison(strategy("a"), strategy("b", costs=None)))
    (cost,) = tables["costs"].rows
    assert [cell for (cell,) in cost] == ["a", "1.42 M", "24.6", "0.87", "812", "90.50"]
    (time,) = tables["times"].rows
    assert time == (
        ("a",),
        ("206",),
        ("1.86x", "(1.80-1.90)"),
        ("65.2",),
        ("2.00x", "(1.99-2.02)"),
    )
    assert [[cell for (cell,) in row] for row in tables["border"].rows] == [
        ["a", "switches/2", "uint8[1,180,240,16]", "0.69"],
        ["a", "maps/16", "float32[1,23,30,64]", "0.18"],
    ]
    without = grids(comparison(strategy("a", costs=None)))
    assert not without.keys() & {"costs", "times", "border"}


def test_a_network_that_is_not_encoder_and_decoder_has_no_border():
    costs = dataclasses.replace(COSTS, border=None)
    tables = grids(comparison(strategy("a", costs=costs)))
    assert tables["costs"].rows[0][3] == ("-",)
    assert "border" not in tables


def test_the_papers_rows_stand_below_ours():
    tables = grids(comparison(strategy("unet"), strategy("bilinear_basic", costs=None)))
    grid = tables["published"]
    assert grid.columns[2:] == tuple(
        METRICS[m] for m in METRICS if m in published("bilinear_basic")
    )
    ours, paper = grid.rows
    assert [cell for (cell,) in ours] == ["bilinear_basic", "here"] + ["0.500"] * 4
    assert [cell for (cell,) in paper] == (
        ["", "paper", "0.433", "0.779", "0.611", "0.208"]
    )
    ours, paper = tables["published costs"].rows
    assert [cell for (cell,) in ours[2:]] == ["-", "-", "-"]
    assert [cell for (cell,) in paper[2:]] == ["0.625 M", "0 x", "24.2"]
    assert any("612,736" in note for note in tables["published costs"].notes)
    assert not grids(comparison(strategy("unet"))).keys() & {
        "published",
        "published costs",
    }


def test_settings_are_shown_where_they_differ():
    rows = {
        row[0]: row[1:] for row in grids(comparison(strategy("a")))["settings"].rows
    }
    assert rows[("batch size",)] == (("8",), (PROTOCOL["batch size"],))
    assert ("seeds",) not in rows  # the same
    assert rows[("hardware",)][0] == ("-",)
    assert rows[("width",)] == (("0.25",), ("-",))
    same = comparison(strategy("a"), published_settings={})
    assert "settings" not in grids(same)


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
def test_everything_fits_80_columns(seeds):
    rng = np.random.default_rng(0)
    rows = [
        dataclasses.replace(
            strategy(name, seeds=seeds),
            scores={m: tuple(rng.random(len(seeds)) / 9 + i / 9) for m in METRICS},
        )
        for i, name in enumerate(TABLE_1)
    ]
    text = printed(comparison(*rows), width=80)
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text  # nothing was cut off
    found = cells(text)
    # A long name is folded, and a numbered column has its name in the legend.
    assert any(line[0] == "segnet_basic_encoder_" for line in found)
    assert any(line[0] == "addition" and not any(line[1:]) for line in found)
    legend = " ".join(text.split())
    assert "8 = fcn_basic_no_addition_no_dim_reduction" in legend
    assert ["Bicyclist"] + ["-"] * 8 in found
    assert "Half the resolution." in text


def test_short_names_head_the_columns_of_classes():
    text = printed(comparison(strategy("fcn"), strategy("segnet")), width=80)
    assert "┃ class" in text
    assert ["Sky", "0.500", "0.500"] in cells(text)
    assert "1 = " not in text


def test_names_are_not_markup():
    text = printed(comparison(strategy("[bold]x[/]:y"), strategy("b")), width=80)
    assert [line[0] for line in cells(text)].count("[bold]x[/]:y") == 3
    (heading,) = [line for line in text.splitlines() if line.startswith("┃ class ")]
    assert "┃ [bold]x[/]:y ┃" in heading
