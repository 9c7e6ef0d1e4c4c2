"""What hooks are given, and what becomes of what they raise."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
from collections.abc import Callable
from typing import Any, cast

import pytest

from gthreadsrv.errors import StopRequestedError
from gthreadsrv.hooks.calling import HookError, call, tell
from gthreadsrv.hooks.cfg import Cfg
from gthreadsrv.hooks.requests import Request, Response
from gthreadsrv.hooks.views import App, Server, Worker
from gthreadsrv.hooks.worker import WorkerHooks
from gthreadsrv.http.request import RequestHead
from gthreadsrv.settings import Settings
from gthreadsrv.settings.model import WorkerRange


def head(minor: int = 1, *headers: tuple[bytes, bytes]) -> RequestHead:
    """A request's head."""
    return RequestHead("GET", "/a%20b?c=d", minor, [*headers], -1, False, True, False, "/a%20b",
                       "c=d", b"host")  # fmt: skip


ENVIRON: dict[str, Any] = {
    "wsgi.input": "the body", "wsgi.url_scheme": "https", "REMOTE_ADDR": "::1", "REMOTE_PORT": "7",
}  # fmt: skip


def nothing() -> Any:
    """An application that is not asked."""
    raise AssertionError


def made(**hooks: Callable[..., Any]) -> tuple[Server, Worker, WorkerHooks]:
    """A server, a worker and its hooks."""
    settings = Settings(app="a:b", hooks=hooks, proc_name="shop")
    server = Server()
    app = App(nothing)
    server.adopt(settings, app)
    worker = Worker(server, settings, app, ["socket"])
    return server, worker, WorkerHooks(settings.hooks, server, worker)


def test_a_request_is_as_gunicorn_has_it() -> None:
    """Raw path, names in upper case, and what a hook adds is told apart from what came."""
    request = Request(head(1, (b"Host", b"h"), (b"X-A", b"\xe4")), ENVIRON)
    assert (request.method, request.uri, request.path, request.query) == (
        "GET", "/a%20b?c=d", "/a%20b", "c=d",
    )  # fmt: skip
    assert request.headers == [("HOST", "h"), ("X-A", "ä")]
    assert (request.version, request.scheme, request.body) == ((1, 1), "https", "the body")
    assert request.remote_addr == request.peer_addr == ("::1", "7")
    assert request.added() == []
    request.headers.append(("X-B", "c"))
    assert request.added() == [("X-B", "c")]


@pytest.mark.parametrize(
    ("minor", "field", "closes"),
    [(1, None, False), (1, b"Close", True), (0, None, True), (0, b"keep-alive", False)],
)
def test_whether_a_client_asks_for_the_end(minor: int, field: bytes | None, closes: bool) -> None:
    """By its version and its Connection field."""
    headers = [] if field is None else [(b"Connection", field)]
    assert Request(head(minor, *headers), ENVIRON).should_close() is closes


def test_a_response_tells_what_it_was() -> None:
    """None where there was none."""
    sent = [("Content-Length", "5"), ("X", "y")]
    response = Response("200 OK", sent, 5, (1, 1), headers_sent=True)
    assert (response.status, response.status_code, response.response_length) == ("200 OK", 200, 5)
    empty = Response("", [], 0, (1, 1), headers_sent=False)
    assert (empty.status, empty.status_code, empty.response_length) == (None, None, None)


def test_an_application_is_loaded_once_and_may_be_wrapped() -> None:
    """As hooks do with an agent."""
    loads: list[int] = []

    def load() -> Any:
        loads.append(1)
        return "application"

    app = App(load)
    assert app.callable is None
    assert app.wsgi() == app.wsgi() == "application"
    app.callable = cast("Any", "wrapped")
    assert (app.wsgi(), loads) == ("wrapped", [1])


def test_a_worker_knows_its_server() -> None:
    """Age, parent, settings; its tmp does nothing, politely."""
    server, worker, _ = made()
    assert (worker.ppid, worker.pid, str(worker)) == (
        os.getpid(),
        "[booting]",
        "<Worker [booting]>",
    )
    assert (worker.cfg.proc_name, server.proc_name, worker.sockets) == ("shop", "shop", ["socket"])
    assert worker.timeout == 15
    worker.notify()
    worker.tmp.notify()
    worker.tmp.close()
    assert worker.tmp.last_update() > 0
    assert worker.tmp.fileno() == -1


