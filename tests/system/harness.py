"""A real server in a process of its own, for tests: started, watched and stopped.

The server binds port 0 (or a unix socket in the test's folder) and reports what it got
in its log, which is read by a thread here; nothing waits for a fixed time.  Whatever a
test does, the server's process group is gone when the test ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool

from tests.system.client import Connection

APPS = Path(__file__).with_name("apps")
DEADLINE_S = 20.0
# Variables that would change the server under test if the developer has them set.
FOREIGN_VARIABLES = (
    "PORT", "WEB_CONCURRENCY", "SCRIPT_NAME", "PROMETHEUS_MULTIPROC_DIR", "PYTHON_CPU_COUNT",
)  # fmt: skip
FOREIGN_PREFIXES = ("GTHREADSRV_", "GUNICORN_")

Value = TypeVar("Value")
LogLine = dict[str, Any]


def wait_until(
    predicate: Callable[[], Value | None], deadline_s: float = DEADLINE_S, what: str = "condition"
) -> Value:
    """Wait until the predicate gives something true, and return that."""
    deadline = time.monotonic() + deadline_s
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {deadline_s} s (last: {value!r})")
        time.sleep(0.01)


def read_record(path: Path) -> str:
    """What an application has written to its record so far."""
    return path.read_text() if path.exists() else ""


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without anything that configures a server."""
    environ = {
        name: value
        for name, value in os.environ.items()
        if name not in FOREIGN_VARIABLES and not name.startswith(FOREIGN_PREFIXES)
    }
    return {**environ, **(extra or {})}


