"""Applications that break PEP 3333 or fail: an honest answer, a logged reason, a living server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.system.client import ClosedError
from tests.system.conftest import Combination
from tests.system.harness import Server, wait_until

pytestmark = pytest.mark.greenlets("gevent")


@pytest.fixture(scope="module")
def web(combination: Combination) -> Iterator[Server]:
    """One server for the module, per parser and kind of socket."""
    with combination.server("behaviours:app", allow_errors=True) as server:
        yield server


def errors(server: Server, needle: str) -> list[str]:
    """The error lines of the log that hold this text."""
    found = []
    for line in list(server.lines):
        text = repr(line)
        if line.get("level") == "error" and needle in text:
            found.append(text)
    return found


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("/fail", "failed on purpose"),
        ("/fail_after_start", "failed after start_response"),
        ("/fail_first", "failed before the first byte"),
        ("/twice", "start_response"),
        ("/never_starts", "start_response"),
        ("/returns_none", "None"),
        ("/injects", "CR, LF or NUL"),
        ("/leave", "the application wants to leave"),
    ],
)
def test_failure_before_the_first_byte_is_a_500(web: Server, target: str, reason: str) -> None:
    """Nothing was sent yet: the client gets a plain 500, the log the traceback and the request."""
    before = len(errors(web, reason))
    with web.connect() as connection:
        response = connection.get(f"{target}?q=1")
        assert response.status == 500
        assert response.header("Date") is not None
        assert b"Traceback" not in response.body
        assert b"purpose" not in response.body
        assert response.header("Set-Cookie") is None
    found = wait_until(lambda: errors(web, reason)[before:], what=f"log of {reason}")
    assert len(found) == 1
    assert target in found[0]
    assert "GET" in found[0]
    assert web.get("/hello").body == b"hello\n"


def test_failure_has_its_traceback_in_the_log(web: Server) -> None:
    """The line and the file where the application raised are in the log."""
    web.get("/fail")
    found = wait_until(lambda: errors(web, "failed on purpose"))

    assert "behaviours.py" in found[0]
    assert "RuntimeError" in found[0]


def test_failure_in_the_middle_cuts_the_response(web: Server, combination: Combination) -> None:
    """After the first byte the response must not look complete: the connection is cut."""
    before = combination.recorded().count("closed fail_later")
    with web.connect() as connection:
        connection.request("GET", "/fail_later")
        with pytest.raises(ClosedError):
            connection.response()
    wait_until(lambda: errors(web, "failed after the first byte"))
    wait_until(lambda: combination.recorded().count("closed fail_later") == before + 1)


def test_close_is_called_after_a_failure(web: Server, combination: Combination) -> None:
    """An iterable that raises is closed."""
    before = combination.recorded().count("closed fail_first")
    assert web.get("/fail_first").status == 500
    wait_until(lambda: combination.recorded().count("closed fail_first") == before + 1)


def test_failing_close_is_logged(web: Server) -> None:
    """A close() that raises comes after the response: the client is served, the log tells."""
    assert web.get("/fail_close").body == b"ok\n"
    wait_until(lambda: errors(web, "close() failed on purpose"))
    assert web.get("/hello").body == b"hello\n"


def test_body_shorter_than_its_length_closes(web: Server) -> None:
    """The client of a too short body is not left waiting: the connection ends."""
    with web.connect() as connection:
        connection.request("GET", "/too_short")
        with pytest.raises(ClosedError):
            connection.response()


def test_body_longer_than_its_length_is_cut(web: Server) -> None:
    """No byte more than announced leaves, or it would be taken for the next response."""
    with web.connect() as connection:
        assert connection.get("/too_long").body == b"four"
        try:
            assert connection.get("/hello").body == b"hello\n"
        except (ClosedError, ConnectionError):
            pass  # closing instead is as safe


def test_failing_requests_count_and_release_their_threads(web: Server) -> None:
    """Many failures in a row leave every thread free."""
    for _ in range(20):
        assert web.get("/fail").status == 500
    assert web.get("/hello").body == b"hello\n"
