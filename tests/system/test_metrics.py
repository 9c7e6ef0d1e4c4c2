"""The metrics port: truthful while everything else is busy, and counting what clients got."""

from __future__ import annotations

import gzip
import signal
import time
from collections.abc import Iterator

import pytest

from tests.system.client import ClosedError, build_request
from tests.system.conftest import Combination, Servers
from tests.system.harness import Server, read_record, wait_until


@pytest.fixture(scope="module")
def web(combination: Combination) -> Iterator[Server]:
    """One server with its exporter."""
    with combination.server(
        "behaviours:app", workers=2, threads=2, metrics=True, allow_errors=True
    ) as server:
        server.wait_ready()
        yield server


def test_probes_say_yes(web: Server) -> None:
    """/livez, /readyz and /startupz are 200 on a healthy server; other paths are 404."""
    for path in ("/livez", "/readyz", "/startupz"):
        assert web.probe(path).status_code == 200, path
    assert web.probe("/nothing").status_code == 404


def test_metrics_are_the_text_format(web: Server) -> None:
    """/metrics is text 0.0.4, with HELP and TYPE for each family."""
    web.get("/hello")
    wait_until(lambda: web.sample("gthreadsrv_requests_total"))
    response = web.probe("/metrics")

    assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert "# TYPE gthreadsrv_requests_total counter" in response.text
    assert "# HELP gthreadsrv_threads_busy " in response.text


def test_openmetrics_and_gzip_by_negotiation(web: Server) -> None:
    """A scraper that asks for OpenMetrics or gzip gets it."""
    import requests

    accept = {"Accept": "application/openmetrics-text; version=1.0.0", "Accept-Encoding": "gzip"}
    with requests.get(web.metrics_url + "/metrics", headers=accept, stream=True, timeout=10) as got:
        raw = got.raw.read()

    assert got.headers["Content-Type"].startswith("application/openmetrics-text")
    assert got.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(raw).endswith(b"# EOF\n")


def test_requests_are_counted_as_clients_got_them(web: Server) -> None:
    """Method and code of every response, kept-alive, pipelined, refused or failed, are counted."""
    name = "gthreadsrv_requests_total"
    before = web.samples(name)
    with web.connect() as connection:
        connection.send(build_request("GET", "/hello") * 7 + build_request("HEAD", "/hello") * 2)
        for method in ["GET"] * 7 + ["HEAD"] * 2:
            connection.response(method)
        connection.request("POST", "/echo", body=b"x" * 100_000)
        connection.response()
        assert connection.get("/fail").status == 500
    with web.connect() as connection:
        connection.send(b"GET / HTTP/1.1\r\n\r\n")
        assert connection.response().status == 400

    def difference(method: str, code: str) -> float:
        labels = {"method": method, "code": code}
        key = tuple(sorted(labels.items()))
        return web.samples(name, **labels).get(key, 0) - before.get(key, 0)

    wait_until(lambda: difference("POST", "200") == 1)
    wait_until(lambda: difference("GET", "500") == 1)
    assert (difference("GET", "200"), difference("HEAD", "200")) == (7, 2)
    wait_until(lambda: web.sample(name, code="400") - _sum(before, code="400") == 1)
    assert web.sample("gthreadsrv_worker_requests_total") == web.sample(name)
    assert web.sample("gthreadsrv_request_duration_seconds_count") == web.sample(name)


def _sum(samples: dict[tuple[tuple[str, str], ...], float], **labels: str) -> float:
    wanted = set(labels.items())
    return sum(value for key, value in samples.items() if wanted <= set(key))


def test_errors_are_counted_by_reason(web: Server) -> None:
    """Refusals, application errors and vanished clients each have their reason."""
    name = "gthreadsrv_request_errors_total"
    before = web.samples(name)

    def more(reason: str) -> bool:
        return web.sample(name, reason=reason) > _sum(before, reason=reason)

    web.get("/fail")
    with web.connect() as connection:
        connection.send(b"GET / HTTP/1.1\nHost: a\n\n")
        connection.response()
    with web.connect() as connection:
        connection.request("GET", "/pieces?n=500&size=100000")
        connection.sock.recv(100)
    for reason in ("application_error", "bad_request", "client_disconnect"):
        wait_until(lambda r=reason: more(r), what=reason)  # type: ignore[misc]