def run_cli(
    *args: str,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    timeout_s: float = 30,
    module: str = "gthreadsrv",
) -> subprocess.CompletedProcess[str]:
    """Run a command line that is expected to end by itself."""
    return subprocess.run(
        [sys.executable, "-m", module, *args],
        cwd=cwd,
        env=clean_environment(env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


class Server:
    """One running server."""

    def __init__(
        self,
        app: str,
        *args: str,
        cwd: Path,
        bind: Sequence[str] = ("127.0.0.1:0",),
        metrics: bool = False,
        workers: int | None = 1,
        threads: int | None = 4,
        env: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
        prefix: Sequence[str] = (),
    ) -> None:
        """Start it; `bind`, `workers` and `threads` may be left to the server (() and None).

        `prefix` is a command that executes the server's command line in its own process.
        """
        self.cwd = cwd
        self.metrics_wanted = metrics
        self.listeners_wanted = max(1, len(bind)) + (1 if metrics else 0)
        argv = [*prefix, sys.executable, "-m", "gthreadsrv", "--log-format", "json"]
        argv += ["--pythonpath", str(APPS)]
        for address in bind:
            argv += ["--bind", address]
        argv += ["--metrics-bind", "localhost:0" if metrics else "off"]
        if workers is not None:
            argv += ["--workers", str(workers)]
        if threads is not None:
            argv += ["--threads", str(threads)]
        argv += [*args, app]
        self.lines: list[LogLine] = []
        self.noise: list[str] = []
        self._news = threading.Condition()
        self.process = subprocess.Popen(
            argv,
            cwd=cwd,
            env=clean_environment(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=pass_fds,
            start_new_session=True,
        )
        self.stdout: list[str] = []
        self._readers = [
            threading.Thread(target=self._read_log, daemon=True),
            threading.Thread(target=self._read_stdout, daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    # -- the log -----------------------------------------------------------

    def _read_log(self) -> None:
        assert self.process.stderr is not None
        for raw in self.process.stderr:
            text = raw.decode("utf-8", "replace").rstrip("\n")
            with self._news:
                try:
                    line = json.loads(text)
                except ValueError:
                    line = None
                if isinstance(line, dict):
                    self.lines.append(line)
                elif text:
                    self.noise.append(text)
                self._news.notify_all()

    def _read_stdout(self) -> None:
        assert self.process.stdout is not None
        for raw in self.process.stdout:
            with self._news:
                self.stdout.append(raw.decode("utf-8", "replace").rstrip("\n"))
                self._news.notify_all()

    def logged(self, event: str, **fields: object) -> list[LogLine]:
        """The log lines so far with this event and these fields."""
        with self._news:
            return [
                line
                for line in self.lines
                if line.get("event") == event
                and all(line.get(name) == value for name, value in fields.items())
            ]

    def wait_log(
        self, event: str, count: int = 1, deadline_s: float = DEADLINE_S, **fields: object
    ) -> list[LogLine]:
        """Wait for that many lines with this event and these fields."""
        deadline = time.monotonic() + deadline_s
        while True:
            found = self.logged(event, **fields)
            if len(found) >= count:
                return found
            if self.process.poll() is not None:
                self._join_readers()
                found = self.logged(event, **fields)
                if len(found) >= count:
                    return found
                raise AssertionError(f"the server left before logging {event!r}\n{self.report()}")
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise AssertionError(
                    f"no {count} x {event!r} {fields} within {deadline_s} s\n{self.report()}"
                )
            with self._news:
                self._news.wait(min(remaining, 0.05))

    def report(self) -> str:
        """What the server said, for a failing test."""
        with self._news:
            lines = [json.dumps(line)[:800] for line in self.lines[-60:]]
            return "\n".join(
                [f"exit code: {self.process.poll()}", *lines, "-- not JSON:", *self.noise[-60:]]
            )

    # -- addresses ---------------------------------------------------------

    def listeners(self) -> list[str]:
        """The addresses the application is served on, as the server reports them."""
        found = self.wait_log("listening", self.listeners_wanted)
        return [str(line["listener"]) for line in found if not line.get("metrics")]

    @property
    def address(self) -> str:
        """The first address of the application."""
        return self.listeners()[0]

    @property
    def base_url(self) -> str:
        """The application's URL, without a slash at the end; only for TCP."""
        return f"http://{self.address.removeprefix('tcp://')}"

    @property
    def metrics_url(self) -> str:
        """The exporter's URL, without a slash at the end."""
        found = self.wait_log("listening", self.listeners_wanted)
        address = next(str(line["listener"]) for line in found if line.get("metrics"))
        return f"http://{address.removeprefix('tcp://')}"

    def connect(self, address: str | None = None, timeout_s: float = 10.0) -> Connection:
        """A new raw connection to the application."""
        return Connection(open_socket(address or self.address, timeout_s))

    def get(self, target: str, **headers: str) -> Any:
        """One GET on a connection of its own."""
        with self.connect() as connection:
            connection.request("GET", target, headers)
            return connection.response()

    def session(self) -> requests.Session:
        """A requests session whose http://server/ is this server, whatever it is bound to."""
        session = requests.Session()
        session.trust_env = False
        session.mount("http://server/", SocketAdapter(self.address))
        return session

    # -- metrics and health ------------------------------------------------

    def probe(self, path: str) -> requests.Response:
        """One GET from the exporter."""
        session = requests.Session()
        session.trust_env = False
        with session:
            return session.get(self.metrics_url + path, timeout=10)

    def wait_ready(self) -> None:
        """Wait until /readyz says yes (needs metrics=True)."""
        wait_until(lambda: self._status("/readyz") == 200, what=f"ready\n{self.report()}")

    def _status(self, path: str) -> int:
        try:
            return self.probe(path).status_code
        except requests.ConnectionError:
            return 0

    def sample(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that carry these labels."""
        return sum(self.samples(name, **labels).values())

    def samples(self, name: str, **labels: str) -> dict[tuple[tuple[str, str], ...], float]:
        """A metric's samples that carry these labels, by all their labels."""
        from prometheus_client.parser import text_string_to_metric_families

        found: dict[tuple[tuple[str, str], ...], float] = {}
        for family in text_string_to_metric_families(self.probe("/metrics").text):
            for sample in family.samples:
                if sample.name == name and labels.items() <= sample.labels.items():
                    found[tuple(sorted(sample.labels.items()))] = sample.value
        return found

    # -- processes ---------------------------------------------------------

    @property
    def pid(self) -> int:
        """The master's pid."""
        return self.process.pid

    def worker_pids(self) -> list[int]:
        """The pids of workers that are ready, as the log tells it, and still there."""
        pids = [int(line["worker_pid"]) for line in self.logged("worker ready")]
        return [pid for pid in pids if process_alive(pid)]

    def wait_workers(self, count: int) -> list[int]:
        """Wait until exactly so many ready workers live."""

        def right() -> list[int] | None:
            pids = self.worker_pids()
            return pids if len(pids) == count else None

        return wait_until(right, what=f"{count} workers\n{self.report()}")

    def send_signal(self, number: signal.Signals) -> None:
        """Send the master a signal."""
        os.kill(self.pid, number)

    def wait_exit(self, deadline_s: float = DEADLINE_S) -> int:
        """Wait for the master to end by itself."""
        try:
            code = self.process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {deadline_s} s\n{self.report()}") from None
        self._join_readers()
        return code

    def stop(self, number: signal.Signals = signal.SIGTERM, deadline_s: float = DEADLINE_S) -> int:
        """Stop the server and return its exit code."""
        if self.process.poll() is None:
            self.send_signal(number)
        return self.wait_exit(deadline_s)

    def kill(self) -> None:
        """End every process the server started, whatever state they are in."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()
        self._join_readers()
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()

    def left_behind(self) -> list[int]:
        """The pids of processes of the server's group that still live."""
        return [pid for pid in all_pids() if process_group(pid) == self.pid]

    def _join_readers(self) -> None:
        for reader in self._readers:
            reader.join(5)


class SocketAdapter(HTTPAdapter):
    """Lets requests speak to one address, TCP or unix socket."""

    def __init__(self, address: str) -> None:
        """Remember the address before the base class makes its pools."""
        self.address = address
        super().__init__(pool_maxsize=16)

    def get_connection_with_tls_context(self, *_args: Any, **_kwargs: Any) -> HTTPConnectionPool:
        """Every URL leads to the one address."""
        pool = self.__dict__.get("pool")
        if pool is None:
            pool = self.pool = _SocketPool(self.address)
        return pool

    def close(self) -> None:
        """Close the connections as well."""
        pool = self.__dict__.get("pool")
        if pool is not None:
            pool.close()
        super().close()


class _SocketConnection(HTTPConnection):
    def __init__(self, address: str) -> None:
        super().__init__("server", 80, timeout=20)
        self.address = address

    def _new_conn(self) -> socket.socket:
        return open_socket(self.address, 20)


class _SocketPool(HTTPConnectionPool):
    def __init__(self, address: str) -> None:
        super().__init__("server", 80, timeout=20, maxsize=16)
        self.address = address

    def _new_conn(self) -> Any:
        return _SocketConnection(self.address)


def open_socket(address: str, timeout_s: float = 10.0) -> socket.socket:
    """Connect to an address as the server's log writes it."""
    if address.startswith("unix:"):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(timeout_s)
        try:
            sock.connect(address.removeprefix("unix:"))
        except BaseException:
            sock.close()
            raise
        return sock
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    sock = socket.create_connection((host.strip("[]"), int(port)), timeout_s)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def all_pids() -> list[int]:
    """Every pid of this machine."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def process_stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat after the name, from the state on; None if it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(")")[2].split()


def process_alive(pid: int) -> bool:
    """Tell whether it runs: neither gone nor a zombie."""
    stat = process_stat(pid)
    return stat is not None and stat[0] not in "ZX"


def title(pid: int) -> str:
    """What ps shows of a process; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def process_group(pid: int) -> int | None:
    """The process group of a living process."""
    stat = process_stat(pid)
    return int(stat[2]) if stat is not None and stat[0] not in "ZX" else None


@contextlib.contextmanager
def running(app: str, *args: str, cwd: Path, **options: Any) -> Iterator[Server]:
    """A server for the length of a with block, without the checks of the `serve` fixture."""
    server = Server(app, *args, cwd=cwd, **options)
    try:
        yield server
    finally:
        server.kill()
