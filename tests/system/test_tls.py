"""HTTPS by real clients: versions, certificates, resumption, reloads, and clients that misbehave."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.certificates import Authority, Files
from tests.system.client import Connection, build_request, chunked
from tests.system.conftest import Servers, bind_for
from tests.system.harness import Server, open_socket, run_cli, wait_until
from tests.system.test_signals import Load

VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def files(authority: Authority) -> Files:
    return authority.issue("server")


def flags(files: Files, *more: str) -> tuple[str, ...]:
    return ("--certfile", files.certfile, "--keyfile", files.keyfile, *more)


def secure(sock: socket.socket, context: ssl.SSLContext, **options: Any) -> Connection:
    """A connection that has shaken hands."""
    try:
        return Connection(context.wrap_socket(sock, server_hostname="localhost", **options))
    except BaseException:
        sock.close()
        raise


def dial(server: Server, context: ssl.SSLContext, **options: Any) -> Connection:
    return secure(open_socket(server.address, 20), context, **options)


def https(server: Server) -> str:
    return f"https://localhost:{server.address.rpartition(':')[2]}"


@pytest.fixture(scope="module", params=["h11-tcp", "httptools-unix"])
def web(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, files: Files
) -> Iterator[Server]:
    """Both parsers, both kinds of socket."""
    parser, _, transport = request.param.partition("-")
    folder = tmp_path_factory.mktemp("web")
    servers = Servers(folder)
    try:
        bind = (bind_for(transport, folder),)
        yield servers(
            "behaviours:app", *flags(files, "--http-parser", parser), bind=bind, metrics=True
        )
    finally:
        servers.finish()


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
def test_one_connection_carries_all_kinds_of_requests(
    web: Server, authority: Authority, version: ssl.TLSVersion
) -> None:
    """Kept alive and pipelined, with bodies of every framing, in either version of TLS."""
    with dial(web, authority.client(version)) as connection:
        told = connection.get("/environ_json")
        assert b'"wsgi.url_scheme": "https"' in told.body
        assert b'"HTTPS": "on"' in told.body
        connection.send(build_request("GET", "/hello") * 5)
        for _ in range(5):
            assert connection.response().body == b"hello\n"
        large = os.urandom(1000) * 10_000
        pieces = [large[start : start + 65_536] for start in range(0, len(large), 65_536)]
        connection.request("POST", "/size", {"Transfer-Encoding": "chunked"}, chunked(pieces))
        assert connection.response().body == b"%d" % len(large)
        connection.request("POST", "/echo", {"Expect": "100-continue", "Content-Length": "3"})
        assert connection.response().status == 100
        connection.send(b"abc")
        assert connection.response().body == b"abc"
        assert connection.get("/pieces?n=40&size=5000").chunks == 40
        assert len(connection.get("/blob?n=3000000").body) == 3_000_000
        connection.request("GET", "/hello", {"Connection": "close"})
        assert connection.response().body == b"hello\n"
        assert connection.sock.recv(1) == b""
    with dial(web, authority.client(version), suppress_ragged_eofs=False) as connection:
        # The body ends with the connection: only a farewell tells that it is whole.
        connection.request("GET", "/pieces?n=100&size=50000", minor=0)
        assert len(connection.response().body) == 5_000_000


def test_a_cut_response_is_no_whole_one(serve: Servers, files: Files, authority: Authority) -> None:
    """Where the end of the connection is the body's, a failure must not look like it."""
    server = serve("behaviours:app", *flags(files), allow_errors=True)
    context = authority.client()
    with dial(server, context, suppress_ragged_eofs=False) as connection:
        connection.request("GET", "/fail_later", minor=0)
        with pytest.raises(ssl.SSLEOFError):
            connection.response()


def test_files_are_sent(web: Server, authority: Authority, tmp_path: Path) -> None:
    """By wsgi.file_wrapper, small and large, whole and in part."""
    path = tmp_path / "file"
    path.write_bytes(os.urandom(1_500_000))
    with dial(web, authority.client()) as connection:
        for offset in (0, 5, 1_490_000):
            found = connection.get(f"/file?path={path}&offset={offset}")
            assert found.body == path.read_bytes()[offset:]


