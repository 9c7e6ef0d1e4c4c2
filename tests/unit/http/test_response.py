"""Response heads: framing, what is refused, what is the server's own, and the date."""

from __future__ import annotations

import email.utils
import re
from typing import Any

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gthreadsrv.http.response import (
    CHUNKED,
    EMPTY,
    LENGTH,
    UNTIL_CLOSE,
    HeadEncoder,
    ResponseError,
    ResponseHead,
    http_date,
    phrase,
)

NOW = 784_111_777.0  # the example of RFC 9110 5.6.7
DATE = b"Date: Sun, 06 Nov 1994 08:49:37 GMT"


def encode(
    status: Any = "200 OK",
    headers: Any = (),
    now: float = NOW,
    *,
    method: str = "GET",
    minor: int = 1,
    keep_alive: bool = True,
    length: int = -1,
    by: HeadEncoder | None = None,
) -> ResponseHead:
    return (by or HeadEncoder("gthreadsrv")).encode(
        status, headers, int(now), method, minor, keep_alive, length
    )


def lines(head: ResponseHead) -> list[bytes]:
    assert head.data.endswith(b"\r\n\r\n")
    return head.data[:-4].split(b"\r\n")


def fields(head: ResponseHead, name: bytes) -> list[bytes]:
    """The values of a field."""
    found = [line.split(b": ", 1) for line in lines(head)[1:]]
    return [value for key, value in found if key.lower() == name]


def test_a_whole_head() -> None:
    """Status line, the application's fields in order and as spelled, then the server's."""
    head = encode(headers=[("Content-Type", "text/plain"), ("x-LOW", "a, b")], length=5)

    assert head.data == (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nx-LOW: a, b\r\n"
        + DATE
        + b"\r\nServer: gthreadsrv\r\nContent-Length: 5\r\n\r\n"
    )
    assert head == ResponseHead(head.data, 200, LENGTH, 5, True, ())


@pytest.mark.parametrize("minor", [0, 1])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize(
    "status", ["200 OK", "204 No Content", "205 Reset", "304 Not Modified", "404 x"]
)
@pytest.mark.parametrize("declared", [None, 0, 7])
@pytest.mark.parametrize("known", [-1, 0, 5])
def test_framing(minor: int, method: str, status: str, declared: int | None, known: int) -> None:
    """RFC 9112 6.3, case by case."""
    headers = [] if declared is None else [("Content-Length", str(declared))]
    head = encode(status, headers, method=method, minor=minor, length=known)
    lengths = fields(head, b"content-length")
    coding = fields(head, b"transfer-encoding")
    code = int(status[:3])

    if code == 204:
        # RFC 9110 8.6: no Content-Length in a 204.
        expected: tuple[int, int, list[int]] = (EMPTY, 0, [])
    elif code == 304 or method == "HEAD":
        shown = declared
        if shown is None and known > 0 and code != 304:
            shown = known
        expected = (EMPTY, 0, [] if shown is None else [shown])
    elif declared is not None:
        expected = (LENGTH, declared, [declared])
    elif known >= 0:
        expected = (LENGTH, known, [known])
    else:
        expected = (CHUNKED if minor else UNTIL_CLOSE, 0, [])
    assert (head.framing, head.length, [int(value) for value in lengths]) == expected
    assert coding == ([b"chunked"] if head.framing == CHUNKED else [])
    assert head.keep_alive == (head.framing != UNTIL_CLOSE)
    connection = fields(head, b"connection")
    if not head.keep_alive:
        assert connection == [b"close"]
    else:
        assert connection == ([] if minor else [b"keep-alive"])


@pytest.mark.parametrize("minor", [0, 1])
def test_a_connection_that_ends_says_so(minor: int) -> None:
    """In either version."""
    head = encode(minor=minor, keep_alive=False, length=1)

    assert fields(head, b"connection") == [b"close"]
    assert not head.keep_alive


@pytest.mark.parametrize("value", ["close", "Close", "CLOSE", "foo, close", "close,foo"])
def test_the_application_may_ask_for_the_end(value: str) -> None:
    """Of a list, too, and in any case; one field says it to the client."""
    head = encode(headers=[("connection", value)], length=1)

    assert fields(head, b"connection") == [b"close"]
    assert not head.keep_alive


