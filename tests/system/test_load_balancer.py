"""What cloud load balancers do that others do not, with HAProxy in their place."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.system import fronts
from tests.system.conftest import Servers
from tests.system.harness import Server, wait_until

pytestmark = pytest.mark.program("haproxy")

TRACE = "Root=1-67891233-abcdef012345678912345678"


@pytest.fixture
def server(serve: Servers) -> Server:
    """With an access log and metrics, and otherwise as it comes."""
    return serve("behaviours:app", "--access-logfile", "access.log", workers=2, metrics=True)


@pytest.fixture
def balancer(server: Server, tmp_path: Path) -> Iterator[fronts.Front]:
    """It closes idle connections after a moment, checks often, and sets a trace id."""
    options = "check inter 50ms fastinter 50ms pool-purge-delay 100ms"
    extra = f"http-request set-header X-Amzn-Trace-Id {TRACE}\n    option httpchk GET /hello?check"
    with fronts.haproxy(tmp_path, server.address, options=options, extra=extra) as front:
        yield front


def test_the_balancers_idle_timeout_is_the_shorter_one(
    server: Server, balancer: fronts.Front
) -> None:
    """It, not the server, ends idle connections: no request ever meets a closed one."""
    for number in range(3):
        with requests.Session() as client:
            for _ in range(5):
                assert client.get(f"{balancer.url}/hello").status_code == 200
        wait_until(
            lambda least=number + 1: (
                server.sample("gthreadsrv_connections_closed_total", reason="client") >= least
            ),
            what="the balancer to close a connection",
        )

    assert server.sample("gthreadsrv_connections_closed_total", reason="keepalive_timeout") == 0
    assert server.sample("gthreadsrv_connections_closed_total", reason="error") == 0


def test_health_checks_are_cheap_and_harmless(server: Server, balancer: fronts.Front) -> None:
    """A connection for each, closed by the balancer; nothing is logged but the requests."""
    log = server.cwd / "access.log"
    wait_until(lambda: log.read_text().count("/hello?check") >= 10, what="ten checks")

    assert sum(server.samples("gthreadsrv_request_errors_total").values()) == 0
    assert server.logged("request refused") == []
    assert "DOWN" not in balancer.report()


def test_its_trace_id_is_in_the_access_log(server: Server, balancer: fronts.Front) -> None:
    """As W3C writes it, and behind a traceparent when there is one."""
    trace = "0af7651916cd43dd8448eb211c80319c"
    parent = {"traceparent": f"00-{trace}-b7ad6b7169203331-01"}
    assert requests.get(f"{balancer.url}/hello?amazon", timeout=20).status_code == 200
    assert requests.get(f"{balancer.url}/hello?w3c", headers=parent, timeout=20).status_code == 200

    def lines() -> dict[str, str]:
        text = (server.cwd / "access.log").read_text()
        return {line["target"]: line["trace_id"] for line in map(json.loads, text.splitlines())}

    wait_until(lambda: {"/hello?amazon", "/hello?w3c"} <= set(lines()), what="both lines")
    assert lines()["/hello?amazon"] == "67891233abcdef012345678912345678"
    assert lines()["/hello?w3c"] == trace


def test_a_client_may_be_taken_from_what_it_says(serve: Servers, tmp_path: Path) -> None:
    """Forwarded, whatever the client wrote into it and into X-Forwarded-For."""
    server = serve("behaviours:app", "--forwarded-client", "forwarded", "--access-logfile", "a.log")
    lies = {"Forwarded": 'for="203.0.113.9', "X-Forwarded-For": "203.0.113.8"}
    with (
        fronts.haproxy(tmp_path, server.address) as front,
        front.connect(source="127.0.0.5") as client,
    ):
        client.request("GET", "/environ_json", lies)
        told = json.loads(client.response().body)
        assert told["REMOTE_ADDR"] == "127.0.0.5"
        assert told["REMOTE_PORT"] == str(client.sock.getsockname()[1])
        assert told["wsgi.url_scheme"] == "https"
    log = server.cwd / "a.log"
    wait_until(lambda: log.read_text(), what="the line")
    assert json.loads(log.read_text())["remote_addr"] == "127.0.0.5"

    # Who comes around the proxy from an address that is not trusted says what it likes.
    with server.connect() as client:
        client.request("GET", "/environ_json", lies)
        assert client.response().status == 400
