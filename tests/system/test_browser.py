"""A client that behaves as browsers do: preconnects, and several kept-alive connections at once."""

from __future__ import annotations

import queue
import re
import threading
from collections.abc import Iterator
from types import TracebackType

import pytest

from tests.system.client import Connection, Response
from tests.system.conftest import Combination
from tests.system.harness import Server

HEADERS = {
    "Host": "localhost",
    "Connection": "keep-alive",
    "Cache-Control": "max-age=0",
    "sec-ch-ua": '"Chromium";v="130", "Not?A_Brand";v="99"',
    "sec-ch-ua-mobile": "?0",
    "sec-ch-ua-platform": '"Linux"',
    "Upgrade-Insecure-Requests": "1",
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/130.0.0.0 Safari/537.36",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8",
    "Sec-Fetch-Site": "none",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Dest": "document",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Accept-Language": "en-GB,en;q=0.9",
}
PARALLEL = 6


class Browser:
    """Six connections to one host, opened ahead of need and kept; requests take a free one."""

    def __init__(self, server: Server) -> None:
        """Preconnect: some of the connections stay silent for a while."""
        self.server = server
        self.opened = 0
        self.cookies: dict[str, str] = {}
        self._free: queue.Queue[Connection] = queue.Queue()
        for _ in range(PARALLEL):
            self._open()

    def __enter__(self) -> Browser:  # noqa: PYI034 - typing.Self came with 3.11
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        while not self._free.empty():
            self._free.get().close()

    def _open(self) -> None:
        self.opened += 1
        self._free.put(self.server.connect())

    def fetch(self, target: str, method: str = "GET", body: bytes | None = None) -> Response:
        """One request on whichever connection is free."""
        connection = self._free.get(timeout=20)
        fields = dict(HEADERS)
        if self.cookies:
            fields["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        connection.request(method, target, fields, body)
        response = connection.response(method)
        for name, value in response.headers:
            if name.lower() == "set-cookie":
                key, _, rest = value.partition("=")
                self.cookies[key] = rest.partition(";")[0]
        if response.header("Connection") == "close":
            connection.close()
            self._open()
        else:
            self._free.put(connection)
        return response

    def visit(self, target: str) -> tuple[Response, dict[str, Response]]:
        """A page and, side by side, everything it links within the site."""
        page = self.fetch(target)
        links = set(re.findall(r'(?:href|src)="(/[^"]*)"', page.text))
        found: dict[str, Response] = {}

        def load(link: str) -> None:
            found[link] = self.fetch(link)

        loaders = [threading.Thread(target=load, args=(link,)) for link in links]
        for loader in loaders:
            loader.start()
        for loader in loaders:
            loader.join()
        assert set(found) == links, "a link did not load"
        return page, found


@pytest.fixture(scope="module")
def demo(combination: Combination) -> Iterator[Server]:
    """The demo, as `make serve` serves it but for its size."""
    with combination.server(
        "gthreadsrv.demo:app", workers=2, threads=2, allow_errors=True
    ) as server:
        yield server


def test_page_and_everything_it_links(demo: Server) -> None:
    """The demo's index and all its links load in parallel; the one that fails is a 500."""
    with Browser(demo) as browser:
        page, links = browser.visit("/")
        statuses = {link.partition("?")[0]: answer.status for link, answer in links.items()}

    assert page.status == 200
    assert statuses.pop("/fail") == 500
    assert set(statuses.values()) == {200}
    assert {"/fast", "/slow", "/cpu", "/stream", "/file", "/headers"} <= set(statuses)
    assert links["/headers"].text.count("sec-ch-ua") == 0
    assert "HTTP_SEC_CH_UA_MOBILE: ?0" in links["/headers"].text


def test_connections_are_reused(demo: Server) -> None:
    """A hundred requests need no more than the six connections a browser opens."""
    with Browser(demo) as browser:
        for _ in range(100):
            assert browser.fetch("/fast").body == b"Hello, world!\n"
        assert browser.opened == PARALLEL


def test_preconnected_silence_starves_nobody(demo: Server) -> None:
    """Ten browsers with mostly silent connections: another client is served at once."""
    browsers = [Browser(demo) for _ in range(10)]
    try:
        for browser in browsers:
            assert browser.fetch("/fast").status == 200
    finally:
        for browser in browsers:
            browser.__exit__(None, None, None)


def test_form_post(demo: Server) -> None:
    """A form is posted and comes back."""
    with Browser(demo) as browser:
        answer = browser.fetch("/echo", "POST", b"name=value&other=%C3%A9")

    assert answer.body == b"name=value&other=%C3%A9"
