"""The report page in a browser without a window: what a reader clicks, works."""

import pytest
from chromium import Watched, running_browser
from page_sample import IMAGE_IDS, comparison

from segjax.report.page import write_page

pytestmark = pytest.mark.slow

RED, GREY, BLACK = [214, 39, 40, 255], [235, 235, 235, 255], [0, 0, 0, 255]
B, C, A = IMAGE_IDS  # by disagreement: A (3 columns), C (2), B (none)


@pytest.fixture(scope="module")
def browser():
    with running_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_page(path, comparison())
    return path.as_uri()


@pytest.fixture
def open_page(browser, address):
    """Opens the page; at the end checks that it was quiet and asked for nothing."""
    watched = Watched(browser)

    def opened(**options):
        page = watched.open(address, **options)
        shown(page)
        return page

    yield opened
    watched.close()
    assert watched.heard == []
    assert [url for url in watched.asked if not url.startswith("data:")] == (
        [address] * len(watched.contexts)
    )


@pytest.fixture
def page(open_page):
    return open_page()


def shown(page):
    """Name of the image that the panes show, as soon as they do."""
    page.wait_for_selector("#viewer-root[data-shown]")
    return page.get_attribute("#viewer-root", "data-shown")


def click(page, selector):
    page.click(selector)
    return shown(page)


def pane(strategy, kind):
    card = f"[data-strategy='{strategy}']" if strategy is not None else ":first-child"
    return f".card{card} .pane[data-kind={kind}]"


def pixel(page, where, column, row):
    """Red, green, blue, alpha of a canvas, which has one pixel per label pixel."""
    return page.eval_on_selector(
        f"{where} canvas",
        """(canvas, [x, y]) => {
          const copy = document.createElement("canvas").getContext("2d");
          copy.drawImage(canvas, -x, -y);
          return [...copy.getImageData(0, 0, 1, 1).data];
        }""",
        [column, row],
    )


def stages(page):
    """For all visible panes: (left, top, width, height) of the stage in its frame,
    in widths and heights of the frame."""
    return page.eval_on_selector_all(
        ".frame",
        """(frames) => frames.filter((frame) => frame.clientWidth).map((frame) => {
          const outer = frame.getBoundingClientRect();
          const inner = frame.querySelector(".stage").getBoundingClientRect();
          return [(inner.left - outer.left) / outer.width,
                  (inner.top - outer.top) / outer.height,
                  inner.width / outer.width, inner.height / outer.height];
        })""",
    )


def in_sync(page):
    """Checks that every pane shows the same place and returns it."""
    first, *others = stages(page)
    assert len(others) == 7  # image, label, and two for each of three strategies
    for other in others:
        assert other == pytest.approx(first, abs=1e-3)
    return first


def test_images_are_flipped_through(page):
    assert shown(page) == A
    assert page.inner_text(".counter") == f"1 / 3 · {A}"
    assert click(page, "[data-do=next]") == C
    assert click(page, "[data-do=next]") == B
    assert page.inner_text(".counter") == f"3 / 3 · {B}"
    assert click(page, "[data-do=next]") == A
    assert click(page, "[data-do=previous]") == B
    assert click(page, f".thumbs button[title='{C}']") == C
    page.keyboard.press("ArrowLeft")
    assert shown(page) == A
    page.keyboard.press("ArrowRight")
    assert shown(page) == C


def test_error_map_marks_wrong_pixels_and_never_void(page):
    # In A the first strategy is 3 columns off: 8, 9 and 10 are wrong, row 11 is void.
    where = pane(0, "errors")
    assert [pixel(page, where, x, 5) for x in (7, 8, 10, 11)] == [GREY, RED, RED, GREY]
    assert [pixel(page, where, x, 11) for x in range(16)] == [BLACK] * 16
    assert pixel(page, pane(1, "errors"), 8, 5) == GREY  # the second is right
    # Class colours, also where a class is as black as void.
    assert pixel(page, pane(0, "prediction"), 9, 5) == [0, 0, 0, 255]
    assert pixel(page, pane(1, "prediction"), 9, 5) == [200, 20, 220, 255]
    assert pixel(page, pane(None, "label"), 9, 5) == [200, 20, 220, 255]
    assert pixel(page, pane(None, "label"), 9, 11) == BLACK
    # 33 of 176 labelled pixels.
    assert page.inner_text(f"{where} .kind") == "errors 18.8 %"


