"""The files say what was measured, to every digit and for every name."""

import csv
import math

import numpy as np
import pytest
from markdown_it import MarkdownIt

from segjax.costs import Costs, Tensor
from segjax.data.labels import LabelTable
from segjax.errors import InputError
from segjax.report.comparison import METRICS, Comparison, Strategy
from segjax.report.documents import csv_columns, write_csv, write_markdown
from segjax.report.published import PROTOCOL, published

NAMES = ("segnet_basic", "a|b`c*d_[e](f)<g>", "_x_ & *y*")
CLASSES = ("Sky", "a,b|c", '_"d"_')


def comparison(**changes):
    rng = np.random.default_rng(0)
    strategies = tuple(
        Strategy(
            name=name,
            description=f"*about* {name}",
            seeds=(7, 3),
            scores={m: (float(rng.random()), np.float64(1 / 3)) for m in METRICS}
            | {"thin_iou": (math.nan, math.nan)},
            class_iou=((0.1, 2 / 3, math.nan), tuple(rng.random(3))),
            costs=None if i == 1 else costs(border=i == 0),
            published=published(name),
            predictions=(),
        )
        for i, name in enumerate(NAMES)
    )
    values = {
        "title": "An *ablation* | of <all>",
        "command": "python a.py --name '\n```\n'",
        "split": "val_split, 3 images",
        "settings": {"a|b": "1 < 2 | *c*", "batch size": "8"},
        "published_settings": {"batch size": PROTOCOL["batch size"]},
        "environment": {"device": "cpu_0 & co"},
        "notes": ("1. not a list", "# not a heading", "a [link](x) <b>"),
        "table": LabelTable(
            CLASSES, ((1, 0, 0), (0, 1, 0), (0, 0, 1)), {0: 0, 1: 1, 2: 2}
        ),
        "baseline": {"miou": 0.027},
        "strategies": strategies,
        "image_ids": (),
        "images": (),
        "labels": (),
    }
    return Comparison(**(values | changes))


def costs(*, border):
    return Costs(
        parameters=1_416_064,
        flops=np.float32(24.6e9),
        border=(Tensor("maps/16", "float32[1,23,30,64]", 176_640),) if border else None,
        train_memory=np.int64(812_000_001),
        inference_memory=90_500_000,
        train_seconds=0.1 + 0.2,
        inference_seconds=1e-5 / 3,
        train_ratio=1.861,
        inference_ratio=2.004,
        train_spread=(1.802, 1.899),
        inference_spread=(1.991, 2.019),
    )


def parsed(path):
    """Headings, paragraphs and items, code blocks and tables, as a reader sees them."""
    text = path.read_text(encoding="utf-8")
    found = {"h1": [], "h2": [], "p": [], "li": [], "code": [], "tables": []}
    kind = None
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        if token.type == "fence":
            found["code"].append(token.content)
        elif token.type == "table_open":
            found["tables"].append([])
        elif token.type == "tr_open":
            found["tables"][-1].append([])
        elif token.type in ("heading_open", "th_open", "td_open", "list_item_open"):
            kind = token.tag
        elif token.type == "paragraph_open":
            kind = "li" if kind == "li" else "p"
        elif token.type in ("heading_close", "list_item_close"):
            kind = None
        elif token.type == "inline":
            # Anything but text and code would have lost characters of a name.
            assert {child.type for child in token.children} <= (
                {"text", "code_inline", "text_special"}
            ), token.content
            content = "".join(child.content for child in token.children)
            if kind in ("th", "td"):
                found["tables"][-1][-1].append(content)
            else:
                found[kind or "p"].append(content)
    return found


