"""The two parsers as parsers: choice, reuse, every byte in every place, nothing but ProtocolError."""

from __future__ import annotations

import sys

import pytest

from gthreadsrv.http import (
    BadRequestError,
    BodyTooLargeError,
    HeadParser,
    HeadTooLargeError,
    Limits,
    ProtocolError,
    make_parser,
    resolve_parser,
)
from gthreadsrv.http import h11_parser as h11_parser_module
from gthreadsrv.http.grammar import METHODS, TOKEN_BYTES

GOOD = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


def status_of(parser: HeadParser, head: bytes) -> int:
    """Zero for a head that is accepted."""
    try:
        parser.parse(head)
    except ProtocolError as error:
        return error.status
    return 0


def test_auto_is_httptools_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it `auto` is h11, and asking for it by name says how to get it."""
    pytest.importorskip("httptools")
    assert resolve_parser("auto") == "httptools"
    assert resolve_parser("h11") == "h11"
    monkeypatch.setattr("gthreadsrv.http.parser.find_spec", lambda _name: None)
    assert resolve_parser("auto") == "h11"
    with pytest.raises(ValueError, match="pip install"):
        resolve_parser("httptools")


def test_an_unknown_parser_is_named(limits: Limits) -> None:
    """The message says what there is instead."""
    with pytest.raises(ValueError, match=r"'fast'.*auto, h11 or httptools"):
        make_parser("fast", limits)


def test_parser_is_called_by_its_name(parser: HeadParser, limits: Limits) -> None:
    """The name is what metrics show and what a setting may say."""
    assert type(make_parser(parser.name, limits)) is type(parser)


def test_h11_does_not_need_httptools(monkeypatch: pytest.MonkeyPatch, limits: Limits) -> None:
    """A system without the optional dependency serves requests."""
    monkeypatch.setitem(sys.modules, "httptools", None)
    assert make_parser("h11", limits).parse(GOOD).method == "GET"


@pytest.mark.parametrize(
    "before",
    [
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nProxy-Connection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 99\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nX: \x00\r\n\r\n",
        b"GET  / HTTP/1.1\r\nHost: h\r\n\r\n",
        b"CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nX: unfinished",
        b"GET / HTTP/1.1\r\nHost: h\r\n\r\ntoo much",
        b"",
    ],
)
@pytest.mark.parametrize(
    "head", [GOOD, b"GET /x HTTP/1.0\r\n\r\n", b"GET /x HTTP/1.0\r\nA: b\r\n\r\n"]
)
def test_a_head_leaves_no_trace(
    parser: HeadParser, limits: Limits, before: bytes, head: bytes
) -> None:
    """Whatever a parser was given last, the next head is read as by a new one."""
    expected = make_parser(parser.name, limits).parse(head)
    for _ in range(2):
        status_of(parser, before)
        assert parser.parse(head) == expected


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\r\n",
        b"\r\n\r\n",
        b"\r\n" + GOOD,
        GOOD[:-1],
        GOOD[:-2],
        GOOD + b"x",
        GOOD + GOOD,
        b"GET / HTTP/1.1\r\nHost: h\n\r\n\r\n",
        b"GET /\r\nHost: HTTP/1.1\r\n\r\n",
        b"\x00" * 100,
    ],
)
def test_only_one_whole_head_is_parsed(parser: HeadParser, data: bytes) -> None:
    """A parser does not guess where a head begins or ends."""
    assert status_of(parser, data) == 400


def test_every_byte_in_every_place(parser: HeadParser) -> None:
    """What may stand in a method, a target, a name and a value is what the RFCs say."""
    visible = set(range(0x21, 0x7F))
    blanks = {0x09, 0x20}
    obs_text = set(range(0x80, 0x100))

    def allowed(template: bytes) -> set[int]:
        marker = template.index(b"@")
        return {
            byte
            for byte in range(256)
            if not status_of(parser, template[:marker] + bytes([byte]) + template[marker + 1 :])
        }

    assert allowed(b"GET /a@b HTTP/1.1\r\nHost: h\r\n\r\n") == visible - {ord("#")}
    assert allowed(b"GET /?@b HTTP/1.1\r\nHost: h\r\n\r\n") == visible - {ord("#")}
    assert allowed(b"GET @ HTTP/1.1\r\nHost: h\r\n\r\n") == {ord("/")}
    assert allowed(b"GE@ / HTTP/1.1\r\nHost: h\r\n\r\n") == {ord("T")}
    assert allowed(b"GET@/ HTTP/1.1\r\nHost: h\r\n\r\n") == {ord(" ")}
    assert allowed(b"GET /@HTTP/1.1\r\nHost: h\r\n\r\n") == {ord(" ")}
    assert allowed(b"GET / HTTP/1.@\r\nHost: h\r\n\r\n") == {ord("0"), ord("1")}
    assert allowed(b"GET / HTTP/@.1\r\nHost: h\r\n\r\n") == {ord("1")}
    assert allowed(b"GET / HTTP/1.1@\nHost: h\r\n\r\n") == {ord("\r")}
    assert allowed(b"GET / HTTP/1.1\r@Host: h\r\n\r\n") == {ord("\n")}
    assert allowed(b"GET / HTTP/1.1\r\nHost: h\r\n@: b\r\n\r\n") == TOKEN_BYTES
    assert allowed(b"GET / HTTP/1.1\r\nHost: h\r\nX@: b\r\n\r\n") == TOKEN_BYTES | {ord(":")}
    for value in (b"@", b"a@b", b"@b", b"a@", b" @"):
        found = allowed(b"GET / HTTP/1.1\r\nHost: h\r\nX:" + value + b"\r\n\r\n")
        assert found == visible | blanks | obs_text, value
    host = allowed(b"GET / HTTP/1.1\r\nHost: a@b\r\n\r\n")
    assert host == {ord(sign) for sign in "-._~!$&'()*+;="} | {
        byte for byte in visible if chr(byte).isalnum()
    }


def test_methods_are_those_of_the_list(parser: HeadParser) -> None:
    """Both parsers serve exactly METHODS, and answer 501 to other tokens."""
    for method in METHODS:
        assert parser.parse(GOOD.replace(b"GET", method.encode())).method == method
        for other in (method.lower(), method + "X", method[:-1] + "-"):
            assert status_of(parser, GOOD.replace(b"GET", other.encode())) == 501


def test_field_count_is_a_limit_of_the_parser_too(parser: HeadParser) -> None:
    """A small head with many fields is not looked at line by line on its way in."""
    many = b"GET / HTTP/1.1\r\nHost: h\r\n" + b"A:\r\n" * 100 + b"\r\n"
    with pytest.raises(HeadTooLargeError) as caught:
        parser.parse(many)
    assert caught.value.status == 431
    assert len(parser.parse(many.replace(b"A:\r\n", b"", 1)).headers) == 100


@pytest.mark.parametrize("name", ["h11", "httptools"])
def test_announced_body_over_the_limit(name: str) -> None:
    """413 before a byte of it is read; at the limit it passes; 0 is no limit."""
    if name == "httptools":
        pytest.importorskip("httptools")
    head = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n"
    parser = make_parser(name, Limits(line=99, fields=9, field_size=99, body=10))
    assert parser.parse(head % 10).content_length == 10
    with pytest.raises(BodyTooLargeError) as caught:
        parser.parse(head % 11)
    assert (caught.value.status, caught.value.reason) == (413, "body_too_large")
    parser = make_parser(name, Limits(line=99, fields=9, field_size=99, body=0))
    assert parser.parse(head % (10**18 - 1)).content_length == 10**18 - 1


def test_what_h11_raises_is_a_refusal(monkeypatch: pytest.MonkeyPatch, limits: Limits) -> None:
    """No exception of a library leaves its adapter, not even one it should not raise."""

    class Broken:
        def __init__(self, role: object) -> None:
            raise RuntimeError("out of order")

    parser = make_parser("h11", limits)
    monkeypatch.setattr(h11_parser_module.h11, "Connection", Broken)
    with pytest.raises(BadRequestError, match="out of order"):
        parser.parse(GOOD)


def test_what_httptools_raises_is_a_refusal(
    monkeypatch: pytest.MonkeyPatch, limits: Limits
) -> None:
    """A head that the reference accepts and llhttp does not is refused all the same."""
    httptools = pytest.importorskip("httptools")

    class Broken:
        def __init__(self, events: object) -> None:
            pass

        def feed_data(self, data: bytes) -> None:
            raise httptools.HttpParserError("out of order")

    monkeypatch.setattr(httptools, "HttpRequestParser", Broken)
    parser = make_parser("httptools", limits)
    with pytest.raises(BadRequestError, match="out of order"):
        parser.parse(GOOD)


def test_a_parser_that_reads_less_than_it_was_given_is_not_believed(
    monkeypatch: pytest.MonkeyPatch, limits: Limits
) -> None:
    """Were h11 to find no request in a whole head, that is a refusal, not a crash."""
    h11 = h11_parser_module.h11
    monkeypatch.setattr(h11.Connection, "next_event", lambda _self: h11.NEED_DATA)
    with pytest.raises(BadRequestError, match="not a request"):
        make_parser("h11", limits).parse(GOOD)


def test_refusals_explain_themselves(parser: HeadParser) -> None:
    """Every error carries a sentence for the log and a label for the metrics."""
    with pytest.raises(ProtocolError) as caught:
        parser.parse(GOOD.replace(b"Host", b"Hast"))
    assert str(caught.value) == caught.value.detail == "HTTP/1.1 request without Host"
    assert caught.value.reason == "bad_request"
