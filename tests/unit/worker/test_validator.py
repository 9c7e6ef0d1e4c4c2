"""The standard library's WSGI validator between the server and an application."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any
from wsgiref.validate import validator

import pytest

from tests.unit.worker.rig import GET, drained, get, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    from tests.unit.worker.rig import Rig

    MakeRig = Callable[..., Rig]


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Any:
    """One of several shapes of response, by path; reads the body in every allowed way."""
    path = environ["PATH_INFO"]
    body: Any = environ["wsgi.input"]
    read = body.read(3) + body.readline(5) + b"".join(body.readlines(10)) + b"".join(body)
    read += body.read(100)
    environ["wsgi.errors"].write("")
    environ["wsgi.errors"].writelines([])
    environ["wsgi.errors"].flush()
    if path == "/empty":
        start_response("204 No Content", [])
        return []
    headers = [("Content-Type", "text/plain")]
    if path == "/write":
        write = start_response("200 OK", headers)
        write(b"written ")
        return [read]
    if path == "/late":
        return late(start_response, headers, read)
    start_response("200 OK", headers)
    return [b"body: ", read]


def late(
    start_response: StartResponse, headers: list[tuple[str, str]], read: bytes
) -> Iterator[bytes]:
    """A generator."""
    start_response("200 OK", headers)
    yield b"late "
    yield read


BODY = b"line one\nline two\nline three\nthe rest"
REQUESTS = {
    "get": get("/"),
    "query": get("/a%20b?c=d&e"),
    "options": b"OPTIONS /x HTTP/1.1\r\nHost: a\r\n\r\n",
    "options for all": b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    "old": b"GET / HTTP/1.0\r\n\r\n",
    "absolute": b"GET http://b:81/c?d HTTP/1.1\r\nHost: a\r\n\r\n",
    "post": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(BODY), BODY),
    "chunked": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY),
    "empty": get("/empty"),
    "write": get("/write"),
    "late": get("/late"),
    "head": b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
}


@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.parametrize("tcp", [False, True])
def test_the_validator_has_nothing_to_say(
    make_rig: MakeRig, name: str, capsys: pytest.CaptureFixture[str], *, tcp: bool
) -> None:
    """It checks the environ, every call of the application's, and that close() was called."""
    rig = make_rig(validator(application), tcp=tcp)
    client = rig.connect()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        client.sendall(REQUESTS[name])
        wait_until(lambda: rig.pump() or rig.responses(), "an answer")
        got = drained(client)

    assert got.startswith(b"HTTP/1.1 20")
    assert rig.log.lines == []
    # Where it complains about an iterable that was not closed.
    assert capsys.readouterr().err == ""
    if name in ("post", "chunked"):
        assert BODY in got


def test_the_validators_complaint_would_be_seen(make_rig: MakeRig) -> None:
    """The check above can fail: an application without Content-Type is caught."""

    def bad(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", [])
        return [b"x"]

    rig = make_rig(validator(bad))

    assert rig.exchange(GET).startswith(b"HTTP/1.1 500 ")
    assert rig.log.events("error") == ["application failed"]