def test_layers_are_toggled(page):
    for layer, where in {
        "image": pane(None, "image"),
        "label": pane(None, "label"),
        "prediction": pane(1, "prediction"),
        "errors": pane(1, "errors"),
    }.items():
        button = f"[data-layer={layer}]"
        assert page.is_visible(where)
        page.click(button)
        assert not page.is_visible(where)
        assert page.get_attribute(button, "aria-pressed") == "false"
        page.keyboard.press(layer[0])
        assert page.is_visible(where)


def test_overlay_shows_the_image_beneath(page):
    image = f"{pane(0, 'errors')} img"
    canvas = f"{pane(0, 'errors')} canvas"
    opacity = "(element) => getComputedStyle(element).opacity"
    visibility = "(element) => getComputedStyle(element).visibility"
    assert page.eval_on_selector(image, visibility) == "hidden"
    assert page.is_disabled(".opacity")
    page.click("[data-layer=overlay]")
    assert page.eval_on_selector(image, visibility) == "visible"
    page.fill(".opacity", "25")
    assert float(page.eval_on_selector(canvas, opacity)) == 0.25
    # What is right lets the image through.
    assert pixel(page, pane(0, "errors"), 8, 5) == RED
    assert pixel(page, pane(0, "errors"), 7, 5)[3] == 0
    page.click("[data-layer=overlay]")
    assert float(page.eval_on_selector(canvas, opacity)) == 1
    assert pixel(page, pane(0, "errors"), 7, 5) == GREY


def test_zoom_and_pan_move_all_panes_together(page):
    assert in_sync(page) == pytest.approx([0, 0, 1, 1], abs=1e-3)
    click(page, "[data-do=in]")
    left, top, width, height = in_sync(page)
    assert (width, height) == pytest.approx((1.5, 1.5), abs=1e-3)
    assert (left, top) == pytest.approx((-0.25, -0.25), abs=1e-3)

    # The wheel keeps the place under the mouse: a quarter from the left, mid-height.
    page.locator(pane(2, "errors")).scroll_into_view_if_needed()
    page.wait_for_timeout(350)  # a wheel that goes on scrolling does not zoom
    frame = page.locator(f"{pane(2, 'errors')} .frame").bounding_box()
    mouse = (frame["x"] + frame["width"] / 4, frame["y"] + frame["height"] / 2)
    page.mouse.move(*mouse)
    page.mouse.wheel(0, -300)
    page.wait_for_function(
        "!document.querySelector('.zoom').textContent.startsWith('1.5')"
    )
    after = in_sync(page)
    assert after[2] > 2
    assert (0.25 - after[0]) / after[2] == pytest.approx((0.25 + 0.25) / 1.5, abs=2e-3)

    # A drag by a tenth of the frame.
    page.mouse.down()
    page.mouse.move(mouse[0] + frame["width"] / 10, mouse[1])
    page.mouse.up()
    dragged = in_sync(page)
    assert dragged[0] - after[0] == pytest.approx(0.1, abs=5e-3)
    assert dragged[1:] == pytest.approx(after[1:], abs=1e-3)

    # Nothing beyond the image's edge comes into view.
    page.mouse.down()
    page.mouse.move(mouse[0] + 30 * frame["width"], mouse[1], steps=3)
    page.mouse.up()
    assert in_sync(page)[0] == pytest.approx(0, abs=1e-3)

    click(page, "[data-do=out]")
    click(page, "[data-do=fit]")
    assert in_sync(page) == pytest.approx([0, 0, 1, 1], abs=1e-3)
    page.keyboard.press("+")
    assert in_sync(page)[2] == pytest.approx(1.5, abs=1e-3)
    click(page, "[data-do=next]")  # another image starts whole
    assert in_sync(page) == pytest.approx([0, 0, 1, 1], abs=1e-3)


def test_magnified_pixels_stay_squares(page):
    rendering = "(element) => getComputedStyle(element).imageRendering"
    where = f"{pane(0, 'prediction')} canvas"
    assert page.eval_on_selector(where, rendering) == "pixelated"


