"""The page in a browser without a window: an image dropped on it becomes a picture."""

import base64
import io

import numpy as np
import pytest
from chromium import Watched, running_browser
from page_server import MARKUP, TABLE, served_runs, serving
from PIL import Image

from segjax.inference.label_files import read_label
from segjax.inference.predictor import predict_image

pytestmark = pytest.mark.slow

# Three stripes of 16 columns. By the thresholds of `served_runs` the first network
# labels them 0 1 2; the second, which sees 16 columns in all, 0 1 1.
IMAGE = np.zeros((24, 48, 3), np.uint8)
IMAGE[:] = np.repeat([40, 130, 220], 16)[:, None]
IMAGE[..., 1:] = 60


def predicted(run, image=IMAGE):
    """The label that the page must show."""
    predictor = served_runs()[run].predictor
    scores = predict_image(predictor, image, image_size=predictor.image_size)
    return scores.argmax(axis=-1)


def png(image=IMAGE):
    file = io.BytesIO()
    Image.fromarray(image).save(file, format="PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def browser():
    with running_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def port():
    with serving(served_runs()) as port:
        yield port


@pytest.fixture
def open_page(browser, port):
    """Opens the page; at the end checks that it was quiet and asked only its server."""
    watched = Watched(browser)

    def opened(*, address=f"http://localhost:{port}/", **options):
        page = watched.open(address, **options)
        page.wait_for_selector("body[data-ready]")
        return page

    yield opened
    watched.close()
    # Chromium itself notes every answer that is an error, or does not come.
    assert [t for t in watched.heard if not t.startswith("Failed to load")] == []
    for url in watched.asked:
        assert url.startswith(("http://localhost:", "blob:http://localhost:"))


@pytest.fixture
def page(open_page):
    return open_page()


def give(page, data, *, name="stripes.png", event="drop"):
    """Drops or pastes a file and waits until the page has dealt with it."""
    page.evaluate(
        """([data, name, kind]) => {
          const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
          const transfer = new DataTransfer();
          transfer.items.add(new File([bytes], name));
          const event = kind === "paste"
            ? new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true })
            : new DragEvent(kind, { dataTransfer: transfer, bubbles: true, cancelable: true });
          document.body.dispatchEvent(event);
        }""",
        [base64.b64encode(data).decode(), name, event],
    )
    page.wait_for_selector("body:not(.busy)")


def card(run):
    return f".card:nth-child({run + 1})"


def canvas_pixel(page, run, column, row=5):
    """Red, green, blue, alpha of the class map, one pixel per pixel of the image."""
    return page.eval_on_selector(
        f"{card(run)} canvas",
        """(canvas, [x, y]) => {
          const copy = document.createElement("canvas").getContext("2d");
          copy.drawImage(canvas, -x, -y);
          return [...copy.getImageData(0, 0, 1, 1).data];
        }""",
        [column, row],
    )


def seen_pixel(page, run, column, row=5):
    """Red, green and blue on the screen at a pixel of the image."""
    with Image.open(
        io.BytesIO(page.locator(f"{card(run)} .frame").screenshot())
    ) as shot:
        colors = np.asarray(shot.convert("RGB"))
    x = int((column + 0.5) / IMAGE.shape[1] * colors.shape[1])
    y = int((row + 0.5) / IMAGE.shape[0] * colors.shape[0])
    return colors[y, x].astype(int)


def error(page):
    return page.inner_text(".error span") if page.is_visible(".error") else None


def shares(page):
    rows = page.locator(".classes tbody tr").all()
    return [row.locator("td").all_inner_texts() for row in rows]


def test_a_dropped_image_is_labelled_by_all_networks(page):
    assert page.is_visible(".drop")
    assert not page.is_visible(".work")
    give(page, png())
    assert error(page) is None
    assert not page.is_visible(".drop")
    assert page.inner_text(".counter .name") == "stripes.png"
    assert page.inner_text(".counter .extent") == "24 \u00d7 48"
    for run, classes in enumerate([(0, 1, 2), (0, 1, 1)]):
        for stripe, train_id in enumerate(classes):
            expected = [*TABLE.colors[train_id], 255]
            assert canvas_pixel(page, run, 16 * stripe + 8) == expected
        assert page.inner_text(f"{card(run)} .time").endswith(("ms", "s", "compiling"))
        assert not page.is_visible(f"{card(run)} .state")
    second = [f"{100 * np.mean(predicted(1) == c):.1f} %" for c in range(3)]
    assert second[2] == "0.0 %"
    assert shares(page) == [["33.3 %", share] for share in second]


def test_a_pasted_and_a_chosen_image_are_taken(page):
    give(page, png(), name="pasted.png", event="paste")
    assert page.inner_text(".counter .name") == "pasted.png"
    chosen = {"name": "chosen.png", "mimeType": "image/png", "buffer": png(IMAGE[:8])}
    page.set_input_files(".file", chosen)
    page.wait_for_selector("body:not(.busy)")
    assert page.inner_text(".counter") == "chosen.png 8 \u00d7 48"
    assert page.locator(f"{card(0)} canvas").get_attribute("height") == "8"


def test_the_slider_mixes_picture_and_colours(page):
    give(page, png())
    page.mouse.move(1, 1)
    for percent in (0, 25, 100):
        page.fill(".opacity", str(percent))
        for column, train_id in ((8, 0), (24, 1)):
            picture, color = IMAGE[5, column], np.array(TABLE.colors[train_id])
            expected = picture + percent / 100 * (color - picture)
            assert np.abs(seen_pixel(page, 0, column) - expected).max() <= 2
    page.keyboard.press("h")
    assert np.abs(seen_pixel(page, 0, 8) - IMAGE[5, 8]).max() <= 2


def test_names_are_text(page):
    give(page, png(), name="<b>.png")
    assert page.inner_text(".counter .name") == "<b>.png"
    buttons = page.locator(".classes tbody button").all_inner_texts()
    assert [text.strip() for text in buttons] == list(TABLE.names)
    assert page.inner_text(f"{card(1)} .title") == "late<b>"
    titles = page.locator("figcaption").first.get_attribute("title")
    assert titles == f"runs/{MARKUP}, step 7"
    assert page.locator("main b, img[onerror]").count() == 0
    give(page, b"nothing", name=MARKUP)
    assert error(page).startswith(f"{MARKUP}: not a readable image")
    assert page.locator("img[onerror]").count() == 0


def test_pressing_a_class_shows_it_alone(page):
    give(page, png())
    button = ".classes tbody tr:nth-child({}) button".format

    def visible():
        return [canvas_pixel(page, 0, 16 * stripe)[3] == 255 for stripe in range(3)]

    page.click(button(2))
    assert visible() == [False, True, False]
    # The second network calls two stripes so.
    assert canvas_pixel(page, 1, 40)[3] == 255
    assert page.get_attribute(button(2), "aria-pressed") == "true"
    page.click(button(3), modifiers=["Shift"])
    assert visible() == [False, True, True]
    page.click(button(1))
    assert visible() == [True, False, False]
    page.click(button(1))
    assert visible() == [True, True, True]
    page.click(button(3))
    page.keyboard.press("Escape")
    assert visible() == [True, True, True]
    assert page.is_disabled("[data-do=all]")


def test_hovering_names_the_class_in_every_picture(page):
    give(page, png())

    def hover(column, row):
        box = page.locator(f"{card(1)} .frame").bounding_box()
        x = box["x"] + (column + 0.5) / 48 * box["width"]
        page.mouse.move(x, box["y"] + (row + 0.5) / 24 * box["height"])
        under = page.locator(".classes .under button").all_inner_texts()
        return page.locator(".readout").all_inner_texts(), [u.strip() for u in under]

    assert hover(8, 5) == (["dark", "dark"], ["dark"])
    assert hover(40, 5) == (["bright", MARKUP], [MARKUP, "bright"])
    page.mouse.move(1, 1)
    assert page.locator(".readout").all_inner_texts() == ["", ""]


def stages(page):
    """For all pictures: (left, top, width) of the stage in widths of its frame."""
    return page.eval_on_selector_all(
        ".frame",
        """(frames) => frames.map((frame) => {
          const outer = frame.getBoundingClientRect();
          const inner = frame.querySelector(".stage").getBoundingClientRect();
          return [(inner.left - outer.left) / outer.width,
                  (inner.top - outer.top) / outer.height,
                  inner.width / outer.width];
        })""",
    )


def test_zoom_and_pan_move_both_pictures(page):
    give(page, png())
    first, second = (
        page.locator(f"{card(run)} .frame").bounding_box() for run in (0, 1)
    )
    assert first["y"] == second["y"]
    assert first["x"] + first["width"] < second["x"]
    page.click("[data-do=in]")
    page.mouse.move(second["x"] + second["width"] / 2, second["y"] + 60)
    page.mouse.down()
    page.mouse.move(second["x"] + second["width"] * 0.6, second["y"] + 60)
    page.mouse.up()
    one, other = stages(page)
    assert one == pytest.approx(other, abs=1e-3)
    assert one == pytest.approx([-0.15, -0.25, 1.5], abs=5e-3)
    page.keyboard.press("ArrowRight")
    assert stages(page)[0][0] == pytest.approx(-0.25, abs=5e-3)
    page.keyboard.press("0")
    assert stages(page)[1] == pytest.approx([0, 0, 1], abs=1e-3)


def test_differences_of_the_networks(page):
    give(page, png())
    share = np.mean(predicted(0) != predicted(1))
    assert page.inner_text(".differ") == f"Differences {100 * share:.1f} %"
    page.click(".differ")
    for run in (0, 1):
        assert [canvas_pixel(page, run, x)[3] for x in (8, 24, 40)] == [0, 0, 255]
    page.keyboard.press("d")
    assert canvas_pixel(page, 0, 8)[3] == 255
    page.click(".decoders button:nth-child(2)")
    assert page.is_disabled(".differ")


def test_networks_are_shown_and_hidden(page):
    toggle = ".decoders button:nth-child({})".format
    give(page, png(IMAGE[:12]))
    page.click(toggle(2))
    give(page, png())
    assert page.is_visible(card(0))
    assert not page.is_visible(card(1))
    assert shares(page) == [["33.3 %"]] * 3
    page.keyboard.press("2")  # is labelled now, which it was not before
    page.wait_for_selector("body:not(.busy)")
    page.wait_for_selector(f"{card(1)} .time:not(:empty)")
    assert canvas_pixel(page, 1, 40) == [*TABLE.colors[1], 255]
    page.click(toggle(1))
    page.click(toggle(2))  # the last one stays
    assert page.is_visible(card(1))
    assert page.get_attribute(toggle(2), "aria-pressed") == "true"


def test_the_own_size_is_another_input(page):
    # Narrow lines vanish at 16 columns and do not at the image's own size.
    lines = IMAGE.copy()
    lines[..., 0] = 0
    lines[:, ::3, 0] = 255
    give(page, png(lines))
    assert shares(page)[2][1] == "0.0 %"
    page.select_option(".seen select", "1")
    page.wait_for_selector("body:not(.busy)")
    assert shares(page)[2][1] == "33.3 %"


def test_downloads(page, tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (24, 48, 3), np.uint8)
    give(page, png(image), name="a b.jpeg.png")
    for run, name in enumerate(["thirds", "late_b_"]):
        with page.expect_download() as download:
            page.click(f"{card(run)} [data-save=label]")
        assert download.value.suggested_filename == f"a b.jpeg.{name}.png"
        download.value.save_as(tmp_path / "label.png")
        label = predicted(run, image)
        np.testing.assert_array_equal(read_label(tmp_path / "label.png"), label)

    page.fill(".opacity", "40")
    page.click(".classes tbody tr:first-child button")
    page.click("[data-do=in]")
    with page.expect_download() as download:
        page.click(f"{card(1)} [data-save=overlay]")
    assert download.value.suggested_filename == "a b.jpeg.late_b_.overlay.png"
    download.value.save_as(tmp_path / "overlay.png")
    with Image.open(tmp_path / "overlay.png") as picture:
        overlay = np.asarray(picture.convert("RGB")).astype(int)
    mixed = 0.6 * image + 0.4 * np.array(TABLE.colors[0])
    expected = np.where((label == 0)[..., None], mixed, image)
    assert overlay.shape == image.shape
    assert np.abs(overlay - expected).max() <= 1.5


def test_what_the_browser_cannot_show_is_shown(page):
    file = io.BytesIO()
    Image.fromarray(IMAGE).save(file, format="TIFF")
    give(page, file.getvalue(), name="stripes.tif")
    page.fill(".opacity", "0")
    assert np.abs(seen_pixel(page, 0, 8) - IMAGE[5, 8]).max() <= 2


def test_errors_are_one_line_and_the_last_image_stays(page):
    give(page, b"nothing", name="empty.png")
    assert page.is_visible(".drop")
    assert error(page).startswith("empty.png: not a readable image; expected PNG")
    give(page, png())
    assert error(page) is None
    for data, message in {
        b"": "bad: the file is empty",
        png()[:60]: "bad: not a readable image",
        bytes(60_001): "bad: more than 0.06 MB, the limit of this page",
        png(np.zeros((400, 101, 3), np.uint8)): "bad: 400x101 pixels",
    }.items():
        give(page, data, name="bad")
        assert error(page).startswith(message)
        assert page.inner_text(".counter .name") == "stripes.png"
        assert canvas_pixel(page, 0, 24) == [*TABLE.colors[1], 255]
    page.click(".error button")
    assert error(page) is None


def test_a_network_that_cannot_take_the_image_says_so(page):
    give(page, png(np.zeros((13, 20, 3), np.uint8)))
    state = page.inner_text(f"{card(0)} .state")
    assert state.startswith(
        "image of 13x20 pixels: the network cannot take it: 13 rows"
    )
    assert page.is_disabled(f"{card(0)} [data-save=label]")
    assert canvas_pixel(page, 1, 5) == [*TABLE.colors[0], 255]
    give(page, png())
    assert not page.is_visible(f"{card(0)} .state")


def test_a_server_that_is_gone_is_named(open_page):
    with serving(served_runs()[:1]) as port:
        page = open_page(address=f"http://localhost:{port}/")
        # One network has nothing to compare or to choose.
        assert not page.is_visible(".decoders")
        give(page, png())
        assert not page.is_visible(".differ")
        assert not page.is_visible(".seen")
    page.context.set_offline(True)
    give(page, png(), name="late.png")
    assert error(page) == "late.png: the server does not answer; is it still running?"


@pytest.mark.parametrize("width", [360, 1300])
def test_the_page_does_not_overflow(open_page, width):
    page = open_page(viewport={"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") == width
    give(page, png(), name="a_very_long_name_without_any_space_in_it" * 3)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    boxes = [page.locator(card(run)).bounding_box() for run in (0, 1)]
    assert (boxes[0]["x"] == boxes[1]["x"]) == (width == 360)


def test_a_finger_names_the_class(open_page):
    page = open_page(viewport={"width": 375, "height": 800}, has_touch=True)
    give(page, png())
    box = page.locator(f"{card(0)} .frame").bounding_box()
    page.touchscreen.tap(box["x"] + 0.9 * box["width"], box["y"] + 0.5 * box["height"])
    assert page.locator(".readout").all_inner_texts() == ["bright", MARKUP]


def luminance(rgb):
    """Relative luminance of 0..255 values, WCAG 2."""
    linear = [
        v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4
        for v in (c / 255 for c in rgb)
    ]
    return sum(w * v for w, v in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast(open_page, scheme):
    page = open_page(color_scheme=scheme)
    give(page, png())
    give(page, b"nothing", name="bad")
    channels = """(element, name) =>
      getComputedStyle(element)[name].match(/[\\d.]+/g).slice(0, 3).map(Number)"""
    for text, ground in {
        "body": "body",
        ".about": "body",
        ".error span": ".error",
        ".primary": ".primary",
        ".decoders button": ".decoders button",
        ".extent": "body",
        ".time": ".card",
        ".classes td": "body",
        ".hint": "body",
    }.items():
        levels = [
            luminance(page.eval_on_selector(text, channels, "color")),
            luminance(page.eval_on_selector(ground, channels, "backgroundColor")),
        ]
        assert (max(levels) + 0.05) / (min(levels) + 0.05) >= 4.5, text
        if text == "body":
            assert (levels[0] > levels[1]) == (scheme == "dark")


def test_controls_have_names(page):
    give(page, png())
    for control in page.locator("button, input, select, [role=group], canvas").all():
        name = control.evaluate(
            """(element) => element.ariaLabel || element.textContent
              || element.labels?.[0]?.textContent"""
        )
        assert name.strip()
