"""TLS connections in the poller: handshakes with a deadline, on no thread's time."""

from __future__ import annotations

import gc
import ssl
import weakref
from collections.abc import Callable
from typing import Any, cast

import pytest

from gthreadsrv.worker.connection import ACTIVE, HANDSHAKING, IDLE, LINGERING, State
from gthreadsrv.worker.drain import IDLE_GRACE_S
from gthreadsrv.worker.watchdog import Watchdog
from tests.certificates import Authority
from tests.unit.worker.rig import (
    GET,
    GET_CLOSE,
    Clock,
    Live,
    Rig,
    at_end,
    drained,
    echo,
    get,
    running,
    wait_until,
)
from tests.unit.worker.tls_client import TlsClient

MakeRig = Callable[..., Rig]
VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(params=VERSIONS, ids=lambda version: version.name)
def secure(
    request: pytest.FixtureRequest, authority: Authority, make_rig: MakeRig
) -> Callable[..., tuple[Rig, TlsClient]]:
    """A rig that speaks TLS, and a client of it that has said nothing yet."""

    def make(*args: Any, **kwargs: Any) -> tuple[Rig, TlsClient]:
        rig = make_rig(*args, tls=authority.server(), **kwargs)
        return rig, TlsClient(rig.connect(), authority.client(request.param))

    return make


Secure = Callable[..., tuple[Rig, TlsClient]]


def test_requests_are_served_and_kept_alive(secure: Secure) -> None:
    """The handshake, then as many requests as on any connection."""
    rig, client = secure(echo)
    client.shake(rig.pump)
    assert rig.only().state is IDLE
    for path in ("/one", "/two"):
        client.send(get(path))
        rig.pump()
        assert client.received().endswith(b"GET%b|" % path.encode())
    client.send(get("/a") + get("/b"))
    rig.pump()
    assert client.received().count(b"200 OK") == 2
    assert rig.errors() == {}
    assert rig.fleet().queue["user"][-1] or sum(rig.fleet().queue["user"]) > 0
    assert sum(rig.fleet().queue["kernel"]) == 0


def test_a_request_that_comes_with_the_handshakes_end_is_served(secure: Secure) -> None:
    """Nothing more comes that would wake the poller."""
    rig, client = secure(echo)
    flight = client.step()
    while True:
        client.sock.sendall(flight)
        rig.pump()
        client.take()
        flight = client.step()
        try:
            flight += client.seal(GET_CLOSE)
        except ssl.SSLError:
            continue
        break
    client.sock.sendall(flight)
    rig.pump()
    assert b"200 OK" in client.received()
    assert client.closed


