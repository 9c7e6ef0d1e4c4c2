"""A real Prometheus scrapes the server under load, and counts what the clients counted."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.bench.boot import free_port
from tests.conftest import SEARCH_PATH
from tests.system.conftest import Servers
from tests.system.harness import Server, wait_until

CONFIG = """
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
  - job_name: gthreadsrv
    static_configs: [{{targets: ["{target}"]}}]
"""


def program(name: str) -> str:
    """The program's path; the marker has made sure of it."""
    path = shutil.which(name, path=SEARCH_PATH)
    assert path is not None
    return path


class Prometheus:
    """A Prometheus of the test's own."""

    def __init__(self, port: int) -> None:
        """It listens on this port."""
        self.url = f"http://127.0.0.1:{port}"

    def get(self, path: str, **parameters: str) -> Any:
        """One call of its API; None when it does not answer."""
        query = urllib.parse.urlencode(parameters)
        try:
            with urllib.request.urlopen(f"{self.url}{path}?{query}", timeout=5) as answer:
                return answer.read()
        except OSError:
            return None

    def query(self, expression: str) -> float | None:
        """An instant query that has one value."""
        answer = self.get("/api/v1/query", query=expression)
        result = json.loads(answer)["data"]["result"] if answer else []
        return float(result[0]["value"][1]) if result else None


@contextmanager
def prometheus(server: Server, folder: Path) -> Iterator[Prometheus]:
    """Prometheus, scraping this server each second."""
    config = folder / "prometheus.yml"
    config.write_text(CONFIG.format(target=server.metrics_url.removeprefix("http://")))
    port = free_port()
    with open(folder / "prometheus.log", "wb") as log:
        process = subprocess.Popen(
            [
                program("prometheus"),
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
                "--enable-feature=exemplar-storage",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        found = Prometheus(port)
        wait_until(lambda: found.get("/-/ready"), what="Prometheus")
        yield found
    finally:
        process.kill()
        process.wait()


@pytest.mark.program("prometheus")
def test_prometheus_counts_what_the_clients_counted(serve: Servers) -> None:
    """Its query API gives the clients' own total, per method and code as well."""
    server = serve("behaviours:app", workers=2, threads=2, metrics=True)
    server.wait_ready()
    with prometheus(server, serve.folder) as scraper:
        wait_until(lambda: scraper.query("up") == 1, what="first scrape")
        counted = [0] * 4

        def client(number: int) -> None:
            while not done.is_set():
                with server.connect() as connection:
                    for method, target in (("GET", "/hello"), ("HEAD", "/who"), ("GET", "/none")):
                        connection.get(target, method)
                        counted[number] += 1

        done = threading.Event()
        clients = [threading.Thread(target=client, args=(number,)) for number in range(4)]
        for thread in clients:
            thread.start()
        wait_until(lambda: (scraper.query("sum(gthreadsrv_requests_total)") or 0) > 100)
        wait_until(lambda: (scraper.query("sum(rate(gthreadsrv_requests_total[5s]))") or 0) > 0)
        done.set()
        for thread in clients:
            thread.join()
        total = sum(counted)

        wait_until(lambda: scraper.query("sum(gthreadsrv_requests_total)") == total,
                   what=f"{total} requests")  # fmt: skip
        third = total / 3
        assert scraper.query('sum(gthreadsrv_requests_total{code="404"})') == third
        assert scraper.query('sum(gthreadsrv_requests_total{method="HEAD"})') == third
        assert scraper.query("sum(gthreadsrv_request_duration_seconds_count)") == total


@pytest.mark.program("prometheus")
def test_prometheus_stores_the_trace_behind_a_slow_request(serve: Servers) -> None:
    """The traceparent of a request is the exemplar of its bucket."""
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    server = serve("behaviours:app", metrics=True)
    server.wait_ready()
    with prometheus(server, serve.folder) as scraper:
        wait_until(lambda: scraper.query("up") == 1, what="first scrape")
        server.get("/sleep?s=0.06", traceparent=f"00-{trace}-00f067aa0ba902b7-01")

        def stored() -> list[dict[str, Any]]:
            answer = scraper.get(
                "/api/v1/query_exemplars",
                query="gthreadsrv_request_duration_seconds_bucket",
                start=str(time.time() - 600),
                end=str(time.time() + 600),
            )
            return json.loads(answer)["data"] if answer else []

        wait_until(stored, what="an exemplar")
        [series] = stored()
        bucket = float(series["seriesLabels"]["le"])
        assert {one["labels"]["trace_id"] for one in series["exemplars"]} == {trace}
        assert all(0.06 <= float(one["value"]) <= bucket for one in series["exemplars"])


@pytest.mark.program("promtool")
def test_promtool_finds_nothing(serve: Servers) -> None:
    """`promtool check metrics` has no complaint about the page, after all kinds of requests."""
    server = serve("behaviours:app", metrics=True, allow_errors=True)
    server.wait_ready()
    for target in ("/hello", "/fail", "/none", "/pieces"):
        server.get(target)
    page = server.probe("/metrics").content
    result = subprocess.run(
        [program("promtool"), "check", "metrics"], input=page, capture_output=True, check=False
    )

    assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"")
