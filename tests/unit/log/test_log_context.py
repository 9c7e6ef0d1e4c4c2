"""The request's ids, on every structlog line the application writes while it is served."""

from __future__ import annotations

import contextvars
import os
import string
import threading

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from structlog.contextvars import bind_contextvars, clear_contextvars, get_contextvars

from gthreadsrv.log.context import bind_request, clear, parse_amazon, parse_traceparent

TRACE = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE}-b7ad6b7169203331-01"

HEX = "0123456789abcdef"


@pytest.fixture(autouse=True)
def _alone() -> object:
    """Each test starts and ends with no request bound."""
    clear_contextvars()
    yield
    clear_contextvars()


def test_the_applications_lines_carry_the_request() -> None:
    """Plain structlog with merge_contextvars, and nothing of ours in the application."""
    seen: list[dict[str, object]] = []
    logger = structlog.wrap_logger(
        structlog.testing.ReturnLogger(),
        processors=[
            structlog.contextvars.merge_contextvars,
            lambda _l, _m, line: seen.append(dict(line)) or "",
        ],
    )
    assert bind_request("abc-1", TRACEPARENT) == ("abc-1", TRACE)
    logger.info("hello", a=1)
    clear()
    logger.info("after")
    assert seen == [
        {"event": "hello", "a": 1, "request_id": "abc-1", "traceparent": TRACEPARENT},
        {"event": "after"},
    ]


def test_a_request_without_a_trace_does_not_show_the_one_before() -> None:
    """A connection's next request may come without the field."""
    bind_request("one", TRACEPARENT)
    bind_request("two", None)
    assert get_contextvars() == {"request_id": "two"}


def test_the_application_may_bind_the_same_name_and_clear_everything() -> None:
    """Functions of structlog find our variables, because they are its own."""
    bind_request("ours", None)
    bind_contextvars(request_id="theirs")
    assert get_contextvars() == {"request_id": "theirs"}
    clear_contextvars()
    assert get_contextvars() == {}


def test_each_thread_has_its_own_request() -> None:
    """The pool's threads serve side by side."""
    bind_request("here", None)
    seen: list[dict[str, object]] = []

    def work() -> None:
        bind_request("there", None)
        seen.append(get_contextvars())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [{"request_id": "there"}]
    assert get_contextvars() == {"request_id": "here"}


@pytest.mark.parametrize(
    "text", ["a", "x" * 128, "6f0c8a9e-7d5f-4f59-9c5d-0123456789ab", "Root=1-67891233-abc/+@~"]
)
def test_a_well_formed_id_is_kept(text: str) -> None:
    """A proxy's id is the one people search for."""
    assert bind_request(text, None) == (text, "")


@pytest.mark.parametrize("text", [None, "", "x" * 129, "a b", 'a"b', "a\\b", "a\n", "é", "a\x7f"])
def test_anything_else_gets_an_id_of_ours(text: str | None) -> None:
    """Nothing that needs escaping ever comes into a line by this way."""
    found, _ = bind_request(text, None)
    assert found != text
    assert set(found) <= set(string.hexdigits + "-")
    assert get_contextvars()["request_id"] == found


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_ids_of_ours_are_never_given_twice() -> None:
    """Not by threads side by side, not by a forked child."""
    ids: list[str] = []

    def work() -> None:
        ids.extend(bind_request(None, None)[0] for _ in range(500))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(ids)) == 2000
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, bind_request(None, None)[0].encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(reader, 100).decode()
    os.close(reader)
    os.close(writer)
    assert theirs.partition("-")[0] != ids[0].partition("-")[0]


@pytest.mark.parametrize(
    ("text", "trace"),
    [
        (TRACEPARENT, TRACE),
        (f"{TRACEPARENT}-more", ""),
        (f"01{TRACEPARENT[2:]}", TRACE),
        (f"01{TRACEPARENT[2:]}-more", TRACE),
        (f"01{TRACEPARENT[2:]}more", ""),
        (f"ff{TRACEPARENT[2:]}", ""),
        (TRACEPARENT.upper(), ""),
        (f"00-{'0' * 32}-b7ad6b7169203331-01", ""),
        (f"00-{TRACE}-{'0' * 16}-01", ""),
        (f"00-{TRACE[1:]}-b7ad6b7169203331-01", ""),
        (f"{TRACEPARENT}\n", ""),
        ("", ""),
    ],
)
def test_a_traceparent_is_read_as_w3c_says(text: str, trace: str) -> None:
    """Trace Context: versions, zeros, lower case; what is invalid is as good as absent."""
    assert parse_traceparent(text) == trace
    bind_request("x", text)
    assert ("traceparent" in get_contextvars()) is bool(trace)


@given(st.text(max_size=80))
def test_no_text_breaks_it(text: str) -> None:
    """What is bound came in whole and is plain."""
    contextvars.Context().run(_check_any, text)


def _check_any(text: str) -> None:
    request_id, trace_id = bind_request(text, text)
    assert request_id.isascii()
    assert request_id.isprintable()
    assert 1 <= len(request_id) <= 128
    assert trace_id == "" or (len(trace_id) == 32 and set(trace_id) <= set(HEX))


@given(st.text(HEX, min_size=32, max_size=32), st.text(HEX, min_size=16, max_size=16))
def test_any_ids_but_zeros_are_a_trace(trace: str, parent: str) -> None:
    """Version 00 as tracers send it."""
    valid = trace.strip("0") != "" and parent.strip("0") != ""
    assert parse_traceparent(f"00-{trace}-{parent}-00") == (trace if valid else "")


AMAZON = "67891233abcdef012345678912345678"


@pytest.mark.parametrize(
    ("field", "trace"),
    [
        ("Root=1-67891233-abcdef012345678912345678", AMAZON),
        ("Self=1-1-2;Root=1-67891233-abcdef012345678912345678;Sampled=1", AMAZON),
        (
            "Self=1-67891234-12456789abcdef012345678; Root=1-67891233-abcdef012345678912345678",
            AMAZON,
        ),
        ("Root=2-67891233-abcdef012345678912345678", ""),
        ("Root=1-67891233-abcdef01234567891234567", ""),
        ("Root=1-67891233-abcdef0123456789123456789", ""),
        ("Root=1-67891233-ABCDEF012345678912345678", ""),
        ("Root=1-00000000-000000000000000000000000", ""),
        ("Self=1-67891233-abcdef012345678912345678", ""),
        ("NotRoot=1-67891233-abcdef012345678912345678", ""),
        ("", ""),
        ("x" * 300 + ";Root=1-67891233-abcdef012345678912345678", ""),
    ],
)
def test_a_trace_id_of_an_aws_load_balancer(field: str, trace: str) -> None:
    """As X-Ray writes the same trace for W3C: time and number without their dashes."""
    assert parse_amazon(field) == trace


def test_traceparent_comes_first() -> None:
    """It names the caller's span as well."""
    amazon = "Root=1-67891233-abcdef012345678912345678"
    assert bind_request("a", TRACEPARENT, amazon) == ("a", TRACE)
    assert bind_request("a", None, amazon) == ("a", AMAZON)
    assert bind_request("a", "nonsense", amazon) == ("a", AMAZON)
    assert get_contextvars() == {"request_id": "a"}
