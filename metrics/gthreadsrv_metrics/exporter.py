"""The WSGI application on the metrics port: /metrics, the health endpoints, the live page.

Runs in the exporter process, served by the same worker code as any application, or inside
an application that mounts ``wsgi_app``. It answers from shared memory and the kernel alone,
so it needs no worker's and no master's help. Speaks only GET and HEAD.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field
from functools import lru_cache, partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from gthreadsrv_metrics import health
from gthreadsrv_metrics.app_files import AppReading, read_app_metrics
from gthreadsrv_metrics.collector import MultiprocessCollector
from gthreadsrv_metrics.exposition import accepts_gzip, negotiate, render
from gthreadsrv_metrics.live_feed import LiveFeed
from gthreadsrv_metrics.live_page import PageFile, page_files
from gthreadsrv_metrics.sources import Published, Sources, current

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from gthreadsrv_metrics.families import Family
    from gthreadsrv_metrics.scoreboard import Scoreboard

__all__ = ["make_app", "wsgi_app"]

_log: Final = logging.getLogger("gthreadsrv.metrics")
_METHODS: Final = frozenset({"GET", "HEAD"})
_SCRAPERS: Final = 16
_TEXT: Final = "text/plain; charset=utf-8"
_JSON: Final = "application/json"


@dataclass(slots=True)
class _Collection:
    """One collection's families, and the pages already made of them."""

    own: list[Family] = field(default_factory=list)
    app: list[Family] = field(default_factory=list)
    pages: dict[tuple[str, bool], bytes] = field(default_factory=dict)


class _SharedCollection:
    """Lets concurrent scrapes share one collection.

    A scrape that comes during a collection waits for the next one, together with all others
    that wait: everyone gets numbers taken after they asked, at the cost of at most two
    collections' time, and any number of scrapers costs one collection at a time.
    """

    def __init__(self, collect: Callable[[], _Collection]) -> None:
        self._collect = collect
        self._condition = threading.Condition()  # guards what follows
        self._running = False
        self._started = 0  # collections begun
        self._finished = 0  # number of the newest finished one
        self._result = _Collection()

    def get(self) -> _Collection:
        """Return a collection that began after this call."""
        with self._condition:
            wanted = self._started + 1
            while self._finished < wanted:
                if not self._running:
                    break
                self._condition.wait()
            else:
                return self._result
            self._running = True
            self._started += 1
            number = self._started
        try:
            result = self._collect()
            with self._condition:
                self._result, self._finished = result, number
        finally:
            with self._condition:
                self._running = False
                self._condition.notify_all()
        return result