def test_next_boundary_goes_to_where_strategies_differ(page):
    click(page, "[data-do=boundary]")
    # In A columns 8, 9 and 10 differ, only 8 is next to the boundary between 7 and 8
    # (0.75 % of 20 pixels rounds up to one). Tiles are 8 pixels high: rows 0..7 come
    # before rows 8..10. Centre: column 8.5 of 16, row 4 of 12; magnified twice.
    left, top, width, _ = in_sync(page)
    assert width == pytest.approx(2, abs=1e-3)
    assert (0.5 - left) / width == pytest.approx(8.5 / 16, abs=2e-3)
    assert (0.5 - top) / width == pytest.approx(4 / 12, abs=2e-3)
    assert page.inner_text(".spot") == "1 of 2"
    click(page, "[data-do=boundary]")
    left, top, width, _ = in_sync(page)
    # Column 8.5 again: beside void is not beside a boundary.
    assert (0.5 - left) / width == pytest.approx(8.5 / 16, abs=2e-3)
    assert (0.5 - top) / width == pytest.approx(9.5 / 12, abs=0.05)
    assert page.inner_text(".spot") == "2 of 2"
    click(page, f".thumbs button[title^='{B[0]}']")  # there all agree
    click(page, "[data-do=boundary]")
    assert page.inner_text(".spot") == "no difference at a boundary"


def order(page):
    return page.eval_on_selector_all(
        ".thumbs button", "(buttons) => buttons.map((button) => button.title)"
    )


def test_images_are_sorted(page):
    # Worked out by hand in page_sample: SHIFTS and DISAGREEMENT.
    assert order(page) == [A, C, B]
    shares = page.locator(".thumbs button").all_inner_texts()
    assert [share.strip() for share in shares] == ["18.8 %", "12.5 %", "0.0 %"]
    page.select_option(".sort", "name")
    assert order(page) == [A, B, C]
    assert shown(page) == A
    page.select_option(".sort", label="error of 2 seg<b>net</b>")  # 1, 0, 0 columns
    assert order(page) == [B, C, A]
    assert shown(page) == B
    page.select_option(".sort", label="error of 3 third")  # 1, 2, 1 columns
    assert order(page) == [C, B, A]
    page.select_option(".sort", "disagreement")
    assert order(page) == [A, C, B]


def test_hovering_names_the_class_in_every_pane(page):
    page.locator(pane(2, "errors")).scroll_into_view_if_needed()

    def hover(column, row):
        box = page.locator(f"{pane(2, 'errors')} .frame").bounding_box()
        x = box["x"] + (column + 0.5) / 16 * box["width"]
        page.mouse.move(x, box["y"] + (row + 0.5) / 12 * box["height"])
        return page.locator(".readout").all_inner_texts()

    # A: the strategies are 3, 0 and 1 columns off.
    assert hover(8, 5) == [
        *("column 8, row 5", "road"),
        *("sky", "wrong", "road", "right", "sky", "wrong"),
    ]
    assert hover(8, 11)[1:4] == ["void", "<i>pole</i>", "void"]
    page.mouse.move(1, 1)
    assert page.locator(".readout").all_inner_texts() == [""] * 8


def test_strategies_are_left_out(page):
    page.click(".choose summary")
    page.uncheck("#choice-0")
    assert not page.is_visible(pane(0, "prediction"))
    # Without the first, A differs in one column, which is at the boundary.
    click(page, "[data-do=boundary]")
    assert page.inner_text(".spot") == "1 of 2"
    page.uncheck("#choice-2")
    click(page, "[data-do=boundary]")
    assert page.inner_text(".spot") == "no difference at a boundary"


def column(page, index):
    """Text of a column of the main table, from the top."""
    return page.eval_on_selector(
        "#results table",
        """(table, index) =>
          [...table.tBodies[0].rows].map((row) => row.cells[index].innerText.split(/\\s/)[0])
        """,
        index,
    )


def test_tables_are_sorted(page):
    def press(title):
        page.locator("#results table").first.get_by_role("button", name=title).click()

    assert column(page, 0) == ["1", "2", "3"]
    press("mIoU")  # the highest first
    assert column(page, 0) == ["2", "1", "3"]
    assert column(page, 1) == ["0.710**", "0.600", "0.350"]
    press("mIoU")
    assert column(page, 0) == ["3", "1", "2"]
    press("inference, ms")  # the lowest first
    assert column(page, 0) == ["1", "2", "3"]
    assert column(page, 12) == ["52.6", "105", "158"]
    press("inference, ms")
    assert column(page, 0) == ["3", "2", "1"]
    heads = page.locator("#results table").first.locator("th[aria-sort]")
    sorts = heads.evaluate_all("(all) => all.map((head) => head.ariaSort)")
    assert sorts.count("descending") == 1
    assert sorts.count("none") == len(sorts) - 1
    press("IoU of thin classes")  # has a value in one row only: that comes first
    assert column(page, 0)[0] == "2"
    press("IoU of thin classes")
    assert column(page, 0)[0] == "2"
    press("strategy")
    assert column(page, 0) == ["1", "2", "3"]


