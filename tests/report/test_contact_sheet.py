"""Contact sheets: what is chosen, counted, drawn and written."""

import html
import json
import re

import numpy as np
import pytest
from PIL import Image

from segjax.data.labels import VOID, LabelTable
from segjax.errors import InputError
from segjax.report.contact_page import write_contact_page
from segjax.report.contact_sheet import (
    VOID_STRIPES,
    choose,
    counting_note,
    draw_sheet,
    make_sheet,
    striped,
)

TABLE = LabelTable(
    names=("black", "<b>", "never"),
    colors=((0, 0, 0), (200, 10, 20), (1, 2, 3)),
    raw_ids={0: 0, 1: 1, 2: 2, 255: VOID},
)


def example(name, *rows, width=4):
    label = np.repeat(np.uint8(rows)[:, None], width, axis=1)
    image = np.full((len(rows), width, 3), 90, np.uint8)
    return {"image": image, "label": label, "id": name}


SOURCE = [
    example("one", 0, 0, 0, 1),
    example("two", 1, 255),
    example("three", 255, 255, width=80),
    example("four", 0, 0),
]


def sheet(indices=(0, 2), **options):
    return make_sheet(SOURCE, indices, table=TABLE, title="mine, train", **options)


def test_spread_drawn_or_in_a_row():
    assert choose(100, 4) == [12, 37, 62, 87]
    assert choose(3, 12) == [0, 1, 2]
    assert choose(10, 3, first=8) == [8, 9]
    drawn = choose(1000, 20, seed=3)
    assert drawn == sorted(set(drawn)) == choose(1000, 20, seed=3)
    assert drawn != choose(1000, 20, seed=4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 0}, "count 0: expected at least 1"),
        ({"count": 1, "first": 0, "seed": 0}, "first and seed exclude each other"),
        ({"count": 1, "first": 4}, r"first 4: expected 0\.\.3"),
        ({"count": 1, "seed": -1}, "seed -1: expected 0 or more"),
    ],
)
def test_choices_that_are_none(options, message):
    with pytest.raises(InputError, match=message):
        choose(4, **options)


def test_frequencies():
    counted = sheet()
    # Rows of 4 pixels: 3 + 2 of black, 1 + 1 of <b>; void one of 4 and two of 80.
    assert counted.pixels.tolist() == [20, 8, 0]
    assert counted.images.tolist() == [2, 2, 0]
    assert counted.void == 4 + 160
    np.testing.assert_allclose(counted.shares, [20 / 28, 8 / 28, 0])
    assert counted.void_share == pytest.approx(164 / 192)
    assert counting_note(counted).startswith("2 of 4 examples, classes counted in all;")
    some = sheet(most=2)
    assert (some.counted, some.total) == (2, 4)
    assert some.pixels.tolist() == [8, 4, 0]  # the second and the fourth
    assert "counted in 2, spread evenly" in counting_note(some)


def test_only_void():
    with np.errstate(all="raise"):
        nothing = make_sheet(SOURCE[2:3], [0], table=TABLE, title="void")
        assert nothing.shares.tolist() == [0, 0, 0]
        assert nothing.void_share == 1


def test_progress_counts_to_the_end():
    seen = []
    sheet(progress=lambda *counts: seen.append(counts))
    assert seen == [(1, 6), (2, 6), (3, 6), (4, 6), (6, 6)]


def test_large_examples_are_shown_smaller():
    shown = sheet(max_side=40)
    assert shown.examples[1]["label"].shape == (1, 40)
    assert shown.examples[1]["image"].shape == (1, 40, 3)
    assert shown.sizes[1] == (2, 80)
    assert set(np.unique(shown.examples[1]["label"])) == {VOID}
    assert shown.examples[0]["label"].shape == (4, 4)


def test_void_is_striped_and_black_is_not():
    picture = striped(np.uint8([[0, 1, 255, 255]] * 2), TABLE)
    np.testing.assert_array_equal(picture[:, :2], [[[0, 0, 0], [200, 10, 20]]] * 2)
    stripes = {tuple(pixel) for pixel in picture[:, 2:].reshape(-1, 3).tolist()}
    assert stripes == set(VOID_STRIPES)


def test_png(tmp_path):
    path = draw_sheet(tmp_path / "new/sheet.png", sheet())
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    colors = {tuple(color) for color in np.unique(pixels, axis=0).tolist()}
    assert {(200, 10, 20), (90, 90, 90), *VOID_STRIPES} <= colors
    assert [file.name for file in path.parent.iterdir()] == ["sheet.png"]


def page(tmp_path):
    path = tmp_path / "sheet.html"
    return write_contact_page(path, sheet(), command="python -m segjax data show x")


def test_page_holds_all_that_it_needs(tmp_path):
    text = page(tmp_path).read_text()
    assert not re.search(r"(src|href)=\"(?!data:|#)", text)
    assert "default-src 'none'" in text
    assert "<b>" not in text.split("<script")[0]
    assert html.escape("<b>") in text
    found = re.search(r'id="data">(.*?)</script>', text, re.S)
    data = json.loads(found[1])
    assert [c["name"] for c in data["classes"]] == list(TABLE.names)
    assert [(i["width"], i["height"]) for i in data["images"]] == [(4, 4), (80, 2)]


def test_nothing_is_left_where_it_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        draw_sheet(tmp_path / "file/sheet.png", sheet())


def test_page_in_a_browser(tmp_path):
    from chromium import Watched, running_browser

    path = page(tmp_path)
    with running_browser() as browser:
        watched = Watched(browser)
        opened = watched.open(path.as_uri())
        opened.wait_for_selector("html[data-ready]")
        pixels = """index => {
            const canvas = document.querySelectorAll('[data-kind=label] canvas')[index];
            const data = canvas.getContext('2d').getImageData(0, 0, 4, canvas.height);
            return [...Array(canvas.height).keys()].map(
                y => [...data.data.slice(16 * y, 16 * y + 4)]);
        }"""
        black, red = [0, 0, 0, 255], [200, 10, 20, 255]
        assert opened.evaluate(pixels, 0) == [black, black, black, red]
        stripes = [[*color, 255] for color in VOID_STRIPES]
        assert all(pixel in stripes for pixel in opened.evaluate(pixels, 1))
        opened.click(".pick[data-class='1']")
        clear = [0, 0, 0, 0]
        assert opened.evaluate(pixels, 0) == [clear, clear, clear, red]
        assert opened.evaluate(pixels, 1) == [clear, clear]
        opened.keyboard.press("Escape")
        assert opened.evaluate(pixels, 0) == [black, black, black, red]
        opened.hover(
            ".card:first-child [data-kind=label] .frame", position={"x": 3, "y": 3}
        )
        assert opened.inner_text(".card:first-child .readout") == "black"
        opened.click("[data-view=over]")
        assert not opened.is_visible(".card:first-child [data-kind=image]")
        # Reading pixels back, as this test does, makes Chromium give advice.
        assert [text for text in watched.heard if "getImageData" not in text] == []
        asked = [url for url in watched.asked if not url.startswith("data:")]
        assert asked == [path.as_uri()]
        watched.close()
