"""Heads whose fields came before: the same request, or the same refusal, as the parser gives."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gthreadsrv.http import HeadParser, Limits, ProtocolError, RequestHead, make_parser
from gthreadsrv.http.errors import BadRequestError
from gthreadsrv.http.grammar import METHODS
from gthreadsrv.http.recall import KNOWN_MAX, Recall, RecallingParser

LIMITS = Limits(8190, 100, 8190, 0)
FIELDS = b"Host: a\r\nX-Word: b\r\n\r\n"


class Counting:
    """A parser that counts what it is asked."""

    def __init__(self, parser: HeadParser) -> None:
        self._parser = parser
        self.asked = 0

    @property
    def name(self) -> str:
        return self._parser.name

    def parse(self, head: bytes) -> RequestHead:
        self.asked += 1
        return self._parser.parse(head)


@pytest.fixture
def counting(parser: HeadParser) -> Counting:
    return Counting(parser)


@pytest.fixture
def recalling(counting: Counting) -> RecallingParser:
    return RecallingParser(counting, Recall())


def outcome(parser: HeadParser, head: bytes) -> object:
    """What a parser makes of a head: the request, or what it was refused with."""
    try:
        return parser.parse(head)
    except ProtocolError as error:
        return type(error), error.status, error.reason


def test_the_name_is_the_parsers(recalling: RecallingParser, counting: Counting) -> None:
    """Metrics say who decides."""
    assert recalling.name == counting.name


def test_the_second_time_only_the_line_is_read(
    recalling: RecallingParser, counting: Counting
) -> None:
    """Another method, path and query over the same fields."""
    first = recalling.parse(b"GET /one HTTP/1.1\r\n" + FIELDS)
    second = recalling.parse(b"DELETE /two?x=1&y HTTP/1.1\r\n" + FIELDS)

    assert counting.asked == 1
    assert (second.method, second.path, second.query) == ("DELETE", "/two", "x=1&y")
    assert second.target == "/two?x=1&y"
    assert (second.headers, second.host, second.keep_alive) == (first.headers, b"a", True)


@pytest.mark.parametrize(
    "fields", [FIELDS, b"Host: a\r\nConnection: close\r\n\r\n", b"Host:\r\n\r\n"]
)
@pytest.mark.parametrize(
    "line",
    [
        *(f"{method} / HTTP/1.1".encode() for method in sorted(METHODS)),
        b"GET /a?b#c HTTP/1.1",
        b"GET /a%20b?? HTTP/1.1",
        b'GET //a|"{}^` HTTP/1.1',
        b"GET / HTTP/1.0",
        b"GET / HTTP/1.2",
        b"GET / HTTP/2.0",
        b"GET / http/1.1",
        b"GET  / HTTP/1.1",
        b"GET /  HTTP/1.1",
        b"GET / x HTTP/1.1",
        b"GET /\xe4 HTTP/1.1",
        b"GET /\x00 HTTP/1.1",
        b"GET /\t HTTP/1.1",
        b"GET /\x7f HTTP/1.1",
        b" GET / HTTP/1.1",
        b"get / HTTP/1.1",
        b"GETS / HTTP/1.1",
        b"CONNECT a:1 HTTP/1.1",
        b"PRI * HTTP/2.0",
        b"OPTIONS * HTTP/1.1",
        b"GET * HTTP/1.1",
        b"GET http://b/c HTTP/1.1",
        b"GET / HTTP/1.1 ",
        b"GET / HTTP/1.1\r",
        b"GET /",
        b"",
    ],
)  # fmt: skip
def test_any_line_over_known_fields(
    recalling: RecallingParser, parser: HeadParser, line: bytes, fields: bytes
) -> None:
    """What comes out is what the parser alone says."""
    recalling.parse(b"GET / HTTP/1.1\r\n" + fields)
    head = line + b"\r\n" + fields

    assert outcome(recalling, head) == outcome(parser, head)


@given(
    st.lists(
        st.sampled_from(
            [b"Host: a", b"Host: b", b"X: 1", b"Connection: close", b"Content-Length: 0",
             b"Content-Length: 3", b"Transfer-Encoding: chunked", b"Expect: 100-continue",
             b"Bad Name: x", b"Cookie: a=b", b"Cookie: a=b", b"Upgrade: h2c", b"Tab:\tx\t"]
        ),
        max_size=4,
    ),
    st.integers(0, 2**32),
)  # fmt: skip
def test_any_fields_twice(lines: list[bytes], seed: int) -> None:
    """Bodies, upgrades and refusals among them: no reading differs from a fresh parser's."""
    rng = Random(seed)
    recalls = {name: Recall() for name in ("h11", "httptools")}
    fields = b"".join(line + b"\r\n" for line in lines) + b"\r\n"
    for _ in range(3):
        line = rng.choice([b"GET / HTTP/1.1", b"POST /p?q HTTP/1.1", b"GET / HTTP/1.0"])
        head = line + b"\r\n" + fields
        for name, recall in recalls.items():
            recalling = RecallingParser(make_parser(name, LIMITS), recall)
            assert outcome(recalling, head) == outcome(make_parser(name, LIMITS), head)


