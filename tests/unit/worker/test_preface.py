"""Connections that must begin with a PROXY header, before anything of HTTP is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gthreadsrv.worker.connection import State
from tests.unit.worker.rig import GET, at_end, drained

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    from tests.unit.worker.rig import Clock, Rig

    MakeRig = Callable[..., Rig]

V1 = b"PROXY TCP4 192.0.2.1 198.51.100.2 40000 443\r\n"
V2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\2\1\xc6\x33\x64\2\x9c\x40\1\xbb"
LOCAL = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"


def peer(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    """Tell whose request it is."""
    start_response("200 OK", [])
    told = f"[{environ['REMOTE_ADDR']}|{environ['REMOTE_PORT']}|{environ['wsgi.url_scheme']}]"
    return [told.encode()]


def sweep(rig: Rig) -> None:
    """What the watchdog does when a deadline has passed."""
    rig.pool.poke()
    rig.pump()


def bodies(got: bytes) -> list[bytes]:
    """The bodies of responses to `peer`."""
    return [part.partition(b"]")[0] for part in got.split(b"[")[1:]]


@pytest.mark.parametrize(
    ("mode", "header", "told"),
    [
        ("v1", V1, b"192.0.2.1|40000|http"),
        ("auto", V1, b"192.0.2.1|40000|http"),
        ("v2", V2, b"192.0.2.1|40000|http"),
        ("auto", V2, b"192.0.2.1|40000|http"),
        ("auto", LOCAL, b"||http"),
        ("auto", b"PROXY UNKNOWN\r\n", b"||http"),
    ],
)
@pytest.mark.parametrize("step", [1, 7, 1000])
def test_the_header_names_the_client_of_every_request_behind_it(
    make_rig: MakeRig, mode: str, header: bytes, told: bytes, step: int
) -> None:
    """However it comes, with the request or before it; LOCAL leaves the connection's own peer."""
    rig = make_rig(peer, proxy_protocol=mode)
    client = rig.connect()
    stream = header + GET + GET
    got = b""
    for at in range(0, len(stream), step):
        got += rig.exchange(stream[at : at + step], client)
    got += rig.exchange(GET, client)

    assert bodies(got) == [told] * 3
    assert rig.errors() == {}


def test_the_log_and_the_refusal_of_a_request_name_the_client(make_rig: MakeRig) -> None:
    """What goes wrong behind the header is the client's."""
    rig = make_rig(peer, proxy_protocol="auto")
    got = rig.exchange(V1 + b"GET / HTTP/9.9\r\n\r\n")

    assert got.startswith(b"HTTP/1.1 505 ")
    assert rig.log.fields("request refused")["client"] == "192.0.2.1"
    assert rig.errors() == {"bad_request": 1}


@pytest.mark.parametrize(
    ("mode", "data"),
    [
        ("auto", GET),
        ("auto", b"\x16\x03\x01\x02\0\x01"),
        ("auto", b"PROXY TCP4 192.0.2.1 nonsense 1 1\r\n"),
        ("v1", V2),
        ("v2", V1),
    ],
)
def test_a_connection_without_a_good_header_is_refused(
    make_rig: MakeRig, mode: str, data: bytes
) -> None:
    """400, counted by its own reason, and closed; nothing behind it is read as a request."""
    rig = make_rig(peer, proxy_protocol=mode)
    client = rig.connect()
    got = rig.exchange(data + GET, client)

    assert got.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert got.count(b"HTTP/1.1") == 1
    assert at_end(client)
    assert rig.errors() == {"proxy_protocol": 1}
    assert rig.closed() == {"error": 1}
    assert rig.log.fields("request refused")["reason"] == "proxy_protocol"
    (durations,) = rig.fleet().durations.values()
    assert durations[0] < 1, "the sum of their durations"


def test_a_second_header_is_no_request(make_rig: MakeRig) -> None:
    """A client behind the proxy may send one of its own: it is not believed."""
    rig = make_rig(peer, proxy_protocol="auto")
    got = rig.exchange(V1 + b"PROXY TCP4 203.0.113.9 198.51.100.2 1 1\r\n" + GET)

    assert got.startswith(b"HTTP/1.1 400 ")
    assert bodies(got) == []


def tcp(rig: Rig, data: bytes) -> bytes:
    """Send on a new loopback connection, and return what has come back in the end."""
    client: socket.socket = rig.connect()
    got = b""
    client.sendall(data)
    while not got:
        rig.pump()
        got += drained(client)
    return got


