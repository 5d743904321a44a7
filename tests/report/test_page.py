"""The report page: says what was measured, stands alone, and survives odd input."""

import base64
import dataclasses
import hashlib
import io
import json
from html.parser import HTMLParser

import numpy as np
import pytest
from page_sample import (
    COSTS,
    DISAGREEMENT,
    IMAGE_IDS,
    LABEL,
    SHIFTS,
    TABLE,
    comparison,
    shifted,
    strategy,
)
from PIL import Image

from segjax.data.labels import VOID
from segjax.errors import InputError
from segjax.report.page import render_page, write_page
from segjax.report.page_viewer import (
    disagreement,
    encode_classes,
    encode_image,
    error_share,
)

VOID_ELEMENTS = {"meta", "link", "img", "input", "br", "wbr", "circle", "line"}


class Page(HTMLParser):
    """Reads a page: elements with their attributes, scripts, and tables as text."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements, self.scripts, self.tables, self.open = [], [], [], []
        self.text = ""
        self.feed(text)
        assert self.open == [], "elements that are not closed"

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        elif tag == "script":
            self.scripts.append("")
        if tag not in VOID_ELEMENTS:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data
        elif self.open and self.open[-1] != "style":
            self.text += data
            if "td" in self.open or "th" in self.open:
                self.tables[-1][-1][-1] += data

    def ids(self):
        return [attrs["id"] for _, attrs in self.elements if "id" in attrs]

    def headed(self, first):
        """The tables whose first head is `first`."""
        return [table for table in self.tables if table[0][0] == first]


@pytest.fixture(scope="module")
def page():
    return Page(render_page(comparison()))


def test_nothing_is_loaded_from_outside(page):
    for tag, attrs in page.elements:
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            if name in attrs:
                assert attrs[name].startswith(("data:", "#")), (tag, attrs)
    policy = next(
        attrs["content"]
        for _, attrs in page.elements
        if attrs.get("http-equiv") == "Content-Security-Policy"
    )
    assert "default-src 'none'; img-src data:;" in policy
    scripts = [s for s in page.scripts if not s.startswith("{")]
    assert len(scripts) == 4
    for script in scripts:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy


def test_names_are_text_and_nothing_else(page):
    # Four scripts and the data: none came in with a name.
    assert len(page.scripts) == 5
    assert not any(tag == "i" and not attrs for tag, attrs in page.elements)
    data = json.loads(next(s for s in page.scripts if s.startswith("{")))
    assert tuple(image["name"] for image in data["images"]) == IMAGE_IDS
    assert [each["name"] for each in data["classes"]] == list(TABLE.names)
    assert data["strategies"] == ["first", "seg<b>net</b>", "third"]
    for text in (
        "An <ablation>",
        "python ablation.py --seeds 0 1 2 > 'log & more'",
        "Trained at half resolution & scored at full.",
        "<i>pole</i>",
        "seg<b>net</b>",
        "a way & back",
    ):
        assert text in page.text


def test_main_table(page):
    (main,) = [t for t in page.headed("strategy") if t[0][1] == "quality"]
    assert main[1][:5] == [
        "mIoU",
        "pixel accuracy",
        "class accuracy",
        "boundary F1",
        "IoU of thin classes",
    ]
    first, second, third, baseline = [
        [" ".join(cell.split()) for cell in row] for row in main[2:]
    ]
    # Mean and sample deviation of 0.5, 0.6, 0.7; NaN and None are dashes.
    assert first[0].startswith("1 first")
    assert first[1] == "0.600 ± 0.100"
    assert first[5] == "\N{EN DASH}"
    assert first[6:11] == ["1.42 M", "12.3", "0.69", "2,500", "150"]
    assert first[11] == "500 1.00\N{MULTIPLICATION SIGN} [1.00, 1.00]"
    assert second[12] == "105 2.00\N{MULTIPLICATION SIGN} [1.90, 2.20]"
    # p = 0.00274; the third row differs by the same in every seed: nothing to adjust.
    assert second[1] == "0.710** ± 0.110"
    assert third[1].startswith("0.350")
    assert baseline[1:4] == ["0.125", "0.250", "\N{EN DASH}"]
    assert "paired two-sided t-test" in page.text
    notes = [a["title"] for _, a in page.elements if "adjusted p" in a.get("title", "")]
    assert notes[0] == (
        "+0.110 against the first row, adjusted p 0.003; seeds: 0: 0.600, 1: 0.710, "
        "2: 0.820"
    )


def test_p_values_are_listed(page):
    (table,) = [t for t in page.headed("strategy") if t[0][1] == "mIoU"]
    assert table[2][1:3] == ["+0.110", "0.003**"]
    assert table[3][1:3] == ["\N{MINUS SIGN}0.250", "\N{EN DASH}"]


def test_class_table(page):
    (table,) = page.headed("class")
    assert table[0] == ["class", "1 first", "2 seg<b>net</b>", "3 third"]
    assert table[1] == ["sky", "0.600", "0.600", "0.350"]
    assert table[2] == ["road"] + ["0.250"] * 3
    assert table[3] == ["<i>pole</i>"] + ["\N{EN DASH}"] * 3


def test_wide_class_tables_are_split():
    rows = tuple(strategy(f"s{i}", index=i) for i in range(23))
    tables = Page(render_page(comparison(strategies=rows))).headed("class")
    heads = [table[0][1:] for table in tables]
    assert [len(head) for head in heads] == [10, 10, 3]
    assert [name for head in heads for name in head] == [
        f"{i + 1} s{i}" for i in range(23)
    ]


def test_border_lists(page):
    tables = page.headed("tensor")
    assert len(tables) == 3
    assert tables[0][1] == ["switches/2", "uint8[1,180,240,16]", "691,200"]
    assert "1 first: 0.69 MB in 1 tensor" in page.text


def test_without_costs():
    rows = comparison().strategies
    no_border = dataclasses.replace(COSTS, border=None)
    rows = (
        dataclasses.replace(rows[0], costs=None),
        dataclasses.replace(rows[1], costs=no_border),
        rows[2],
    )
    page = Page(render_page(comparison(strategies=rows)))
    assert "1 first: not measured" in page.text
    assert "2 seg<b>net</b>: not an encoder and a decoder" in page.text
    assert "for want of a measurement: first, seg<b>net</b>." in page.text
    plots = [attrs["aria-label"] for tag, attrs in page.elements if tag == "svg"]
    assert len(plots) == 8

    rows = tuple(dataclasses.replace(row, costs=None) for row in rows)
    page = Page(render_page(comparison(strategies=rows)))
    assert "Costs were not measured." in page.text
    assert not any(tag == "svg" for tag, _ in page.elements)


def test_the_paper_beside_ours():
    assert "paper" not in Page(render_page(comparison())).ids()
    first, *others = comparison().strategies
    known = {"miou": 0.477, "parameters": 1.425e6, "milliseconds": 52.6, "storage": 1.0}
    page = Page(
        render_page(
            comparison(
                strategies=(dataclasses.replace(first, published=known), *others),
                settings={"batch size": "4", "optimiser": "SGD"},
                published_settings={
                    "batch size": "12",
                    "optimiser": "SGD",
                    "augmentation": "none",
                },
            )
        )
    )
    (table,) = [t for t in page.headed("strategy") if "paper" in t[1]]
    assert table[0][1:] == [
        "mIoU",
        "parameters, M",
        "inference, ms",
        "stored for the decoder",
    ]
    assert table[2][1:] == [
        *("0.477", "0.600", "1.425", "1.415", "52.6", "52.6"),
        *("1\N{MULTIPLICATION SIGN}", "0.69"),
    ]
    assert len(table) == 3
    (differing,) = [t for t in page.headed("setting") if t[0][1] == "paper"]
    assert differing[1:] == [
        ["batch size", "12", "4"],
        ["augmentation", "none", "\N{EN DASH}"],
    ]


def test_one_seed_has_no_spread_and_no_test():
    rows = tuple(strategy(f"s{i}", index=i, seeds=1) for i in range(3))
    page = Page(render_page(comparison(strategies=rows)))
    (main,) = [t for t in page.headed("strategy") if t[0][1] == "quality"]
    assert main[2][1] == "0.500"
    assert "One seed (0): no spread and no test." in page.text
    assert len(page.headed("strategy")) == 1


def test_without_images_there_is_no_viewer():
    rows = tuple(
        dataclasses.replace(row, predictions=()) for row in comparison().strategies
    )
    page = Page(
        render_page(comparison(strategies=rows, image_ids=(), images=(), labels=()))
    )
    assert "viewer" not in page.ids()
    assert len(page.scripts) == 1


def test_disagreement_and_errors_by_hand():
    data = json.loads(
        next(s for s in Page(render_page(comparison())).scripts if s[0] == "{")
    )
    for i, image in enumerate(data["images"]):
        assert image["disagreement"] == pytest.approx(DISAGREEMENT[i], abs=1e-6)
        wrong = [columns[i] * 11 / 176 for columns in SHIFTS]
        assert image["errors"] == pytest.approx(wrong, abs=1e-6)
        assert (image["width"], image["height"]) == (16, 12)
    # What is predicted where the label is void counts nowhere.
    assert disagreement([shifted(0, void=0), shifted(0, void=1)], LABEL) == 0
    assert error_share(shifted(0, void=1), LABEL) == 0
    nothing = np.full((12, 16), VOID, np.uint8)
    assert np.isnan(disagreement([shifted(0), shifted(1)], nothing))
    page = Page(render_page(comparison(labels=(LABEL, nothing, LABEL))))
    data = json.loads(next(s for s in page.scripts if s[0] == "{"))
    assert data["images"][1]["disagreement"] is None
    assert data["images"][1]["errors"] == [None] * 3


def unpack(uri):
    kind, data = uri.split(";base64,")
    return kind, base64.b64decode(data)


@pytest.mark.parametrize(
    ("num_classes", "bits"), [(1, 1), (2, 2), (11, 4), (15, 4), (19, 8), (254, 8)]
)
def test_class_maps_come_back(num_classes, bits):
    label = np.arange(60, dtype=np.uint8).reshape(6, 10) % np.uint8(num_classes)
    label[2, 3:5] = VOID
    kind, data = unpack(encode_classes(label, num_classes))
    assert kind == "data:image/png"
    assert data[24] == bits  # PNG: bit depth
    assert data[25] == 3  # PNG: colour type, palette
    levels = np.asarray(Image.open(io.BytesIO(data)).convert("L"))
    step = 255 // num_classes
    expected = np.where(label == VOID, num_classes * step, label.astype(int) * step)
    np.testing.assert_array_equal(levels, expected)


def test_images_are_exact_unless_jpeg_is_much_smaller():
    flat = np.full((20, 30, 3), (1, 2, 3), np.uint8)
    kind, data = unpack(encode_image(flat))
    assert kind == "data:image/png"
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), flat)
    y, x = np.mgrid[:120, :160]
    waves = 128 + 60 * np.sin(x / 9) * np.cos(y / 7)
    grain = np.random.default_rng(0).normal(0, 2, (120, 160, 3))
    photo = (waves[..., None] + grain).clip(0, 255).astype(np.uint8)
    kind, data = unpack(encode_image(photo))
    assert kind == "data:image/jpeg"
    shown = np.asarray(Image.open(io.BytesIO(data))).astype(int)
    assert np.abs(shown - photo).mean() < 3


def test_forty_strategies():
    rows = tuple(strategy(f"strategy_{i}", index=i) for i in range(40))
    page = Page(render_page(comparison(strategies=rows)))
    (main,) = [t for t in page.headed("strategy") if t[0][1] == "quality"]
    assert len(main) == 2 + 40 + 1


def test_the_page_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "report.html"
    write_page(path, comparison())
    assert path.read_text(encoding="utf-8") == render_page(comparison())
    wrong = comparison(image_ids=("a", "b"))
    with pytest.raises(InputError, match="3 images but 2 image_ids"):
        write_page(path, wrong)
    assert path.read_text(encoding="utf-8") == render_page(comparison())
    assert list(path.parent.iterdir()) == [path]
    with pytest.raises(InputError, match=r"report\.html/report\.html cannot be writ"):
        write_page(path / "report.html", comparison())


def with_predictions(*predictions):
    first, *others = comparison().strategies
    first = dataclasses.replace(first, predictions=predictions)
    return {"strategies": (first, *others)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"strategies": ()}, "no strategies"),
        (with_predictions(LABEL), "first has 1 predictions for 3 images"),
        (
            with_predictions(LABEL, LABEL[:5], LABEL),
            r"prediction of first for 'c' is \(5, 16\); expected the label's \(12, 16",
        ),
        (
            with_predictions(LABEL, LABEL, LABEL + 3),
            "prediction of first for 'a' has value 3; expected 0..2 or 255",
        ),
        ({"labels": (LABEL, LABEL, LABEL.astype(int))}, "label of 'a' is int64"),
        ({"images": (np.zeros((4, 4), np.uint8),) * 3}, r"is uint8 \(4, 4\); expected"),
    ],
)
def test_parts_that_do_not_fit(changes, message):
    with pytest.raises(InputError, match=message):
        render_page(comparison(**changes))