class _Exporter:
    """The WSGI callable."""

    def __init__(
        self, board: Scoreboard, sources: Sources, scrapers: int, *, live: bool = False
    ) -> None:
        self._board = board
        self._scrapers = threading.BoundedSemaphore(scrapers)
        self._sources = sources
        self._collector = MultiprocessCollector(board, sources)
        self._shared = _SharedCollection(self._collect)
        # The live page is of the metrics port alone: an application mounts the metrics only.
        self._live = LiveFeed(self._collector, sources) if live else None
        self._files = page_files() if live else {}
        self._render_lock = threading.Lock()  # guards the pages of a collection

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request of the metrics port."""
        path = environ.get("PATH_INFO", "")
        if path == "/metrics":
            return self.serve_page(environ, start_response)
        if path == "/live.json" and self._live is not None:
            return self._limited(environ, start_response, partial(_live_state, self._live))
        file = self._files.get(path)
        if file is not None:
            return _respond_file(environ, start_response, file)
        return _respond(environ, start_response, *self._plain(path))

    def serve_page(
        self, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        """Serve the metrics page, whatever the path."""
        return self._limited(environ, start_response, self._page)

    def _limited(
        self,
        environ: WSGIEnvironment,
        start_response: StartResponse,
        make: Callable[[WSGIEnvironment], tuple[list[tuple[str, str]], bytes]],
    ) -> Iterable[bytes]:
        """Answer with what takes a collection, unless too many wait for one already."""
        if environ["REQUEST_METHOD"] not in _METHODS:
            return _respond(environ, start_response, HTTPStatus.OK, b"")
        if not self._scrapers.acquire(blocking=False):
            # Waiting would take the last threads away from the probes.
            headers = [("Content-Type", _TEXT), ("Retry-After", "1")]
            body = b"too many scrapes at once\n"
            return _respond(environ, start_response, HTTPStatus.SERVICE_UNAVAILABLE, body, headers)
        try:
            headers, page = make(environ)
        finally:
            self._scrapers.release()
        return _respond(environ, start_response, HTTPStatus.OK, page, headers)

    def _page(self, environ: WSGIEnvironment) -> tuple[list[tuple[str, str]], bytes]:
        """Return the page, in the format the scraper asked for."""
        encoding = negotiate(environ.get("HTTP_ACCEPT", ""))
        compress = accepts_gzip(environ.get("HTTP_ACCEPT_ENCODING", ""))
        collection = self._shared.get()
        with self._render_lock:
            page = collection.pages.get((encoding.content_type, compress))
            if page is None:
                page, left_out = render(encoding, collection.own, collection.app, compress=compress)
                self._collector.count_error("app_metric", len(left_out))
                for name in left_out:
                    _report_once(f"application metric {name} is left out: it cannot be rendered")
                collection.pages[encoding.content_type, compress] = page
        headers = [
            ("Content-Type", encoding.content_type),
            ("Vary", "Accept, Accept-Encoding"),
        ]
        if compress:
            headers.append(("Content-Encoding", "gzip"))
        return headers, page

    def _plain(self, path: str) -> tuple[HTTPStatus, bytes]:
        """Answer the small pages."""
        now = self._sources.monotonic()
        if path == "/livez":
            reason = health.live(self._board, now, self._sources.master_pid)
        elif path == "/readyz":
            reason = health.ready(self._board, now, self._sources.ready_max_saturation)
        elif path == "/startupz":
            reason = health.started(self._board)
        else:
            return HTTPStatus.NOT_FOUND, b"not found; see /\n"
        if reason is None:
            return HTTPStatus.OK, b"ok\n"
        return HTTPStatus.SERVICE_UNAVAILABLE, f"{reason}\n".encode()

    def _collect(self) -> _Collection:
        """Take everything once. Only one thread at a time gets here."""
        directory = self._sources.app_directory
        reading = AppReading() if directory is None else read_app_metrics(directory)
        self._collector.count_error("app_file", len(reading.torn))
        self._collector.count_error("app_metric", len(reading.collisions))
        for path in reading.torn:
            _report_once(f"metric file {path} is torn; its values are left out")
        for name in reading.collisions:
            _report_once(f"application metric {name} is left out: that name is the server's")
        families, fleet = self._collector.measure()
        if self._live is not None:
            self._live.note(families, fleet)
        return _Collection(list(families), reading.families)


def _respond(
    environ: WSGIEnvironment,
    start_response: StartResponse,
    status: HTTPStatus,
    body: bytes,
    headers: Sequence[tuple[str, str]] = (("Content-Type", _TEXT),),
) -> Iterable[bytes]:
    """Answer GET and HEAD; refuse every other method."""
    method = environ["REQUEST_METHOD"]
    fields = [*headers, ("Cache-Control", "no-store")]
    if method not in _METHODS:
        status, body = HTTPStatus.METHOD_NOT_ALLOWED, b"only GET and HEAD are served here\n"
        fields = [("Content-Type", _TEXT), ("Allow", "GET, HEAD")]
    fields.append(("Content-Length", str(len(body))))
    start_response(f"{status.value} {status.phrase}", fields)
    return [] if method == "HEAD" else [body]


def _respond_file(
    environ: WSGIEnvironment, start_response: StartResponse, file: PageFile
) -> Iterable[bytes]:
    """Answer with a file of the live page, or say that the client has it."""
    method = environ["REQUEST_METHOD"]
    if method not in _METHODS:
        return _respond(environ, start_response, HTTPStatus.OK, b"")
    if file.is_known(environ.get("HTTP_IF_NONE_MATCH", "")):
        start_response("304 Not Modified", [("Cache-Control", "no-cache"), ("ETag", file.etag)])
        return []
    start_response("200 OK", [*file.headers, ("Content-Length", str(len(file.body)))])
    return [] if method == "HEAD" else [file.body]


def _live_state(feed: LiveFeed, environ: WSGIEnvironment) -> tuple[list[tuple[str, str]], bytes]:
    """Return the live page's data."""
    compress = accepts_gzip(environ.get("HTTP_ACCEPT_ENCODING", ""))
    headers = [("Content-Type", _JSON), ("Vary", "Accept-Encoding")]
    headers.append(("X-Content-Type-Options", "nosniff"))
    if compress:
        headers.append(("Content-Encoding", "gzip"))
    return headers, feed.answer(compress=compress)


@lru_cache(maxsize=256)
def _report_once(message: str) -> None:
    """Log what the scrape error counter can only count, the first time it is seen."""
    _log.warning(message)


def make_app(board: Scoreboard, sources: Sources, *, scrapers: int = _SCRAPERS) -> WSGIApplication:
    """Return the exporter's application: /metrics, /livez, /readyz, /startupz, live page at /.

    ``scrapers`` is how many scrapes may wait for the page at once; have more threads than that.
    """
    return _Exporter(board, sources, scrapers, live=True)


@lru_cache(maxsize=1)
def _mounted(published: Published) -> _Exporter:
    return _Exporter(published.board, published.sources, _SCRAPERS)


def wsgi_app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Serve the metrics page at whatever path an application under gthreadsrv mounts it."""
    published = current()
    if published is None:
        body = b"no scoreboard: this application is not served by gthreadsrv\n"
        return _respond(environ, start_response, HTTPStatus.SERVICE_UNAVAILABLE, body)
    return _mounted(published).serve_page(environ, start_response)
