"""PEP 3333 over real sockets: well-behaved applications, also under wsgiref.validate."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.client import build_request, chunked
from tests.system.conftest import Combination
from tests.system.harness import Server, wait_until

pytestmark = pytest.mark.greenlets("gevent")


@pytest.fixture(scope="module")
def web(combination: Combination) -> Iterator[Server]:
    """One server for the module, per parser and kind of socket."""
    with combination.server("behaviours:app") as server:
        yield server


@pytest.fixture(scope="module")
def strict(combination: Combination, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The same application behind wsgiref's validator, which raises on any fault of the server."""
    other = combination.elsewhere(tmp_path_factory.mktemp("strict"))
    with other.server("behaviours:checked") as server:
        yield server


def closed(combination: Combination, name: str) -> int:
    """How often the response of that name was closed so far."""
    return combination.recorded().count(f"closed {name}")


def wait_closed(combination: Combination, name: str, count: int) -> None:
    """Wait for that many closes; more than that is as wrong as less."""
    wait_until(lambda: closed(combination, name) >= count, what=f"close of {name}")
    assert closed(combination, name) == count


def test_write_comes_before_the_iterable(web: Server) -> None:
    """What write() was given is sent first, then what was returned."""
    with web.connect() as connection:
        assert connection.get("/write").body == b"written, again, then returned\n"
        assert connection.get("/write_sized").body == b"abcdef"
        assert connection.get("/hello").body == b"hello\n"


def test_start_response_may_come_with_the_first_piece(web: Server) -> None:
    """A generator calls start_response when it is first asked for a piece."""
    response = web.get("/generator")

    assert (response.status, response.reason, response.body) == (201, "Created", b"lazy")


def test_error_page_replaces_unsent_headers(web: Server) -> None:
    """start_response with exc_info before anything was sent replaces the response."""
    response = web.get("/error_page")

    assert (response.status, response.body) == (503, b"own error page\n")


@pytest.mark.parametrize(
    ("target", "name"), [("/pieces", "pieces"), ("/nothing", "nothing"), ("/write", "write")]
)
def test_close_is_called_once(
    web: Server, combination: Combination, target: str, name: str
) -> None:
    """close() is called once per response, whatever the response is like."""
    before = closed(combination, name)
    for count in range(1, 4):
        web.get(target)
        wait_closed(combination, name, before + count)


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_close_is_called_when_the_body_is_not_sent(
    web: Server, combination: Combination, method: str
) -> None:
    """HEAD and 204 send no body; the iterable is closed all the same."""
    before = closed(combination, "status")
    with web.connect() as connection:
        connection.get("/status?code=204+No+Content", method)
    wait_closed(combination, "status", before + 1)


def test_close_is_called_when_the_client_leaves(web: Server, combination: Combination) -> None:
    """A client that closes in the middle of a large response ends it, and close() is called."""
    before = closed(combination, "pieces")
    connection = web.connect()
    connection.request("GET", "/pieces?n=2000&size=100000")
    connection.sock.recv(1000)
    connection.close()
    wait_closed(combination, "pieces", before + 1)
    assert web.get("/hello").body == b"hello\n"


@pytest.mark.parametrize("offset", [0, 5000])
@pytest.mark.parametrize("length", [None, 1000])
def test_file_wrapper_sends_from_where_the_file_stands(
    web: Server, tmp_path: Path, offset: int, length: int | None
) -> None:
    """A real file is sent from its position, no further than the Content-Length."""
    content = b"".join(b"%09d\n" % number for number in range(200_000))
    path = tmp_path / "file.bin"
    path.write_bytes(content)
    size = f"&length={length}" if length is not None else ""
    expected = content[offset:] if length is None else content[offset : offset + length]
    with web.connect() as connection:
        assert connection.get(f"/file?path={path}&offset={offset}{size}").body == expected
        assert connection.get("/hello").body == b"hello\n"


def test_file_wrapper_for_old_clients_and_head(web: Server, tmp_path: Path) -> None:
    """Files go to HTTP/1.0 as well, and HEAD gets none of them."""
    path = tmp_path / "file.bin"
    path.write_bytes(b"q" * 300_000)
    with web.connect() as connection:
        connection.request("GET", f"/file?path={path}", minor=0)
        assert connection.response().body == b"q" * 300_000
    with web.connect() as connection:
        connection.get(f"/file?path={path}&length=300000", "HEAD")
        assert connection.get("/hello").body == b"hello\n"


def test_empty_file(web: Server, tmp_path: Path) -> None:
    """A file without a byte is a complete, empty response."""
    path = tmp_path / "empty"
    path.touch()
    with web.connect() as connection:
        assert connection.get(f"/file?path={path}").body == b""
        assert connection.get("/hello").body == b"hello\n"


def test_file_wrapper_takes_anything_that_reads(web: Server, combination: Combination) -> None:
    """An object without a descriptor is read and sent, and closed."""
    before = closed(combination, "file_like")
    assert web.get("/file_like").body == b"z" * 100_000
    wait_closed(combination, "file_like", before + 1)


@pytest.mark.parametrize(
    "target",
    ["/hello", "/pieces?n=5", "/generator", "/write", "/nothing", "/cookies", "/error_page"],
)
def test_validator_finds_nothing(strict: Server, target: str) -> None:
    """wsgiref.validate raises on any fault of the server; the response would be a 500."""
    response = strict.get(target)

    assert response.status in (200, 201, 503)
    assert strict.logged("application error") == []


def test_validator_finds_nothing_in_bodies(strict: Server) -> None:
    """The validator wraps wsgi.input as well."""
    with strict.connect() as connection:
        for how in ("pieces", "readline", "iterate"):
            connection.request("POST", f"/read_by?how={how}", {"Content-Type": "text/x"}, b"a\nb")
            assert connection.response().body == b"a\nb"
        connection.send(
            build_request("POST", "/read_by?how=pieces", {"Transfer-Encoding": "chunked"})
            + chunked([b"a", b"b"])
        )
        assert connection.response().body == b"ab"