@pytest.mark.parametrize("value", ["keep-alive", "upgrade", ""])
@pytest.mark.parametrize("keep_alive", [True, False])
def test_the_application_may_not_ask_for_more(value: str, *, keep_alive: bool) -> None:
    """Whether the connection goes on is not its decision."""
    head = encode(headers=[("Connection", value)], keep_alive=keep_alive, length=1)

    assert head.keep_alive is keep_alive
    assert fields(head, b"connection") == ([] if keep_alive else [b"close"])


@pytest.mark.parametrize(
    "name",
    [
        "Transfer-Encoding", "TE", "Trailer", "Upgrade", "Keep-Alive", "Proxy-Connection",
        "Proxy-Authorization", "transfer-encoding",
    ],
)  # fmt: skip
def test_fields_of_the_connection_are_left_out_and_named(name: str) -> None:
    """RFC 9110 7.6.1: they are the server's to write."""
    head = encode(headers=[("X-A", "1"), (name, "chunked"), ("X-B", "2")], length=4)

    assert head.dropped == (name,)
    assert fields(head, name.lower().encode()) == []
    assert fields(head, b"x-b") == [b"2"]
    assert head.framing == LENGTH


def test_proxy_authenticate_is_an_applications_field() -> None:
    """A forward proxy may be written in Python."""
    assert fields(encode("407 x", [("Proxy-Authenticate", "Basic")]), b"proxy-authenticate") == [
        b"Basic"
    ]


def test_the_applications_date_and_server_stand() -> None:
    """Each is there once."""
    head = encode(headers=[("date", "then"), ("SERVER", "mine")])

    assert fields(head, b"date") == [b"then"]
    assert fields(head, b"server") == [b"mine"]


def test_the_status_line_keeps_its_blank() -> None:
    """RFC 9112 4: after the code, also without a reason."""
    assert lines(encode("200"))[0] == b"HTTP/1.1 200 "
    assert lines(encode("200 "))[0] == b"HTTP/1.1 200 "
    assert lines(encode("200 OK"))[0] == b"HTTP/1.1 200 OK"


@pytest.mark.parametrize("status", ["100 Continue", "101 Switching Protocols", "103 Early Hints"])
def test_an_announcement_is_no_answer(status: str) -> None:
    """The client would go on waiting for one."""
    with pytest.raises(ResponseError, match="200 to 599"):
        encode(status)


BREAKS = ["\r\n", "\n", "\r", "\0", "x\r\nSet-Cookie: a=b", "x\n y", "a\r\n\r\n<html>"]


@pytest.mark.parametrize("text", BREAKS)
@pytest.mark.parametrize("name", ["X-Plain", "Date", "Server"])
def test_no_value_splits_the_response(text: str, name: str) -> None:
    """RFC 9110 5.5: CR, LF and NUL are refused wherever they stand."""
    with pytest.raises(ResponseError, match="CR, LF or NUL"):
        encode(headers=[("X-A", "1"), (name, text), ("X-B", "2")])


@pytest.mark.parametrize("text", BREAKS)
def test_no_name_or_status_splits_the_response(text: str) -> None:
    """Nor do these."""
    for bad in (text, f"X{text}", f"{text}X", f"X{text}Y"):
        with pytest.raises(ResponseError):
            encode(headers=[(bad, "1")])
        with pytest.raises(ResponseError):
            encode(f"200 {bad}")
        with pytest.raises(ResponseError):
            encode(bad)


@pytest.mark.parametrize("text", BREAKS)
def test_no_left_out_field_splits_the_response(text: str) -> None:
    """Their values never reach the wire."""
    for name in ("Connection", "Upgrade"):
        assert lines(encode(headers=[(name, text)], length=0))[1:] == [
            DATE, b"Server: gthreadsrv", b"Content-Length: 0",
        ]  # fmt: skip