def test_who_may_not_send_a_header_is_turned_away(make_rig: MakeRig) -> None:
    """403 at the first bytes, whatever they are: a header, or a request that lacks one."""
    for data in (V1 + GET, V2 + GET, GET):
        rig = make_rig(peer, tcp=True, proxy_protocol="auto", proxy_allow_ips=("10.0.0.0/8",))
        got = tcp(rig, data)

        assert got.startswith(b"HTTP/1.1 403 Forbidden\r\n")
        assert got.count(b"HTTP/1.1") == 1
        assert rig.errors() == {"proxy_protocol": 1}


def test_who_may_send_a_header_does(make_rig: MakeRig) -> None:
    """Over TCP, and the word on the scheme stays that of the proxy that connected."""
    rig = make_rig(peer, tcp=True, proxy_protocol="auto")
    told = b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: https\r\n\r\n"

    assert bodies(tcp(rig, V2 + told)) == [b"192.0.2.1|40000|https"]


def test_an_unfinished_header_has_the_time_of_a_head(make_rig: MakeRig, clock: Clock) -> None:
    """From its first byte; bytes in between gain nothing."""
    rig = make_rig(peer, proxy_protocol="auto", header_timeout=10)
    client = rig.connect()
    rig.exchange(V2[:3], client)
    assert rig.only().state is State.READING
    for byte in V2[3:11]:
        clock.advance(1)
        assert rig.exchange(bytes([byte]), client) == b""
        sweep(rig)
    clock.advance(2.1)
    sweep(rig)

    assert drained(client).startswith(b"HTTP/1.1 408 ")
    assert rig.errors() == {"read_timeout": 1}


def test_header_and_head_share_that_time(make_rig: MakeRig, clock: Clock) -> None:
    """A request that has begun behind a header that was late is not given another."""
    rig = make_rig(peer, proxy_protocol="auto", header_timeout=10)
    client = rig.connect()
    rig.exchange(V2[:3], client)
    clock.advance(6)
    rig.exchange(V2[3:] + GET[:5], client)
    clock.advance(6)
    sweep(rig)

    assert drained(client).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("cut", [0, 5])
def test_a_header_alone_is_an_idle_connection(make_rig: MakeRig, clock: Clock, cut: int) -> None:
    """Balancers connect ahead of need: it waits as long as any idle one, then quietly ends."""
    rig = make_rig(peer, proxy_protocol="auto", header_timeout=10, keepalive=75)
    client = rig.connect()
    if cut:
        rig.exchange(V2[:cut], client)
    rig.exchange(V2[cut:], client)
    assert rig.only().state is State.IDLE
    clock.advance(60)
    sweep(rig)
    assert bodies(rig.exchange(GET, client)) == [b"192.0.2.1|40000|http"]
    clock.advance(80)
    sweep(rig)

    assert at_end(client)
    assert rig.errors() == {}
    assert rig.closed() == {"keepalive_timeout": 1}


@pytest.mark.parametrize(
    ("sent", "errors"), [(b"", {}), (LOCAL, {}), (V2[:9], {"client_disconnect": 1})]
)
def test_a_health_check_that_only_connects(
    make_rig: MakeRig, sent: bytes, errors: dict[str, float]
) -> None:
    """It leaves without a word, or after its header: nothing went wrong; inside it: something did."""
    rig = make_rig(peer, proxy_protocol="auto")
    client = rig.connect()
    rig.exchange(sent, client)
    client.close()
    rig.pump()

    assert rig.closed() == {"client": 1}
    assert rig.errors() == errors


def test_the_proxys_own_word_on_the_client_is_not_a_clients(make_rig: MakeRig) -> None:
    """X-Forwarded-For behind a header counts only when the header names a proxy."""
    rig = make_rig(
        peer,
        proxy_protocol="auto",
        forwarded_client="x-forwarded-for",
        forwarded_allow_ips=("10.0.0.0/8",),
    )
    told = b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n"
    inner = b"PROXY TCP4 10.0.0.7 10.0.0.1 5 80\r\n"

    assert bodies(rig.exchange(V1 + told)) == [b"192.0.2.1|40000|http"]
    assert bodies(rig.exchange(inner + told)) == [b"203.0.113.9||http"]