def test_capacity_is_beside_usage(web: Server) -> None:
    """Workers, threads and settings are exported from the start."""
    assert web.sample("gthreadsrv_workers", state="ready") == 2
    assert sorted(web.samples("gthreadsrv_threads").values()) == [2, 2]
    assert web.sample("gthreadsrv_config_workers") == 2
    assert web.sample("gthreadsrv_config_threads") == 2
    assert web.sample("gthreadsrv_build_info") == 1
    for worker in ("0", "1"):
        assert web.sample("gthreadsrv_worker_requests_total", worker=worker) >= 0


def test_the_worker_class_of_a_reload_is_exported(serve: Servers) -> None:
    """Advice depends on it."""
    file = serve.folder / "gthreadsrv.conf.py"
    file.write_text("worker_class = 'sync'\n")
    server = serve("behaviours:app", workers=1, threads=None, metrics=True)
    server.wait_ready()
    assert server.samples("gthreadsrv_build_info", worker_class="sync")
    file.write_text("worker_class = 'gthread'\n")
    server.send_signal(signal.SIGHUP)
    server.wait_log("reloaded")
    wait_until(lambda: server.samples("gthreadsrv_build_info", worker_class="gthread"))


def test_busy_threads_are_seen_while_they_are_busy(serve: Servers) -> None:
    """With every thread held the exporter answers, shows them busy, and the worker saturated."""
    record, go_on = serve.folder / "record", serve.folder / "go"
    server = serve(
        "behaviours:app", workers=1, threads=2, metrics=True, env={"RECORD": str(record)}
    )
    server.wait_ready()
    connections = [server.connect() for _ in range(2)]
    for connection in connections:
        connection.request("GET", f"/hold?until={go_on}")
    wait_until(lambda: read_record(record).count("holding") == 2)
    wait_until(lambda: server.sample("gthreadsrv_threads_busy") == 2)
    busy, since = server.sample("gthreadsrv_thread_busy_seconds_total"), time.monotonic()
    saturated = server.sample("gthreadsrv_saturated_seconds_total")
    time.sleep(0.5)
    assert server.probe("/livez").status_code == 200
    more = server.sample("gthreadsrv_thread_busy_seconds_total") - busy
    elapsed = time.monotonic() - since
    more_saturated = server.sample("gthreadsrv_saturated_seconds_total") - saturated
    go_on.touch()
    for connection in connections:
        assert connection.response().status == 200
        connection.close()

    assert 0.9 <= more <= 2 * elapsed + 0.2
    assert 0.45 <= more_saturated <= elapsed + 0.2
    wait_until(lambda: server.sample("gthreadsrv_threads_busy") == 0)


def test_waiting_connections_are_the_listeners_backlog(serve: Servers) -> None:
    """With every thread held, further connections wait in the kernel and are counted there."""
    record, go_on = serve.folder / "record", serve.folder / "go"
    server = serve(
        "behaviours:app", workers=1, threads=1, metrics=True, env={"RECORD": str(record)}
    )
    server.wait_ready()
    first = server.connect()
    first.request("GET", f"/hold?until={go_on}")
    wait_until(lambda: "holding" in read_record(record))
    waiting = [server.connect() for _ in range(5)]
    if not server.samples("gthreadsrv_listener_backlog"):
        pytest.skip("this kernel does not tell the accept queue")
    wait_until(lambda: server.sample("gthreadsrv_listener_backlog") == 5)
    go_on.touch()
    for connection in waiting:
        assert connection.get("/hello").body == b"hello\n"
        connection.close()
    first.close()


def test_connections_by_state(serve: Servers) -> None:
    """Idle and half-sent connections show as what they are."""
    server = serve("behaviours:app", workers=1, metrics=True)
    server.wait_ready()
    name = "gthreadsrv_connections"
    with server.connect() as idle, server.connect() as reading:
        idle.get("/hello")
        reading.send(b"GET /hello HTTP/1.1\r\n")
        wait_until(lambda: server.sample(name, state="idle") == 1)
        wait_until(lambda: server.sample(name, state="reading") == 1)
    wait_until(lambda: server.sample(name) == 0)