def test_a_body_is_framed_anew_each_time(recalling: RecallingParser, counting: Counting) -> None:
    """Also an empty one; and the limit on bodies holds every time."""
    for framing in (b"Content-Length: 3", b"Content-Length: 0", b"Transfer-Encoding: chunked"):
        for _ in range(2):
            recalling.parse(b"POST / HTTP/1.1\r\nHost: a\r\n" + framing + b"\r\n\r\n")

    assert counting.asked == 6


def test_the_table_is_bounded(recalling: RecallingParser, counting: Counting) -> None:
    """A client that never repeats itself costs no memory beyond it; nor do long fields."""
    for number in range(3 * KNOWN_MAX):
        recalling.parse(b"GET / HTTP/1.1\r\nHost: a\r\nX-Request-ID: %d\r\n\r\n" % number)
    long = b"GET / HTTP/1.1\r\nHost: a\r\nCookie: " + bytes(b"x" * 4000) + b"\r\n\r\n"
    for _ in range(2):
        recalling.parse(long)

    assert counting.asked == 3 * KNOWN_MAX + 2


def test_threads_share_what_they_know(parser: HeadParser) -> None:
    """One table for a worker: the connection's next request may be another thread's."""
    recall = Recall()
    head = b"GET / HTTP/1.1\r\n" + FIELDS
    RecallingParser(parser, recall).parse(head)
    other = Counting(parser)
    RecallingParser(other, recall).parse(head)

    assert other.asked == 0


def test_names_with_underscores_are_refused_when_that_is_wanted(parser: HeadParser) -> None:
    """Each time: what was refused is not remembered."""
    plain = b"GET / HTTP/1.1\r\nHost: a\r\nX-User: 1\r\n\r\n"
    head = plain.replace(b"X-User", b"X_User")
    recall = Recall()
    strict = RecallingParser(parser, recall, underscored=())
    for _ in range(2):
        with pytest.raises(BadRequestError, match="X_User"):
            strict.parse(head)
    assert strict.recall(head) is None
    assert strict.parse(plain).headers == [(b"Host", b"a"), (b"X-User", b"1")]


@pytest.mark.parametrize("name", ["X-Request-Id", "x_request_id", "Traceparent", "X_Amzn-Trace_Id"])
def test_fields_about_the_way_here_are_noted_however_they_are_spelled(
    recalling: RecallingParser, name: str
) -> None:
    """With `_` as well: --header-map and --forwarder-headers let those through."""
    head = f"GET / HTTP/1.1\r\nHost: a\r\n{name}: b\r\n\r\n".encode()
    recalling.parse(head)
    section = recalling.parse(head).section
    assert section is not None
    assert section.traced
