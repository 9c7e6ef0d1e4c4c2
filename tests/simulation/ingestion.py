"""What scraping many pods costs a Prometheus: real Prometheus, made-up pods with a real page.

    python -m tests.simulation.ingestion [--pods 50 200] [--seconds 90]

A real server is started, asked a little, and its page taken.  A small HTTP server then serves that
page as any number of pods, each with numbers of its own that move from scrape to scrape as
counters and gauges do.  Prometheus scrapes them every 15 s, and is asked what it holds and uses.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.bench.ports import free_port
from tests.system.harness import Server, wait_until
from tests.system.test_prometheus import program

SCRAPE_S = 15
CONFIG = """
global: {{scrape_interval: {scrape}s, scrape_timeout: 10s}}
scrape_configs:
  - job_name: gthreadsrv
    http_sd_configs: [{{url: "http://{pods}/targets", refresh_interval: 5s}}]
    relabel_configs:
      - {{source_labels: [pod], target_label: __metrics_path__, replacement: "/pod/$1"}}
  - job_name: prometheus
    static_configs: [{{targets: ["{own}"]}}]
"""


class Page:
    """A page of a real server as a template: names and labels, and how each number moves."""

    def __init__(self, text: str) -> None:
        self.bytes = len(text)
        self.gzip_bytes = len(gzip.compress(text.encode()))
        self._lines: list[tuple[str, float | None, bool]] = []
        counts: set[str] = set()
        for line in text.splitlines():
            if line.startswith("# TYPE"):
                _, _, name, kind = line.split()
                if kind in ("counter", "histogram"):
                    counts.add(name)
                self._lines.append((line, None, False))
            elif line.startswith("#"):
                self._lines.append((line, None, False))
            else:
                name, _, value = line.rpartition(" ")
                stem = name.split("{")[0]
                grows = any(stem.startswith(count.removesuffix("_total")) for count in counts)
                self._lines.append((name, float(value), grows))
        self.series = sum(value is not None for _, value, _ in self._lines)

    def of(self, pod: int, scrape: int) -> bytes:
        """What this pod says at its so many-th scrape."""
        chance = random.Random(pod * 100_003 + scrape)
        lines = []
        for name, value, grows in self._lines:
            if value is None:
                lines.append(name)
            elif grows and value:
                # As many events in each interval as the page has, give or take.
                lines.append(f"{name} {value * scrape * chance.uniform(0.99, 1.01):.9g}")
            else:
                lines.append(f"{name} {value:.9g}")
        return ("\n".join(lines) + "\n").encode()


def real_page(folder: Path) -> str:
    """The page of a server of two workers that has served the demo for a moment."""
    server = Server("gthreadsrv.demo:app", cwd=folder, metrics=True, workers=2, threads=3)
    try:
        server.wait_ready()
        for target in ("/fast", "/slow?ms=20", "/cpu?ms=5", "/fail", "/none"):
            for _ in range(20):
                server.get(target)
        time.sleep(2)  # a heartbeat: what the workers tell once a second
        return server.probe("/metrics").text
    finally:
        server.stop()


def pods_server(page: Page, count: int) -> ThreadingHTTPServer:
    """Serve the list of targets, and each one's page."""
    scrapes = [0] * count

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            address = f"127.0.0.1:{self.connection.getsockname()[1]}"
            if self.path == "/targets":
                every = [
                    {"targets": [address], "labels": {"pod": str(pod), "instance": f"pod-{pod}"}}
                    for pod in range(count)
                ]
                body, kind = json.dumps(every).encode(), "application/json"
            else:
                pod = int(self.path.rpartition("/")[2])
                scrapes[pod] += 1
                body, kind = page.of(pod, scrapes[pod]), "text/plain; version=0.0.4"
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    return ThreadingHTTPServer(("127.0.0.1", 0), Handler)


def asked(own: str, query: str) -> float:
    """The value of one query; 0 while there is none."""
    url = f"http://{own}/api/v1/query?query={urllib.request.quote(query)}"  # type: ignore[attr-defined]
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            result = json.load(answer)["data"]["result"]
    except OSError:
        return 0.0
    return float(result[0]["value"][1]) if result else 0.0


def measure(page: Page, count: int, seconds: float, folder: Path) -> dict[str, float]:
    """Scrape so many pods for so long; what Prometheus says of itself at the end."""
    own = f"127.0.0.1:{free_port()}"
    with pods_server(page, count) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        config = folder / f"{count}.yml"
        where = f"127.0.0.1:{server.server_address[1]}"
        config.write_text(CONFIG.format(scrape=SCRAPE_S, pods=where, own=own))
        process = subprocess.Popen(
            [program("prometheus"), f"--config.file={config}", f"--storage.tsdb.path={folder}/{count}",
             f"--web.listen-address={own}", "--log.level=error"],
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            wait_until(
                lambda: asked(own, 'sum(up{job="gthreadsrv"})') == count, 120, what="all scraped"
            )
            before = asked(own, "process_cpu_seconds_total"), time.monotonic()
            time.sleep(seconds)
            took = time.monotonic() - before[1]
            return {
                "pods": count,
                "series": asked(own, "prometheus_tsdb_head_series"),
                "samples_per_second": asked(
                    own, "rate(prometheus_tsdb_head_samples_appended_total[1m])"
                ),
                "memory_bytes": asked(own, "process_resident_memory_bytes"),
                "cpus": (asked(own, "process_cpu_seconds_total") - before[0]) / took,
                "scrape_seconds": asked(own, 'avg(scrape_duration_seconds{job="gthreadsrv"})'),
                "missed": count - asked(own, 'sum(up{job="gthreadsrv"})'),
            }
        finally:
            process.terminate()
            process.wait(30)
            server.shutdown()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tool."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.ingestion")
    parser.add_argument("--pods", type=int, nargs="+", default=[50, 200])
    parser.add_argument("--seconds", type=float, default=90.0)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        page = Page(real_page(folder))
        print(
            f"page: {page.series} series, {page.bytes} bytes, {page.gzip_bytes} gzipped", flush=True
        )
        for count in options.pods:
            print(json.dumps(measure(page, count, options.seconds, folder)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