def test_exits_and_spawns_have_reasons(serve: Servers) -> None:
    """A crash and a reload are told apart, and every reason is there from the start."""
    server = serve("behaviours:app", workers=2, metrics=True, allow_errors=True)
    server.wait_ready()
    exits, spawns = "gthreadsrv_worker_exits_total", "gthreadsrv_worker_spawns_total"
    assert server.sample(spawns, reason="boot") == 2
    assert server.sample(exits) == 0
    assert len(server.samples(exits)) >= 10
    old = server.wait_workers(2)
    server.send_signal(signal.SIGHUP)
    wait_until(lambda: server.sample(exits, reason="reload") == 2)
    assert server.sample(spawns, reason="reload") == 2
    wait_until(lambda: server.sample("gthreadsrv_reloads_total", result="ok") == 1)
    server.wait_workers(2)
    with server.connect() as victim:
        victim.request("GET", "/kill")
        with pytest.raises((ClosedError, ConnectionError)):
            victim.response()
    wait_until(lambda: server.sample(exits) == 3)
    wait_until(lambda: server.sample(spawns, reason="respawn") == 1)
    assert not set(old) & set(server.wait_workers(2))


def test_counts_survive_reloads_and_recycling(serve: Servers) -> None:
    """No request is forgotten when workers are replaced, and no series is added."""
    server = serve("behaviours:app", "--max-requests", "25", workers=2, metrics=True)
    server.wait_ready()
    names = _series(server)
    count = 0
    for _ in range(3):
        for _ in range(50):
            assert server.get("/hello").status == 200
            count += 1
        server.send_signal(signal.SIGHUP)
    wait_until(lambda: server.sample("gthreadsrv_requests_total") == count)
    wait_until(lambda: server.sample("gthreadsrv_reloads_total", result="ok") >= 1)
    wait_until(lambda: server.sample("gthreadsrv_workers") == 2)

    assert len(_series(server)) <= len(names) + 60


def _series(server: Server) -> set[str]:
    return {
        line.rpartition(" ")[0]
        for line in server.probe("/metrics").text.splitlines()
        if not line.startswith("#")
    }


def test_readyz_turns_503_before_the_listeners_close(serve: Servers) -> None:
    """At TERM with --drain-delay load balancers are told first; requests still work meanwhile."""
    server = serve("behaviours:app", "--drain-delay", "2", metrics=True)
    server.wait_ready()
    server.send_signal(signal.SIGTERM)
    wait_until(lambda: server.probe("/readyz").status_code == 503, deadline_s=1.5)
    assert server.probe("/readyz").text.strip()
    assert server.probe("/livez").status_code == 200
    assert server.get("/hello").body == b"hello\n"
    assert server.wait_exit() == 0


def test_not_ready_while_the_application_boots(serve: Servers) -> None:
    """While workers import a slow application /livez is 200, /readyz and /startupz are 503."""
    go_on = serve.folder / "go"
    server = serve("slow_import:app", metrics=True, env={"VARIABLE": str(go_on)})
    wait_until(lambda: server.probe("/livez").status_code == 200)
    for path in ("/readyz", "/startupz"):
        response = server.probe(path)
        assert response.status_code == 503
        assert response.text.strip()
    assert server.sample("gthreadsrv_workers", state="booting") == 1
    go_on.touch()
    server.wait_ready()

    assert server.probe("/startupz").status_code == 200


def test_exporter_refuses_what_is_not_a_scrape(web: Server) -> None:
    """Only GET and HEAD are spoken on the metrics port."""
    import requests

    assert requests.head(web.metrics_url + "/metrics", timeout=10).status_code == 200
    assert requests.post(web.metrics_url + "/metrics", data=b"x", timeout=10).status_code == 405


def test_slow_scrapers_harm_nobody(web: Server) -> None:
    """Scrapers that never finish their request leave the port usable."""
    address = web.metrics_url.removeprefix("http://")
    slow = [web.connect(address) for _ in range(30)]
    for connection in slow:
        connection.send(b"GET /metrics HTTP/1.1\r\nHo")

    assert web.probe("/metrics").status_code == 200
    for connection in slow:
        connection.close()