@pytest.mark.parametrize("width", [375, 1300])
def test_the_page_does_not_overflow(open_page, width):
    page = open_page(viewport={"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") == width
    # The wide table scrolls in its own container.
    box = page.locator("#results .scroll").first.bounding_box()
    assert box["x"] + box["width"] <= width
    lefts = page.locator(".card").evaluate_all(
        "(cards) => cards.map((card) => card.getBoundingClientRect().left)"
    )
    assert len(set(lefts)) == (1 if width == 375 else 3)  # panes are stacked, or not


def test_touch(open_page):
    page = open_page(viewport={"width": 375, "height": 800}, has_touch=True)
    frame = page.locator(f"{pane(0, 'prediction')} .frame")
    frame.scroll_into_view_if_needed()
    box = frame.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    session = page.context.new_cdp_session(page)

    def touch(kind, *points):
        fingers = [{"x": px, "y": py, "id": i} for i, (px, py) in enumerate(points)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": fingers})

    # Fingers move apart to twice the distance.
    touch("touchStart", (x - 20, y), (x + 20, y))
    for reach in (25, 30, 35, 40):
        touch("touchMove", (x - reach, y), (x + reach, y))
    touch("touchEnd")
    assert in_sync(page)[2] == pytest.approx(2, abs=0.05)
    assert shown(page) == A

    # One finger moves what is magnified, and flips images when nothing is.
    before = in_sync(page)
    touch("touchStart", (x, y))
    for distance in (20, 40, 60):
        touch("touchMove", (x - distance, y))
    touch("touchEnd")
    assert in_sync(page)[0] < before[0]
    assert shown(page) == A
    click(page, "[data-do=fit]")
    touch("touchStart", (x, y))
    for distance in (20, 40, 60):
        touch("touchMove", (x - distance, y))
    touch("touchEnd")
    page.wait_for_selector(f"#viewer-root[data-shown='{C}']")


def test_print_shows_results_and_panes_but_no_controls(page):
    page.emulate_media(media="print")
    for gone in (".navigate", ".thumbs", ".toggles", ".sort", "nav"):
        assert not page.is_visible(gone)
    assert page.is_visible("#results table")
    assert page.is_visible(pane(2, "errors"))
    overflow = "(element) => getComputedStyle(element).overflowX"
    assert page.eval_on_selector("#results .scroll", overflow) == "visible"
    # An A4 page across, less its margins, holds the widest table.
    page.set_viewport_size({"width": 1032, "height": 700})
    for scroll in page.locator(".scroll").all():
        assert scroll.locator("table").evaluate("(table) => table.offsetWidth") <= 1032
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not(.choose)[open]").count() == 4
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details[open]").count() == 0


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
    channels = """(element, name) =>
      getComputedStyle(element)[name].match(/[\\d.]+/g).slice(0, 3).map(Number)"""
    for text, ground in {
        "body": "body",
        ".split": "body",
        ".note": "body",
        "nav a": "body",
        "tbody th small": "tbody th",
        "thead .group": "thead .group",
        "[data-layer=image]": "[data-layer=image]",
        ".caption": ".card",
    }.items():
        levels = [
            luminance(page.eval_on_selector(text, channels, "color")),
            luminance(page.eval_on_selector(ground, channels, "backgroundColor")),
        ]
        assert (max(levels) + 0.05) / (min(levels) + 0.05) >= 4.5, text
        if text == "body":
            assert (levels[0] > levels[1]) == (scheme == "dark")


def test_controls_have_names_and_take_the_keyboard(page):
    controls = page.locator("button, input, select, summary, [role=group], canvas")
    for control in controls.all():
        name = control.evaluate(
            """(element) => element.ariaLabel || element.textContent
              || element.labels?.[0]?.textContent"""
        )
        assert name.strip()
    for scroll in page.locator(".scroll").all():
        assert scroll.get_attribute("tabindex") == "0"
        assert scroll.get_attribute("aria-label")
    page.focus("[data-do=next]")
    page.keyboard.press("Enter")
    page.wait_for_selector(f"#viewer-root[data-shown='{C}']")