def test_markdown_reads_as_written(tmp_path):
    one = comparison()
    path = tmp_path / "new" / "report.md"
    write_markdown(path, one)
    found = parsed(path)
    assert found["h1"] == [one.title]
    assert found["p"][0] == f"Scored on {one.split}."
    assert found["code"] == [one.command + "\n"]
    assert found["li"][:3] == list(one.notes)
    assert found["li"][3:] == [f"{s.name}: {s.description}" for s in one.strategies]
    titles = found["h2"]
    # "Strategies" is a list.
    tables = dict(
        zip([t for t in titles if t != "Strategies"], found["tables"], strict=True)
    )
    for table in found["tables"]:
        assert len({len(row) for row in table}) == 1
    quality = tables[f"{one.title}: {one.split}"]
    assert quality[0] == ["strategy", *METRICS.values()]
    assert [row[0] for row in quality[1:]] == [*NAMES, "majority class"]
    # One value per seed: mean, and sqrt((a - b)^2 / 2).
    a, b = one.strategies[0].scores["miou"]
    spread = abs(a - b) / math.sqrt(2)
    assert quality[1][1] == f"{(a + b) / 2:.3f} ± {spread:.3f}"
    assert quality[1][5] == "-"
    assert quality[4][1] == "0.027"
    classes = tables["IoU by class"]
    assert classes[0] == ["strategy", *CLASSES]
    sky, second, third = zip(*one.strategies[0].class_iou, strict=True)
    means = [f"{sum(pair) / 2:.3f}" for pair in (sky, second)]
    assert classes[1][1:] == [*means, "-"]
    assert math.isnan(third[0])
    assert tables["What crosses from encoder to decoder"][1] == (
        [NAMES[0], "maps/16", "float32[1,23,30,64]", "0.18"]
    )
    assert tables["Settings"][1:] == [list(pair) for pair in one.settings.items()]
    assert tables["Environment"][1:] == [["device", "cpu_0 & co"]]
    assert tables["Settings that differ from the paper's"][1:] == (
        [["batch size", "8", PROTOCOL["batch size"]], ["a|b", "1 < 2 | *c*", "-"]]
    )
    beside = tables["Beside the SegNet paper, Table 1 (arXiv:1511.00561)"]
    assert beside[2] == ["", "paper", "0.477", "0.827", "0.620", "0.358"]
    assert any("paired two-sided t-test" in text for text in found["p"])


def test_csv_reads_back_every_digit(tmp_path):
    one = comparison()
    path = tmp_path / "new" / "report.csv"
    write_csv(path, one)
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == csv_columns(one.table)
    assert [(row["strategy"], row["seed"]) for row in rows] == (
        [(name, seed) for name in NAMES for seed in ("7", "3")]
    )
    for i, row in enumerate(rows):
        strategy, seed = one.strategies[i // 2], i % 2
        for metric in METRICS:
            np.testing.assert_equal(float(row[metric]), strategy.scores[metric][seed])
        for j, name in enumerate(CLASSES):
            np.testing.assert_equal(
                float(row[f"iou: {name}"]), strategy.class_iou[seed][j]
            )
    first, unmeasured, borderless = rows[0], rows[2], rows[4]
    expected = costs(border=True)
    assert int(first["parameters"]) == 1_416_064
    assert float(first["flops"]) == float(expected.flops)
    assert int(first["border_bytes"]) == 176_640
    assert int(first["train_memory_bytes"]) == 812_000_001
    assert int(first["inference_memory_bytes"]) == 90_500_000
    assert float(first["train_seconds"]) == expected.train_seconds
    assert float(first["inference_seconds"]) == expected.inference_seconds
    for program in ("train", "inference"):
        ratio = getattr(expected, f"{program}_ratio")
        low, high = getattr(expected, f"{program}_spread")
        assert float(first[f"{program}_ratio"]) == ratio
        assert float(first[f"{program}_ratio_low"]) == low
        assert float(first[f"{program}_ratio_high"]) == high
    assert unmeasured["parameters"] == unmeasured["train_seconds"] == ""
    assert borderless["border_bytes"] == ""
    assert borderless["parameters"] == "1416064"


@pytest.mark.parametrize("write", [write_markdown, write_csv])
def test_files_are_replaced_whole(tmp_path, write, monkeypatch):
    path = tmp_path / "report"
    path.write_text("old", encoding="utf-8")

    def full(self, other):
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.replace", full)
        with pytest.raises(InputError, match=r"report cannot be written: no space"):
            write(path, comparison())
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]
    write(path, comparison())
    assert path.read_text(encoding="utf-8") != "old"
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_is_written_of_rows_that_do_not_compare(tmp_path):
    one = comparison()
    other = Strategy(**(vars(one.strategies[0]) | {"name": "n", "seeds": (1, 2)}))
    with pytest.raises(InputError, match="n has seeds 1, 2 but segnet_basic"):
        write_markdown(
            tmp_path / "a.md", comparison(strategies=(one.strategies[0], other))
        )
    assert not list(tmp_path.iterdir())
