"""The demo application: each route does the kind of work it is named for, in clean WSGI."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any
from wsgiref.util import FileWrapper, setup_testing_defaults
from wsgiref.validate import validator

import pytest

from gthreadsrv import demo

checked: Any = validator(demo.app)


@dataclass
class Answer:
    """What the application said."""

    status: str
    headers: dict[str, str]
    body: bytes
    pieces: int


def call(
    target: str,
    method: str = "GET",
    body: bytes = b"",
    content_type: str = "text/plain",
    app: Callable[..., Iterable[bytes]] = checked,
    extra: dict[str, Any] | None = None,
) -> Answer:
    """Run one request through the application, under the validator unless told otherwise."""
    path, _, query = target.partition("?")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "SCRIPT_NAME": "",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.input": io.BytesIO(body),
        **(extra or {}),
    }
    if body:
        environ.setdefault("CONTENT_LENGTH", str(len(body)))
        environ.setdefault("CONTENT_TYPE", content_type)
    setup_testing_defaults(environ)
    seen: list[tuple[str, list[tuple[str, str]]]] = []

    def start_response(
        status: str, headers: list[tuple[str, str]], exc_info: object = None
    ) -> Callable[[bytes], object]:
        seen.append((status, headers))
        return io.BytesIO().write

    result = app(environ, start_response)
    try:
        pieces = list(result)
    finally:
        close = getattr(result, "close", None)
        if close is not None:
            close()
    status, headers = seen[-1]
    return Answer(status, dict(headers), b"".join(pieces), len(pieces))


def test_index_links_every_route() -> None:
    """The index is HTML and links an example of every other route."""
    answer = call("/")

    assert answer.status == "200 OK"
    assert answer.headers["Content-Type"].startswith("text/html")
    links = re.findall(r'<a href="([^"?]+)', answer.body.decode())
    assert set(links) == set(demo.ROUTES) - {"/"}


def test_index_links_keep_the_mount_point() -> None:
    """Mounted below a prefix, the links carry the prefix, escaped."""
    answer = call("/", extra={"SCRIPT_NAME": '/a"b'})

    assert b'href="/a&quot;b/fast"' in answer.body


@pytest.mark.parametrize("path", sorted(set(demo.ROUTES) - {"/fail"}))
def test_every_route_answers_200(path: str) -> None:
    """Each route but /fail answers 200 with an honest Content-Length, if it gives one."""
    query = {"/slow": "?ms=1", "/cpu": "?ms=1", "/stream": "?chunks=3"}.get(path, "")
    answer = call(path + query)

    assert answer.status == "200 OK"
    assert answer.headers.get("Content-Length", str(len(answer.body))) == str(len(answer.body))


def test_unknown_path_is_404() -> None:
    """A path that is no route is 404."""
    assert call("/nothing").status == "404 Not Found"


def test_slow_waits_as_long_as_asked() -> None:
    """/slow?ms=50 takes at least 50 ms."""
    started = time.monotonic()
    call("/slow?ms=50")

    assert time.monotonic() - started >= 0.05


def test_cpu_burns_as_long_as_asked() -> None:
    """/cpu?ms=30 uses at least 30 ms of this thread's CPU."""
    started = time.thread_time()
    call("/cpu?ms=30")

    assert time.thread_time() - started >= 0.03


def test_stream_sends_the_pieces_asked_for() -> None:
    """/stream?chunks=4 sends four pieces and no length."""
    answer = call("/stream?chunks=4&ms=1")

    assert answer.pieces == 4
    assert answer.body.splitlines()[-1] == b"piece 4 of 4"
    assert "Content-Length" not in answer.headers


@pytest.mark.parametrize(
    "target", ["/slow?ms=-1", "/slow?ms=x", "/cpu?ms=60001", "/stream?chunks=1e3", "/slow?ms=1²"]
)
def test_bad_parameters_are_refused(target: str) -> None:
    """A parameter that is not a whole number in bounds is 400, not 500."""
    answer = call(target.encode().decode("latin-1"))

    assert answer.status == "400 Bad Request"
    assert b"must be a whole number" in answer.body


def test_fail_raises() -> None:
    """/fail raises instead of answering."""
    with pytest.raises(RuntimeError, match="always raises"):
        call("/fail")


def test_echo_returns_the_body_and_its_type() -> None:
    """/echo sends back the bytes and the media type of the request."""
    answer = call("/echo", "POST", b"\x00some bytes\xff", content_type="image/png")

    assert (answer.headers["Content-Type"], answer.body) == ("image/png", b"\x00some bytes\xff")


def test_echo_reads_a_body_of_unknown_length_to_its_end() -> None:
    """With wsgi.input_terminated /echo reads a chunked body; without, it reads nothing."""
    safe = {"wsgi.input": io.BytesIO(b"chunked"), "wsgi.input_terminated": True}
    unsafe = {"wsgi.input": io.BytesIO(b"chunked")}

    assert call("/echo", "POST", app=demo.app, extra=safe).body == b"chunked"
    assert call("/echo", "POST", app=demo.app, extra=unsafe).body == b""


def test_file_uses_the_servers_wrapper() -> None:
    """/file hands the open file to wsgi.file_wrapper where there is one."""
    made: list[FileWrapper] = []

    def wrapper(source: Any, block: int) -> FileWrapper:
        made.append(FileWrapper(source, block))
        return made[-1]

    answer = call("/file", app=demo.app, extra={"wsgi.file_wrapper": wrapper})

    assert len(made) == 1
    with open(demo.__file__, "rb") as source:
        assert answer.body == source.read()


def test_file_without_a_wrapper_still_sends_the_file() -> None:
    """/file works under a server that has no wsgi.file_wrapper."""
    with open(demo.__file__, "rb") as source:
        assert call("/file").body == source.read()


def test_headers_shows_the_request_but_not_the_server() -> None:
    """/headers shows request variables and nothing of the server's environment."""
    answer = call("/headers", extra={"HTTP_X_THING": "caf\xe9", "SECRET_KEY": "hidden"})

    assert "HTTP_X_THING: caf\xe9\n".encode("latin-1") in answer.body
    assert b"hidden" not in answer.body