def test_a_slow_reader_of_100_mb_holds_no_thread(
    serve: Servers, files: Files, authority: Authority, tmp_path: Path
) -> None:
    """With one thread others are served while it reads, and it gets every byte."""
    path = tmp_path / "file"
    with path.open("wb") as file:
        for number in range(100):
            file.write(bytes([number]) * 1_000_000)
    server = serve("behaviours:app", *flags(files), threads=1)
    context = authority.client()
    with dial(server, context) as slow:
        slow.request("GET", f"/file?path={path}")
        assert slow.sock.recv(1000)
        with dial(server, context) as other:
            assert other.get("/hello").body == b"hello\n"
            assert other.get("/blob?n=1000000").status == 200
        got = 1000
        counts = [0] * 256
        view = memoryview(bytearray(1 << 20))
        while got < 100_000_000:
            count = slow.sock.recv_into(view)
            assert count
            got += count
            counts[view[0]] += 1
        assert all(counts[1:100])


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
def test_sessions_are_resumed_at_any_worker(
    serve: Servers, files: Files, authority: Authority, version: ssl.TLSVersion
) -> None:
    """The keys of tickets are every worker's."""
    server = serve("behaviours:app", *flags(files), workers=3)
    server.wait_workers(3)
    context = authority.client(version)
    session = None
    seen = set()
    for number in range(200):
        with dial(server, context, session=session) as connection:
            assert isinstance(connection.sock, ssl.SSLSocket)
            seen.add(connection.get("/sleep?s=0").text)
            assert connection.sock.session_reused == bool(number)
            session = connection.sock.session
        if len(seen) == 3:
            break
        # Workers take turns only when they have something to do.
        with dial(server, context, session=session) as busy:
            busy.request("GET", "/sleep?s=0.05")
            with dial(server, context, session=session) as connection:
                seen.add(connection.get("/sleep?s=0.05").text)
                assert connection.sock.session_reused
            busy.response()
    assert len(seen) == 3


