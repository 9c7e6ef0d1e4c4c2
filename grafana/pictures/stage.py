"""The life that the pictures show: three servers under load, one of them in trouble.

Everything listens on loopback, on free ports, and ends with the ``with`` block. The demo
application is served; clients are threads here.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parents[2]
INSTANCES: Final = 3
TRACE: Final = "00-{:032x}-{:016x}-01"


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for(url: str, deadline_s: float = 30) -> None:
    """Wait until an address answers 200."""
    deadline = time.monotonic() + deadline_s
    while True:
        try:
            with urllib.request.urlopen(url, timeout=2):  # noqa: S310 - loopback only
                return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


class Clients:
    """Threads that ask one server for a mixture, each on a connection it keeps."""

    def __init__(self, port: int, number: int, mixture: dict[str, int], pause_s: float) -> None:
        """Start them; the mixture gives each target its weight."""
        self.port, self.mixture, self.pause_s = port, mixture, pause_s
        self.done = threading.Event()
        self.threads = [threading.Thread(target=self._run, daemon=True) for _ in range(number)]
        for thread in self.threads:
            thread.start()

    def _run(self) -> None:
        targets, weights = list(self.mixture), list(self.mixture.values())
        chance = random.Random(self.port)  # noqa: S311 - a mixture, no secret
        while not self.done.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
            # A worker that is replaced or killed drops its connections: a client comes back.
            with contextlib.suppress(OSError, http.client.HTTPException):
                for target in itertools.islice(
                    iter(lambda: chance.choices(targets, weights)[0], None), 40
                ):
                    if self.done.wait(chance.expovariate(1 / self.pause_s)):
                        break
                    method = "POST" if target == "/echo" else "GET"
                    trace = TRACE.format(chance.getrandbits(128) or 1, chance.getrandbits(64) or 1)
                    body = b"x" * 4096 if method == "POST" else None
                    connection.request(method, target, body, {"traceparent": trace})
                    connection.getresponse().read()
            connection.close()

    def stop(self) -> None:
        """End them."""
        self.done.set()
        for thread in self.threads:
            thread.join()


CALM: Final = {
    "/fast": 60, "/slow?ms=60": 20, "/slow?ms=250": 4, "/cpu?ms=4": 10, "/echo": 10, "/file": 6,
    "/none": 2,
}  # fmt: skip
BUSY: Final = {"/slow?ms=400": 60, "/fast": 30, "/cpu?ms=10": 10, "/fail": 2}


@contextlib.contextmanager
def staged() -> Iterator[tuple[str, str]]:
    """Prometheus' address and the instance in trouble, after two minutes of life."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ports = [(free_port(), free_port()) for _ in range(INSTANCES)]
        servers = [stack.enter_context(_server(*pair, folder)) for pair in ports]
        for _, metrics in ports:
            wait_for(f"http://127.0.0.1:{metrics}/readyz")
        url = stack.enter_context(_prometheus([metrics for _, metrics in ports], folder))
        calm = [Clients(port, 6, CALM, 0.12) for port, _ in ports]
        try:
            _play(servers, ports)
            busy = Clients(ports[0][0], 26, BUSY, 0.15)
            try:
                time.sleep(40)
                yield url, f"127.0.0.1:{ports[0][1]}"
            finally:
                busy.stop()
        finally:
            for clients in calm:
                clients.stop()


def _play(servers: list[subprocess.Popen[bytes]], ports: list[tuple[int, int]]) -> None:
    """Calm with small events: a burst on one server, a reload, a worker that is killed."""
    time.sleep(35)
    burst = Clients(ports[2][0], 8, BUSY, 0.3)
    time.sleep(15)
    burst.stop()
    servers[1].send_signal(signal.SIGHUP)
    time.sleep(15)
    children = Path(f"/proc/{servers[0].pid}/task/{servers[0].pid}/children").read_text().split()
    for child in children:
        title = Path(f"/proc/{child}/cmdline").read_bytes()
        if b"worker" in title:
            os.kill(int(child), signal.SIGKILL)
            break
    time.sleep(15)


@contextlib.contextmanager
def _server(port: int, metrics: int, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    argv = [sys.executable, "-m", "gthreadsrv", "--workers", "2", "--threads", "4"]
    argv += ["--bind", f"127.0.0.1:{port}", "--metrics-bind", f"127.0.0.1:{metrics}"]
    with open(folder / f"server-{port}.log", "wb") as log:
        process = subprocess.Popen([*argv, "gthreadsrv.demo:app"], stdout=log, stderr=log, cwd=ROOT)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


@contextlib.contextmanager
def _prometheus(ports: list[int], folder: Path) -> Iterator[str]:
    targets = ", ".join(f'"127.0.0.1:{port}"' for port in ports)
    config = folder / "prometheus.yml"
    config.write_text(
        "global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}\n"
        "scrape_configs:\n"
        f"  - job_name: gthreadsrv\n    static_configs: [{{targets: [{targets}]}}]\n"
    )
    port = free_port()
    argv = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}"]
    argv += [f"--web.listen-address=127.0.0.1:{port}", "--enable-feature=exemplar-storage"]
    with open(folder / "prometheus.log", "wb") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log)
    try:
        wait_for(f"http://127.0.0.1:{port}/-/ready")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()