def test_a_worker_that_is_no_longer_to_live_leaves_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """By TERM to itself, which drains."""
    sent: list[Any] = []
    monkeypatch.setattr(os, "kill", lambda *words: sent.append(words))
    _, worker, hooks = made()
    worker.alive = True
    hooks.serving()
    worker.alive = False
    worker.alive = False
    assert sent == [(os.getpid(), signal.SIGTERM)]
    assert not worker.alive


def test_what_a_hook_raises_is_one_error_with_its_traceback() -> None:
    """From the hook's own line on; leaving is raising too; a stop is not the hook's."""

    def wrong(_: object) -> None:
        raise ValueError("two\nlines")

    def leaves(_: object) -> None:
        raise SystemExit(3)

    def cancelled(_: object) -> None:
        raise asyncio.CancelledError

    def stopped(_: object) -> None:
        raise StopRequestedError

    with pytest.raises(HookError) as caught:
        call({"on_exit": wrong}, "on_exit", 1)
    assert str(caught.value) == (
        "hook on_exit failed: ValueError: two lines; correct the configuration file"
    )
    assert "in wrong" in caught.value.traceback
    assert "calling.py" not in caught.value.traceback
    with pytest.raises(HookError, match="SystemExit: 3"):
        call({"on_exit": leaves}, "on_exit", 1)
    with pytest.raises(HookError, match="failed: CancelledError"):
        call({"on_exit": cancelled}, "on_exit", 1)
    with pytest.raises(StopRequestedError):
        tell({"on_exit": stopped}, "on_exit", 1)
    call({}, "on_exit", 1)


def test_a_hook_that_nothing_depends_on_is_logged(capfd: pytest.CaptureFixture[str]) -> None:
    """And its caller goes on."""

    def wrong() -> None:
        raise ValueError("wrong")

    tell({"on_exit": wrong}, "on_exit")
    lines = [json.loads(x) for x in capfd.readouterr().err.splitlines() if x.startswith("{")]
    (line,) = [x for x in lines if x["event"] == "hook failed"]
    assert (line["hook"], line["level"]) == ("on_exit", "error")
    assert line["exception"].endswith("ValueError: wrong")


def test_the_log_of_hooks_is_that_of_pythons_logging() -> None:
    """All its methods; the level as a number."""
    _, worker, _ = made()
    assert worker.log.error_log.name == "gunicorn.error"
    assert worker.log.access_log.name == "gunicorn.access"
    worker.log.error_log.setLevel(logging.WARNING)
    assert worker.log.loglevel == logging.WARNING
    for name in ("debug", "info", "warning", "error", "exception", "critical", "log"):
        assert callable(getattr(worker.log, name))


def test_the_application_that_a_hook_puts_in_its_place_is_served() -> None:
    """post_worker_init, between the import and the first request."""
    seen: list[Any] = []

    def post_worker_init(worker: Any) -> None:
        seen.append((worker.wsgi, worker.booted))
        worker.wsgi = "wrapped"

    _, _, hooks = made(post_worker_init=post_worker_init)
    assert hooks.loaded(cast("Any", "application")) == "wrapped"
    assert seen == [("application", True)]
    assert not hooks.of_requests
    _, _, hooks = made(pre_request=print)
    assert hooks.of_requests


def test_an_exception_that_says_nothing_is_an_error_all_the_same() -> None:
    """Its own words may be what is broken."""

    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    error = HookError("post_request", Mute())
    assert str(error) == "hook post_request failed: Mute; correct the configuration file"
    assert "Mute" in error.traceback


def test_a_range_of_workers_is_a_number_to_hooks() -> None:
    """`cfg.workers` is what files divide pools by: the most there may be."""
    assert Cfg(Settings(workers=WorkerRange(2, 8))).workers == 8
    assert Cfg(Settings(workers=3)).workers == 3
