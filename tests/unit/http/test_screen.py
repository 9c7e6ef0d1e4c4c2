"""What the fields of a head mean: every well-formed request comes out as it was put in."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gthreadsrv.http import BadRequestError, HeadParser, Limits, make_parser
from gthreadsrv.http.grammar import METHODS, TOKEN_BYTES

LIMITS = Limits(line=8190, fields=100, field_size=8190, body=0)
PARSERS = [make_parser(name, LIMITS) for name in ("h11", "auto")]

# Fields with a meaning to the server are drawn apart from the others.
MEANINGFUL = {b"host", b"connection", b"content-length", b"transfer-encoding", b"expect"}

visible = st.sampled_from([chr(byte) for byte in range(0x21, 0x7F) if chr(byte) != "#"])
texts = st.text(visible, max_size=12)
blanks = st.sampled_from([b"", b" ", b"\t", b"  \t "])
names = st.binary(min_size=1, max_size=12).map(
    lambda raw: bytes(sorted(TOKEN_BYTES)[byte % len(TOKEN_BYTES)] for byte in raw)
)
values = st.binary(max_size=20).map(
    lambda raw: bytes(byte for byte in raw if byte == 9 or (byte >= 32 and byte != 127)).strip(
        b" \t"
    )
)
cases = st.sampled_from([bytes.lower, bytes.upper, bytes.title])


@dataclass
class Request:
    """A request as it is sent, and what it means."""

    method: str
    path: str
    query: str | None
    minor: int
    host: bytes
    others: list[tuple[bytes, bytes]]
    length: int | None
    options: list[bytes]


requests = st.builds(
    Request,
    method=st.sampled_from(sorted(METHODS)),
    path=texts.map(lambda text: "/" + text.replace("?", "")),
    query=st.none() | texts,
    minor=st.integers(0, 1),
    host=st.sampled_from([b"", b"h", b"example.com:80", b"[::1]"]),
    others=st.lists(
        st.tuples(names.filter(lambda name: name.lower() not in MEANINGFUL), values), max_size=6
    ),
    length=st.none() | st.integers(0, 10**18 - 1),
    options=st.lists(st.sampled_from([b"close", b"keep-alive", b"upgrade", b"x-y"]), max_size=3),
)


@given(request=requests, data=st.data())
def test_a_well_formed_request_comes_out_as_it_went_in(
    request: Request, data: st.DataObject
) -> None:
    """Method, target, fields in order, framing and keep-alive, on both parsers."""
    special = [(b"Host", request.host)]
    if request.length is not None:
        special.append((b"Content-Length", b"%d" % request.length))
    if request.options:
        special.append((b"Connection", b", ".join(request.options)))
    special = [(data.draw(cases)(name), value) for name, value in special]
    headers = data.draw(st.permutations([*request.others, *special]))
    target = request.path if request.query is None else f"{request.path}?{request.query}"
    lines = [f"{request.method} {target} HTTP/1.{request.minor}".encode()]
    for name, value in headers:
        after = data.draw(blanks)
        if name.lower() == b"content-length":
            after = after.replace(b"\t", b" ")  # the one place where a HTAB is refused
        lines.append(name + b":" + data.draw(blanks) + value + after)
    raw = b"\r\n".join(lines) + b"\r\n\r\n"

    heads = [parser.parse(raw) for parser in PARSERS]

    assert heads[0] == heads[1]
    head = heads[0]
    assert (head.method, head.target, head.minor) == (request.method, target, request.minor)
    assert (head.path, head.query) == (request.path, request.query or "")
    assert head.headers == headers
    assert head.host == request.host
    assert head.content_length == (-1 if request.length is None else request.length)
    assert not head.chunked
    wants = b"keep-alive" in request.options if request.minor == 0 else True
    assert head.keep_alive == (wants and b"close" not in request.options)


@pytest.mark.parametrize(
    ("name", "spellings"),
    [
        (b"host", (b"HOST: b", b"hOsT: b")),
        (b"content-length", (b"CONTENT-LENGTH: 1", b"cOntent-length: 1")),
        (b"transfer-encoding", (b"TRANSFER-ENCODING: chunked", b"tRansfer-encoding: chunked")),
    ],
)
def test_no_spelling_of_a_name_hides_it(
    parser: HeadParser, name: bytes, spellings: tuple[bytes, ...]
) -> None:
    """A second Host, length or coding is one in whatever case it is written."""
    first = {b"host": b"Host: h", b"content-length": b"Content-Length: 1"}
    fields = [b"Host: h", first.get(name, b"Transfer-Encoding: chunked")]
    for spelling in spellings:
        raw = b"\r\n".join([b"POST / HTTP/1.1", *fields, spelling, b"", b""])
        with pytest.raises(BadRequestError):
            parser.parse(raw)


@pytest.mark.parametrize("name", [b"content_length", b"transfer_encoding", b"h-ost", b"host_"])
def test_a_similar_name_is_another_name(parser: HeadParser, name: bytes) -> None:
    """What `_` does to names is decided where the environ is made, not here."""
    head = parser.parse(b"POST / HTTP/1.1\r\nHost: h\r\n" + name + b": chunked\r\n\r\n")
    assert (head.chunked, head.content_length) == (False, -1)
    assert head.headers[1] == (name, b"chunked")


@pytest.mark.parametrize(
    ("host", "expected"),
    [(b"Host: a", b"b:81"), (b"host:\tother", b"b:81"), (b"HOST:", b"b:81")],
)
def test_the_authority_of_the_target_replaces_host(
    parser: HeadParser, host: bytes, expected: bytes
) -> None:
    """The field keeps its name and place; nobody downstream sees two hosts."""
    raw = b"GET http://b:81/ HTTP/1.1\r\nA: 1\r\n" + host + b"\r\nB: 2\r\n\r\n"
    head = parser.parse(raw)
    assert head.host == expected
    assert head.headers == [
        (b"A", b"1"),
        (host.partition(b":")[0], expected),
        (b"B", b"2"),
    ]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (b"", False),
        (b"Expect: 100-continue\r\n", False),
        (b"Expect: 100-continue\r\nContent-Length: 0\r\n", False),
        (b"Expect: 100-continue\r\nContent-Length: 1\r\n", True),
        (b"EXPECT: 100-CONTINUE\r\nTransfer-Encoding: chunked\r\n", True),
    ],
)
def test_leave_is_given_for_a_body_only(parser: HeadParser, fields: bytes, expected: bool) -> None:
    """A client without a body to send waits for no 100 (Continue)."""
    head = parser.parse(b"POST / HTTP/1.1\r\nHost: h\r\n" + fields + b"\r\n")
    assert head.expect_continue is expected