@given(
    st.text(st.characters(max_codepoint=255), max_size=30),
    st.lists(
        st.tuples(
            st.text(st.sampled_from("Xx-: \r\n\0\t\xe9"), max_size=6),
            st.text(st.characters(max_codepoint=255), max_size=20),
        ),
        max_size=4,
    ),
)
def test_whatever_passes_has_the_lines_it_was_given(
    reason: str, headers: list[tuple[str, str]]
) -> None:
    """Either it is refused, or each field is one line and nothing else is."""
    try:
        head = encode(f"200 {reason}", headers, length=3)
    except ResponseError:
        return
    plain = [f"{name}: {value}".encode("latin-1") for name, value in headers]

    assert lines(head) == [
        f"HTTP/1.1 200 {reason}".encode("latin-1"), *plain,
        DATE, b"Server: gthreadsrv", b"Content-Length: 3",
    ]  # fmt: skip
    assert not re.search(rb"[\r\n\0]", head.data.replace(b"\r\n", b""))


NAMES = st.text("abcXYZ-_09", min_size=1, max_size=10).map(lambda name: "X-" + name)


@given(
    st.lists(
        st.tuples(NAMES, st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=20)),
        max_size=8,
    )
)
def test_a_client_library_reads_what_was_meant(headers: list[tuple[str, str]]) -> None:
    """An independent parser gives back status and fields."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
    client.send(h11.EndOfMessage())
    client.receive_data(encode("299 Odd", headers, length=0).data)
    event = client.next_event()
    assert isinstance(event, h11.Response)

    assert event.status_code == 299
    assert event.reason == b"Odd"
    assert list(event.headers)[: len(headers)] == [
        (name.lower().encode(), value.encode()) for name, value in headers
    ]


def test_latin_1_is_sent_as_it_is() -> None:
    """One byte a character, in reason and values."""
    head = encode("200 Gr\xfc\xdfe", [("X-Name", "\xe9\xff")])

    assert lines(head)[0] == b"HTTP/1.1 200 Gr\xfc\xdfe"
    assert fields(head, b"x-name") == [b"\xe9\xff"]


@pytest.mark.parametrize("text", ["\u20ac", "a\u0100", "\U0001f600", "\ud800"])
def test_what_is_not_latin_1_is_refused_by_name(text: str) -> None:
    """PEP 3333; the message shows which character."""
    with pytest.raises(ResponseError, match="latin-1"):
        encode(headers=[("X", text)])
    with pytest.raises(ResponseError):
        encode(f"200 {text}")


@pytest.mark.parametrize("value", [5, None, b"x", ["a"], 1.5])
def test_values_are_strings(value: Any) -> None:
    """Of plain fields and of those the server looks at."""
    for name in ("X-Any", "Date", "Server", "Content-Length"):
        with pytest.raises(ResponseError):
            encode(headers=[(name, value)])


@pytest.mark.parametrize("name", ["", " ", "X Y", "X:", "X\t", "\xe9", "X(", 'X"', b"X", 5, None])
def test_names_are_tokens(name: Any) -> None:
    """RFC 9110 5.6.2."""
    with pytest.raises(ResponseError, match="token"):
        encode(headers=[(name, "1")])


@pytest.mark.parametrize(
    "value", ["", "-1", "+1", "1.0", "0x5", "1 2", "five", "\u0663", "1_0", "\xb2"]
)
def test_a_length_is_digits(value: str) -> None:
    """Nothing that int() would also take."""
    with pytest.raises(ResponseError, match="Content-Length"):
        encode(headers=[("Content-Length", value)])


@pytest.mark.parametrize("value", ["5", " 5 ", "005", "5\n"])
def test_a_length_is_written_anew(value: str) -> None:
    """What surrounds the digits does not reach the wire."""
    head = encode(headers=[("content-LENGTH", value)])

    assert fields(head, b"content-length") == [b"5"]
    assert head.length == 5


def test_two_lengths_must_agree() -> None:
    """Twice the same is once; two different ones would be two messages."""
    same = encode(headers=[("Content-Length", "5"), ("content-length", "5")])
    assert fields(same, b"content-length") == [b"5"]
    with pytest.raises(ResponseError, match="twice: 5 and 6"):
        encode(headers=[("Content-Length", "5"), ("content-length", "6")])


def test_an_absurd_length_is_refused_without_an_exception_of_pythons() -> None:
    """int() has a limit of digits."""
    with pytest.raises(ValueError, match=r".+"):
        encode(headers=[("Content-Length", "9" * 5000)])


@given(st.integers(0, 4_102_444_800))
def test_dates_are_those_of_the_standard_library(second: int) -> None:
    """For any second up to 2100, leap years and all."""
    head = encode(now=second)

    assert fields(head, b"date") == [email.utils.formatdate(second, usegmt=True).encode()]


def test_every_day_of_four_hundred_years_is_right() -> None:
    """A whole Gregorian cycle, which property tests would meet only here and there."""
    for day in range(0, 146_097, 7):
        for second in (day * 86_400, (day + 3) * 86_400 - 1):
            expected = email.utils.formatdate(second, usegmt=True)
            assert http_date(second) == expected


@given(st.lists(st.floats(0, 3e9), min_size=2, max_size=20))
def test_the_date_follows_the_clock_also_backwards(instants: list[float]) -> None:
    """The second it was written for is kept, nothing else."""
    encoder = HeadEncoder("x")
    for now in instants:
        expected = email.utils.formatdate(int(now), usegmt=True)
        head = encode("200 OK", [], by=encoder, now=now)
        assert f"Date: {expected}".encode() in lines(head)


def test_an_application_that_invents_names_does_not_grow_the_memory() -> None:
    """Nor one that invents reasons; both still work beyond the tables."""
    encoder = HeadEncoder("x")
    for number in range(2000):
        head = encode(f"200 Reason {number}", [(f"X-{number}", "v")], by=encoder)
        assert lines(head)[0] == b"HTTP/1.1 200 Reason %d" % number
        assert fields(head, b"x-%d" % number) == [b"v"]
    with pytest.raises(ResponseError):
        encode("600 x", by=encoder)
    with pytest.raises(ResponseError):
        encode(headers=[("X Y", "v")], by=encoder)

    assert len(encoder._codes) <= 512
    assert len(encoder._roles) <= 512


def test_a_refusal_is_not_learned() -> None:
    """The second time it is refused as the first time."""
    encoder = HeadEncoder("x")
    for _ in range(2):
        with pytest.raises(ResponseError):
            encode("999 x", by=encoder)
        with pytest.raises(ResponseError):
            encode(headers=[("X Y", "v")], by=encoder)


@pytest.mark.parametrize(
    ("code", "text"), [(200, "200 OK"), (404, "404 Not Found"), (299, "299 Unknown")]
)
def test_phrases(code: int, text: str) -> None:
    """The registry's; a number it does not know has one all the same."""
    assert phrase(code) == text


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["200 OK", "404 Not Found", "204 No Content", "304 Not Modified"]),
            st.lists(
                st.tuples(
                    st.sampled_from(["X-A", "Content-Length", "Connection", "Server", "Upgrade"]),
                    st.sampled_from(["1", "close", "2"]),
                ),
                max_size=3,
            ),
            st.sampled_from(["GET", "HEAD"]),
            st.integers(0, 1),
            st.booleans(),
            st.integers(-1, 1),
            st.sampled_from([NOW, NOW + 0.5, NOW + 1, NOW - 1]),
        ),
        max_size=30,
    )
)
def test_a_head_that_was_written_before_is_the_same(turns: list[tuple[Any, ...]]) -> None:
    """Everything that a head depends on tells it apart from others of its second."""
    kept = HeadEncoder("gthreadsrv")
    for status, headers, method, minor, keep_alive, length, now in turns:
        outcomes = []
        for encoder in (kept, HeadEncoder("gthreadsrv")):
            try:
                outcome: object = encode(
                    status, headers, now, method=method, minor=minor,
                    keep_alive=keep_alive, length=length, by=encoder,
                )  # fmt: skip
            except ResponseError as error:
                outcome = str(error)
            outcomes.append(outcome)
        assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("value", [1, True, 1.0, None, b"1", ["1"]])
def test_a_value_that_equals_a_kept_one_is_still_refused(value: object) -> None:
    """Python takes 1 for True; a table of heads must not."""
    encoder = HeadEncoder("gthreadsrv")
    for _ in range(2):
        encode(headers=[("X", "1")], by=encoder)
        with pytest.raises(ResponseError, match="not a str"):
            encode(headers=[("X", value)], by=encoder)


def test_headers_as_lists_are_written_each_time() -> None:
    """PEP 3333 asks for tuples; others cannot be looked up, and need not be."""
    headers: Any = [["X", "1"]]
    for _ in range(2):
        assert fields(encode(headers=headers), b"x") == [b"1"]