def test_a_whole_conversation_may_come_byte_by_byte(secure: Secure) -> None:
    """Handshake, head and body."""
    rig, client = secure(echo)
    client.shake(rig.pump, size=1)
    for byte in client.seal(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbo"):
        client.sock.sendall(bytes([byte]))
        rig.pump()
    assert rig.only().state is State.READING
    client.send(b"dy")
    rig.pump()
    assert client.received().endswith(b"POST/x|body")


def test_a_silent_client_is_idle_and_holds_nothing(secure: Secure, clock: Clock) -> None:
    """Until it speaks it has the time of any silent connection."""
    rig, _client = secure(keepalive=75.0)
    rig.pump()
    connection = rig.only()
    assert connection.state is IDLE
    assert connection.deadline == clock.now + 75
    clock.advance(76)
    rig.pool.poke()
    rig.pump()
    assert rig.closed() == {"keepalive_timeout": 1}
    assert rig.errors() == {}


def test_a_handshake_has_the_time_of_a_head_from_its_first_byte(
    secure: Secure, clock: Clock
) -> None:
    """Bytes now and then gain nothing."""
    rig, client = secure(header_timeout=10.0)
    flight = client.step()
    for number in range(20):
        client.sock.sendall(flight[number : number + 1])
        rig.pump()
        assert rig.only().state is HANDSHAKING
        clock.advance(0.5)
    clock.advance(0.1)
    rig.pool.poke()
    rig.pump()
    assert rig.closed() == {"timeout": 1}
    assert rig.errors() == {"tls": 1}
    assert rig.log.fields("TLS failed")["detail"] == "the handshake took too long"
    assert drained(client.sock) == b"", "nothing in clear"


def test_a_client_that_leaves_in_the_handshake(secure: Secure) -> None:
    """Before its first byte it is anybody's probe; after it, an error."""
    rig, client = secure()
    rig.pump()
    client.sock.close()
    rig.pump()
    assert (rig.closed(), rig.errors()) == ({"client": 1}, {})

    second = rig.connect()
    second.sendall(client.step()[:9])
    rig.pump()
    second.close()
    rig.pump()
    assert (rig.closed(), rig.errors()) == ({"client": 2}, {"tls": 1})


def test_plain_http_is_answered_in_plain_text(secure: Secure) -> None:
    """Whoever reads it knows what to change."""
    rig, client = secure()
    answer = rig.exchange(GET, client.sock)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"connection: close" in head.lower()
    assert body == b"400 Bad Request\nThis port speaks HTTPS.\n"
    assert at_end(client.sock)
    assert rig.errors() == {"tls": 1}
    assert rig.statuses() == {400: 1}
    assert sum(next(iter(rig.fleet().durations.values()))[:1]) < 1, "no time was measured wrongly"


def test_garbage_is_closed_without_an_answer(secure: Secure) -> None:
    """There is no language to answer in."""
    rig, client = secure()
    assert rig.exchange(b"\0\xff\0\xff", client.sock) == b""
    assert at_end(client.sock)
    assert (rig.closed(), rig.errors()) == ({"error": 1}, {"tls": 1})


def test_a_failed_handshake_ends_with_an_alert(authority: Authority, make_rig: MakeRig) -> None:
    """Versions that do not meet: the client is told, and what it still sends is thrown away."""
    server = authority.server(minimum_version=ssl.TLSVersion.TLSv1_3)
    rig = make_rig(tls=server)
    client = TlsClient(rig.connect(), authority.client(ssl.TLSVersion.TLSv1_2))
    client.sock.sendall(client.step() + b"and more")
    rig.pump()
    assert rig.only().state is LINGERING
    with pytest.raises(ssl.SSLError, match=r"(?i)protocol.version"):
        client.take()
        client.tls.do_handshake()
    assert at_end(client.sock)
    client.sock.close()
    rig.pump()
    assert (rig.closed(), rig.errors()) == ({"error": 1}, {"tls": 1})
    assert rig.log.fields("TLS failed")["detail"] == "unsupported protocol"


def test_a_thousand_half_open_handshakes_make_room(
    authority: Authority, make_rig: MakeRig, clock: Clock
) -> None:
    """At the limit the oldest of them go, and whoever speaks is served."""
    rig = make_rig(echo, tls=authority.server(), worker_connections=50)
    hello = TlsClient(rig.connect(), authority.client()).step()
    for _ in range(1000 // 20):
        for _ in range(20):
            rig.connect().sendall(hello[:100])
        # A thread is kept for the first of them, for a moment.
        for _ in range(2):
            rig.pump()
            clock.advance(0.021)
        rig.pump()
        assert len(rig.pool.connections) <= 50
        clock.advance(IDLE_GRACE_S)
    client = TlsClient(rig.connect(), authority.client())
    client.shake(rig.pump)
    client.send(GET)
    rig.pump()
    assert b"200 OK" in client.received()
    assert rig.closed()["limit"] > 900


def test_connections_in_a_handshake_count_as_reading(secure: Secure) -> None:
    """In the metrics they are on their way to a request."""
    rig, client = secure()
    client.sock.sendall(client.step()[:9])
    rig.pump()
    watchdog = Watchdog.__new__(Watchdog)
    watchdog._pool, watchdog._slot = rig.pool, rig.board.slot(0)
    watchdog._on_beat = lambda: None
    watchdog._beat(1.0, 1.0)
    reading, active, writing, idle = rig.fleet().slots[0].connections
    assert (reading, active, writing, idle) == (1, 0, 0, 0)


def test_a_draining_worker_finishes_handshakes_and_serves_what_follows(secure: Secure) -> None:
    """The client has connected while all was well."""
    rig, client = secure(echo)
    client.sock.sendall(client.step())
    rig.pump()
    rig.drain.begin()
    rig.pump()
    client.take()
    client.shake(rig.pump)
    client.send(get("/late"))
    rig.pump()
    answer = client.received()
    assert b"200 OK" in answer
    assert b"connection: close" in answer.lower()
    assert client.closed


def test_a_broken_record_ends_the_connection_before_the_application_hears(
    secure: Secure,
) -> None:
    """Half a request and a forged rest."""
    asked: list[str] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        asked.append(environ["PATH_INFO"])
        return echo(environ, start_response)

    rig, client = secure(app)
    client.shake(rig.pump)
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab")
    rig.pump()
    client.sock.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
    rig.pump()
    assert asked == []
    assert rig.errors() == {"tls": 1}


@pytest.mark.parametrize("farewell", [True, False])
def test_a_body_cut_short_never_reaches_the_application(secure: Secure, *, farewell: bool) -> None:
    """Announced or not, the end comes before the body's."""
    asked: list[str] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        asked.append(environ["PATH_INFO"])
        return echo(environ, start_response)

    rig, client = secure(app)
    client.shake(rig.pump)
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab")
    if farewell:
        client.sock.sendall(client.farewell())
    else:
        client.sock.close()
    rig.pump()
    assert asked == []
    assert rig.errors() == {"client_disconnect": 1}
    assert not rig.pool.connections


def test_a_client_that_says_farewell_with_its_request_is_answered(secure: Secure) -> None:
    """It may close its side before ours (RFC 8446 6.1)."""
    rig, client = secure(echo)
    client.shake(rig.pump)
    client.sock.sendall(client.seal(GET) + client.farewell())
    rig.pump()
    client.incoming.write(drained(client.sock))
    assert not rig.pool.connections, "no idle connection is left that will never speak"
    assert rig.closed() == {"client": 1}
    assert rig.errors() == {}
    assert rig.statuses() == {200: 1}


def test_an_idle_connection_is_closed_with_a_farewell(secure: Secure, clock: Clock) -> None:
    """A client that is about to send learns that it was no accident."""
    rig, client = secure(keepalive=5.0)
    client.shake(rig.pump)
    clock.advance(6)
    rig.pool.poke()
    rig.pump()
    assert client.received() == b""
    assert client.closed
    assert rig.closed() == {"keepalive_timeout": 1}


def test_handshakes_hold_no_thread(
    authority: Authority, make_live: Callable[..., Live], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With two threads and ten half handshakes a request is served."""
    live = make_live(echo, threads=2, tls=authority.server())
    with running(live):
        hello = TlsClient(live.connect(), authority.client()).step()
        for _ in range(10):
            live.connect().sendall(hello[:-5])
        wait_until(
            lambda: (
                [one.state for one in list(live.pool.connections.values())].count(HANDSHAKING) == 10
            )
        )
        assert all(one.state is not ACTIVE for one in list(live.pool.connections.values()))
        raw = live.connect()
        with authority.client().wrap_socket(raw, server_hostname="localhost") as client:
            live.clients.remove(raw)
            client.settimeout(10)
            client.sendall(GET)
            assert b"200 OK" in client.recv(65536)


class Narrow:
    """A connection's socket with a kernel that takes as much of each send as the test says."""

    def __init__(self, rig: Rig, *takes: int) -> None:
        connection = rig.only()
        self._sock, self._takes = connection.sock, list(takes)
        self.recv = connection.sock.recv
        cast("Any", connection.wire).stream._sock = self

    def send(self, data: bytes) -> int:
        size = self._takes.pop(0) if self._takes else len(data)
        if not size:
            raise BlockingIOError
        return self._sock.send(data[:size])


def test_a_handshake_is_not_over_before_our_part_has_left(secure: Secure) -> None:
    """In TLS 1.2 ours is the last word, and the client waits for it."""
    rig, client = secure(echo)
    client.sock.sendall(client.step())
    rig.pump()
    Narrow(rig, 0, 0, 10, 0)
    client.take()
    client.sock.sendall(client.step())
    rig.pump()
    assert rig.only().state is IDLE
    client.take()
    client.tls.do_handshake()
    client.send(GET)
    rig.pump()
    assert b"200 OK" in client.received()


@pytest.mark.parametrize("request_", [GET_CLOSE, b"GET / HTTP/1.0\r\n\r\n"])
def test_a_farewell_waits_for_room(secure: Secure, request_: bytes) -> None:
    """It is the response's end where nothing else tells that it is whole."""
    rig, client = secure(echo)
    client.shake(rig.pump)
    Narrow(rig, 1 << 20, 0, 0, 5, 0)
    client.send(request_)
    rig.pump()
    assert b"200 OK" in client.received()
    assert client.closed
    assert at_end(client.sock)
    assert rig.only().state is LINGERING
    client.sock.sendall(client.farewell())
    rig.pump()
    assert drained(client.sock) == b"", "no reset for the client's own farewell"
    client.sock.close()
    rig.pump()
    assert rig.closed() == {"client": 1}


def test_a_connection_that_has_ended_is_freed_at_once(secure: Secure) -> None:
    """OpenSSL's memory is not the collector's to see, so no cycle may keep it."""
    rig, client = secure()
    client.shake(rig.pump)
    stream = weakref.ref(cast("Any", rig.only().wire).stream._ssl)
    half_open = rig.connect()
    half_open.sendall(b"\x16\x03\x01")
    rig.pump()
    gc.disable()
    try:
        client.sock.close()
        half_open.close()
        rig.pump()
        assert not rig.pool.connections
        assert stream() is None
    finally:
        gc.enable()


POST = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 9000\r\n\r\n"


def test_part_of_a_record_is_part_of_a_request(secure: Secure, clock: Clock) -> None:
    """A slow client's first record takes its time: a head's time, not what is left of an idle one."""
    rig, client = secure(echo, keepalive=2.0, header_timeout=10.0)
    client.shake(rig.pump)
    clock.advance(1.5)
    record = client.seal(get("/slow", f"X-Long: {'x' * 4000}"))
    for start in range(0, len(record), 1000):
        client.sock.sendall(record[start : start + 1000])
        rig.pump()
        clock.advance(1.0)
        rig.pool.poke()
        rig.pump()
    assert client.received().endswith(b"GET/slow|")
    assert rig.closed() == {}


def test_part_of_a_record_and_no_more_is_answered_as_a_head_that_does_not_come(
    secure: Secure, clock: Clock
) -> None:
    """Bytes now and then gain nothing."""
    rig, client = secure(echo, header_timeout=10.0)
    client.shake(rig.pump)
    record = client.seal(GET)
    for number in range(20):
        client.sock.sendall(record[number : number + 1])
        rig.pump()
        assert rig.only().state is State.READING
        clock.advance(0.5)
    clock.advance(0.1)
    rig.pool.poke()
    rig.pump()
    assert b" 408 " in client.received()
    assert rig.errors() == {"read_timeout": 1}


def test_a_draining_worker_waits_for_the_rest_of_a_record(secure: Secure, clock: Clock) -> None:
    """The request was under way before the worker began to leave."""
    rig, client = secure(echo)
    client.shake(rig.pump)
    record = client.seal(GET)
    client.sock.sendall(record[:20])
    rig.pump()
    rig.drain.begin()
    for _ in range(3):
        clock.advance(1.0)
        rig.pool.poke()
        rig.pump()
    client.sock.sendall(record[20:])
    rig.pump()
    assert b"200 OK" in client.received()


def test_a_body_that_comes_has_not_paused(secure: Secure, clock: Clock) -> None:
    """However long one record of it is on its way."""
    rig, client = secure(echo, body_timeout=3.0)
    client.shake(rig.pump)
    client.send(POST)
    rig.pump()
    record = client.seal(b"y" * 9000)
    for start in range(0, len(record), 2500):
        clock.advance(2.0)
        rig.pool.poke()
        rig.pump()
        client.sock.sendall(record[start : start + 2500])
        rig.pump()
    assert client.received().endswith(b"POST/x|" + b"y" * 9000)


def test_pipelined_requests_are_answered_by_a_draining_worker(secure: Secure) -> None:
    """What waits in the kernel is encrypted, and a request all the same."""
    sent: list[int] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        if not sent:
            sent.append(1)
            client.send(get("/second"))
            rig.drain.begin()
        return echo(environ, start_response)

    rig, client = secure(app)
    client.shake(rig.pump)
    client.send(get("/first"))
    rig.pump()
    got = client.received()
    assert got.count(b"200 OK") == 2
    assert got.count(b"Connection: close") == 1
    assert client.closed


def test_part_of_a_record_may_come_with_the_handshakes_end(
    authority: Authority, make_rig: MakeRig
) -> None:
    """TLS 1.3 lets a client speak at once."""
    rig = make_rig(echo, tls=authority.server())
    client = TlsClient(rig.connect(), authority.client(ssl.TLSVersion.TLSv1_3))
    client.sock.sendall(client.step())
    rig.pump()
    client.take()
    flight = client.step()
    record = client.seal(GET)
    client.sock.sendall(flight + record[:20])
    rig.pump()
    assert rig.only().state is State.READING
    client.sock.sendall(record[20:])
    rig.pump()
    assert b"200 OK" in client.received()
