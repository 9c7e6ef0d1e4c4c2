"""Debian's Chromium, driven by playwright: pages that must not complain."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.conftest import SEARCH_PATH

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
PATIENCE_MS = 30_000


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser; none of its pages reaches anything but loopback."""
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium", path=SEARCH_PATH)
    assert path is not None  # the marker has made sure of it
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()


class Visit:
    """One open page, and what it has complained about: script errors, blocked or missing files."""

    def __init__(self, browser: Any, **options: Any) -> None:
        """Open a window; options are playwright's."""
        self.page = browser.new_page(**options)
        self.page.set_default_timeout(PATIENCE_MS)
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))

    def wait(self, expression: str, argument: Any = None) -> None:
        """Wait until this JavaScript is true."""
        self.page.wait_for_function(expression, arg=argument)

    def text(self, selector: str) -> str:
        """What one element says."""
        return str(self.page.locator(selector).inner_text())