@pytest.mark.program("openssl")
def test_openssl_resumes_and_is_refused_a_renegotiation(
    serve: Servers, files: Files, authority: Authority
) -> None:
    """Another client's word for it."""
    server = serve("behaviours:app", *flags(files))
    command = [
        "openssl", "s_client", "-connect", server.address, "-CAfile", authority.ca_certs, "-tls1_2",
    ]  # fmt: skip
    again = subprocess.run(
        [*command, "-reconnect"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert again.stdout.count("Reused, TLSv1.2") == 5
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as client:
        out, _ = client.communicate("R\n", timeout=30)
    assert "no renegotiation" in out


@pytest.mark.program("curl")
def test_curl_and_requests(serve: Servers, files: Files, authority: Authority) -> None:
    """They verify the certificate, keep connections and send bodies."""
    server = serve("behaviours:app", *flags(files))
    with requests.Session() as session:
        session.trust_env = False
        session.verify = authority.ca_certs
        assert session.get(f"{https(server)}/hello", timeout=20).text == "hello\n"
        body = os.urandom(300_000)
        assert session.post(f"{https(server)}/echo", data=body, timeout=20).content == body
    done = subprocess.run(
        ["curl", "-sS", "--noproxy", "*", "--cacert", authority.ca_certs, "-d", "a=1",
         f"{https(server)}/echo", f"{https(server)}/echo", "-w", "%{num_connects} "],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    assert done.stdout == "a=11 a=10 "


def test_versions_below_the_minimum_are_refused(
    serve: Servers, files: Files, authority: Authority
) -> None:
    """With a message that the client understands."""
    server = serve("behaviours:app", *flags(files, "--tls-minimum", "1.3"))
    with pytest.raises(ssl.SSLError, match=r"(?i)protocol.version"):
        dial(server, authority.client(ssl.TLSVersion.TLSv1_2))
    with dial(server, authority.client()) as connection:
        assert connection.get("/hello").status == 200


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
def test_clients_must_show_certificates(
    serve: Servers, files: Files, authority: Authority, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    """None, a stranger's, and the right one."""
    more = ("--ca-certs", authority.ca_certs, "--cert-reqs", "2")
    server = serve("behaviours:app", *flags(files, *more), metrics=True)
    stranger = Authority(tmp_path / "other").issue("stranger", "client@example.org")
    for context in (authority.client(version), authority.client(version, stranger)):
        # In TLS 1.3 a client has done its part before the server looks.
        with pytest.raises(ssl.SSLError), dial(server, context) as connection:
            connection.get("/hello")
    known = authority.client(version, authority.issue("known", "client@example.org"))
    for _ in range(2):
        with dial(server, known) as connection:
            assert connection.get("/hello").body == b"hello\n"
    wait_until(lambda: server.sample("gthreadsrv_request_errors_total", reason="tls") == 2)
    wait_until(lambda: server.sample("gthreadsrv_connections_closed_total", reason="error") == 2)
    details = [line["detail"] for line in server.logged("TLS failed")]
    assert "peer did not return a certificate" in details[0]
    assert "certificate verify failed" in details[1]


def test_the_hook_chooses_a_certificate_by_name(
    serve: Servers, authority: Authority, tmp_path: Path
) -> None:
    """`ssl_context` of the configuration file sets sni_callback."""
    first, second = authority.issue("a.example", "localhost"), authority.issue("b", "b.example")
    (tmp_path / "gthreadsrv.conf.py").write_text(
        f"""
certfile, keyfile = {first.certfile!r}, {first.keyfile!r}

def ssl_context(conf, default_ssl_context_factory):
    import dataclasses
    main, other = default_ssl_context_factory(), default_ssl_context_factory()
    other.load_cert_chain({second.certfile!r}, {second.keyfile!r})

    def choose(sslobject, name, context):
        if name == "b.example":
            sslobject.context = other

    main.sni_callback = choose
    return main
"""
    )
    server = serve("behaviours:app")
    for name in ("localhost", "b.example"):
        with Connection(
            authority.client().wrap_socket(open_socket(server.address), server_hostname=name)
        ) as connection:
            assert connection.get("/hello").status == 200


def test_many_clients_at_once(serve: Servers, files: Files, authority: Authority) -> None:
    """A crowd that stays connected, over two workers."""
    server = serve("behaviours:app", *flags(files), workers=2)
    server.wait_workers(2)
    context = authority.client()
    with contextlib.ExitStack() as stack:
        crowd = [stack.enter_context(dial(server, context)) for _ in range(80)]
        for _ in range(2):
            for connection in crowd:
                connection.request("GET", "/hello")
            for connection in crowd:
                assert connection.response().body == b"hello\n"


def test_misbehaving_clients_harm_nobody(
    serve: Servers, files: Files, authority: Authority
) -> None:
    """Silent, half-open, slow, plain and broken ones, on a server with one thread."""
    server = serve(
        "behaviours:app", *flags(files, "--header-timeout", "2"), threads=1, metrics=True
    )
    context = authority.client()
    hello = _client_hello(context)
    with contextlib.ExitStack() as stack:
        for number in range(60):
            sock = stack.enter_context(open_socket(server.address))
            if number % 3:
                sock.sendall(hello[: 1 + number])
        for first, answer in ((b"GET / HTTP/1.1\r\n\r\n", b"This port speaks HTTPS.\n"),
                              (b"\0" * 50, b"")):  # fmt: skip
            with open_socket(server.address) as sock:
                sock.sendall(first)
                assert _all(sock).endswith(answer)
        began = time.monotonic()
        with dial(server, context) as connection:
            assert connection.get("/hello").body == b"hello\n"
        assert time.monotonic() - began < 10, "it waited for those that stand still"
        wait_until(lambda: server.sample("gthreadsrv_request_errors_total", reason="tls") == 42)
        closed = server.samples("gthreadsrv_connections_closed_total")
    assert closed[("reason", "timeout"),] == 40
    assert server.sample("gthreadsrv_request_queue_seconds_count", source="user") == 1
    assert server.sample("gthreadsrv_request_queue_seconds_count", source="kernel") == 0


def _client_hello(context: ssl.SSLContext) -> bytes:
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def _all(sock: socket.socket) -> bytes:
    data = b""
    while piece := sock.recv(65536):
        data += piece
    return data


class SecureLoad(Load):
    """Clients that check the server's certificate on each new connection."""

    def __init__(
        self, server: Server, context: Callable[[], ssl.SSLContext], *, keep_alive: bool
    ) -> None:
        super().__init__(server, "/sleep?s=0.001", keep_alive)
        self._context = context

    def dial(self) -> Connection:
        return secure(open_socket(self.address, 20), self._context())


@pytest.mark.parametrize("keep_alive", [True, False])
def test_a_reload_brings_the_new_certificate_and_loses_no_request(
    serve: Servers, authority: Authority, tmp_path: Path, *, keep_alive: bool
) -> None:
    """Under load; a broken one changes nothing, and is told of in one line."""
    names = {name: authority.issue(name, "localhost", name) for name in ("old", "new")}
    live = Files(str(tmp_path / "live.pem"), str(tmp_path / "live.key"))

    def install(certificate: str, key: str) -> None:
        shutil.copy(names[certificate].certfile, live.certfile)
        shutil.copy(names[key].keyfile, live.keyfile)

    install("old", "old")
    server = serve("behaviours:app", *flags(live), workers=2, allow_errors=True)
    server.wait_workers(2)
    assert _name_of(server, authority) == {"localhost", "old"}
    load = SecureLoad(server, authority.client, keep_alive=keep_alive)
    load.start()
    try:
        install("new", "old")
        server.send_signal(signal.SIGHUP)
        failed = server.wait_log("reload failed")
        assert "does not belong to the certificate" in failed[0]["detail"]
        assert _name_of(server, authority) == {"localhost", "old"}
        install("new", "new")
        server.send_signal(signal.SIGHUP)
        server.wait_log("reloaded")
        # The last of the old workers may still be on its way out.
        wait_until(lambda: _name_of(server, authority) == {"localhost", "new"})
        wait_until(lambda: len(load.answers) > 50)
    finally:
        load.stop()
    assert load.failures == []


def _name_of(server: Server, authority: Authority) -> set[str]:
    """The names in the certificate that a new client is shown."""
    with dial(server, authority.client()) as connection:
        assert isinstance(connection.sock, ssl.SSLSocket)
        certificate = connection.sock.getpeercert()
        assert certificate is not None
        return {str(value) for _, value in certificate["subjectAltName"]}


@pytest.mark.parametrize("keep_alive", [True, False])
def test_a_stop_under_load_loses_no_request(
    serve: Servers, files: Files, authority: Authority, *, keep_alive: bool
) -> None:
    """Whoever is in is answered and told that the connection ends; others find no server."""
    server = serve("behaviours:app", *flags(files), workers=2)
    server.wait_workers(2)
    load = SecureLoad(server, authority.client, keep_alive=keep_alive)
    load.start()
    wait_until(lambda: len(load.answers) > 50)
    server.send_signal(signal.SIGTERM)
    assert server.wait_exit() == 0
    load.stop()
    assert [one for one in load.failures if "ConnectionRefusedError" not in one] == []


def test_settings_that_cannot_work_are_one_line(
    files: Files, authority: Authority, tmp_path: Path
) -> None:
    """At the start and when asked to check: exit code 2, no worker, no traceback."""
    other = authority.issue("other-key")
    mixed = Files(files.certfile, other.keyfile)
    (tmp_path / "shop.py").write_text("def app(e, s): ...")
    for more in ((), ("--check-config",)):
        done = run_cli(
            "--bind", "127.0.0.1:0", "--metrics-bind", "off", *more, *flags(mixed), "shop:app",
            cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 2
        last = done.stderr.splitlines()[-1]
        assert last.startswith("gthreadsrv: error: keyfile: the key in ")
        assert "Traceback" not in done.stderr
    done = run_cli("--check-config", *flags(files), "shop:app", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_threads_are_not_used_up_by_tls_connections_that_wait(
    serve: Servers, files: Files, authority: Authority
) -> None:
    """Uploads and downloads that stand still in the middle of a record."""
    server = serve("behaviours:app", *flags(files), threads=1)
    context = authority.client()
    with dial(server, context) as upload, dial(server, context) as download:
        upload.send(b"POST /size HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n" + bytes(10))
        download.request("GET", "/blob?n=20000000")
        done = threading.Event()

        def ask() -> None:
            with dial(server, context) as other:
                assert other.get("/hello").status == 200
            done.set()

        asking = threading.Thread(target=ask)
        asking.start()
        assert done.wait(20)
        asking.join()
        upload.send(bytes(99_990))
        assert upload.response().body == b"100000"
        assert len(download.response().body) == 20_000_000
