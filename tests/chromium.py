"""Chromium without a window; a test module that imports this is skipped without it."""

import contextlib
import dataclasses
import shutil

import pytest

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))),
    None,
)
if CHROMIUM is None:
    pytest.skip("no chromium on this machine", allow_module_level=True)
playwright = pytest.importorskip(
    "playwright.sync_api", reason="the Python package playwright is not installed"
)

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@contextlib.contextmanager
def running_browser():
    with playwright.sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@dataclasses.dataclass(frozen=True)
class Watched:
    """Opens pages and takes down what they say and what they ask for."""

    browser: object
    contexts: list = dataclasses.field(default_factory=list)
    heard: list[str] = dataclasses.field(default_factory=list)
    asked: list[str] = dataclasses.field(default_factory=list)

    def open(self, address, **options):
        options = {"viewport": {"width": 1300, "height": 900}, **options}
        context = self.browser.new_context(**options)
        self.contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: self.heard.append(message.text))
        page.on("pageerror", lambda error: self.heard.append(str(error)))
        page.on("dialog", lambda dialog: self.heard.append(dialog.message))
        page.on("request", lambda request: self.asked.append(request.url))
        page.goto(address)
        return page

    def close(self):
        for context in self.contexts:
            context.close()
