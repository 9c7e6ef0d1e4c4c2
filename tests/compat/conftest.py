"""Both servers with one configuration file, on unix sockets."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system import conftest as system
from tests.system.client import Connection
from tests.system.harness import Server, clean_environment, open_socket, wait_until

CONFIGS = Path(__file__).with_name("configs")
APPS = Path(__file__).with_name("apps")
DEADLINE_S = 60.0

serve = system.serve


class Peer:
    """One running server of either kind, and what it was asked."""

    def __init__(self, address: str, pid: int, logs: Path) -> None:
        self.address = address
        self.pid = pid
        self.logs = logs

    def wait_listening(self) -> None:
        """Wait until it takes connections: its socket's file is there a moment earlier."""

        def takes() -> bool:
            with contextlib.suppress(OSError):
                open_socket(self.address, 1).close()
                return True
            return False

        wait_until(takes, DEADLINE_S, "it listens")

    def get(self, target: str, **headers: str) -> Any:
        """One GET on a connection of its own; header names with _ for -."""
        with Connection(open_socket(self.address)) as connection:
            fields = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request("GET", target, fields)
            return connection.response()

    def ask(self, target: str = "/") -> dict[str, Any]:
        """What the application says of itself."""
        answer: dict[str, Any] = json.loads(self.get(target).body)
        return answer

    def record(self) -> list[list[str]]:
        """What hooks have noted, as words."""
        path = self.logs / "record"
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []

    def noted(self, name: str, count: int = 1) -> list[list[str]]:
        """Wait for that many notes of a hook."""

        def found() -> list[list[str]] | None:
            notes = [words for words in self.record() if words[0] == name]
            return notes if len(notes) >= count else None

        return wait_until(found, DEADLINE_S, f"{count} x {name} in {self.record()}")

    def lines(self, name: str, count: int = 1) -> list[str]:
        """Wait for so many lines in a log file."""

        def found() -> list[str] | None:
            path = self.logs / name
            lines = path.read_text().splitlines() if path.exists() else []
            return lines if len(lines) >= count else None

        return wait_until(found, DEADLINE_S, f"{count} lines in {name}")

    def signal(self, number: signal.Signals) -> None:
        """Send the master a signal."""
        os.kill(self.pid, number)


class Ours(Peer):
    """gthreadsrv, with its log read."""

    def __init__(self, server: Server, address: str, logs: Path) -> None:
        super().__init__(address, server.pid, logs)
        self.server = server


@pytest.fixture
def ours(
    serve: system.Servers,
    tmp_path: Path,
) -> Any:
    """Start gthreadsrv with a configuration file of these tests."""

    def start(
        config: str,
        *args: str,
        app: str = "compat_app:app",
        env: dict[str, str] | None = None,
        **options: Any,
    ) -> Ours:
        logs = tmp_path / "ours"
        logs.mkdir(exist_ok=True)
        address = f"unix:{logs}/web.sock"
        server = serve(
            app, "-c", str(CONFIGS / config), "--pythonpath", str(APPS), *args,
            bind=(address,), workers=None, threads=None,
            env={"RECORD": str(logs / "record"), "LOGS": str(logs), **(env or {})}, **options,
        )  # fmt: skip
        return Ours(server, address, logs)

    return start


@pytest.fixture
def gunicorn(tmp_path: Path) -> Iterator[Any]:
    """Start gunicorn with the same file."""
    pytest.importorskip("gunicorn")
    started: list[subprocess.Popen[bytes]] = []

    def start(config: str, *args: str, app: str = "compat_app:app") -> Peer:
        logs = tmp_path / "gunicorn"
        logs.mkdir(exist_ok=True)
        address = f"unix:{logs}/web.sock"
        with open(logs / "output", "wb") as output:
            process = subprocess.Popen(
                [
                    sys.executable, "-m", "gunicorn", "-c", str(CONFIGS / config), "--bind", address,
                    "--worker-class", "gthread", "--no-control-socket", "--pythonpath", str(APPS),
                    *args, app,
                ],
                cwd=tmp_path,
                env=clean_environment({"RECORD": str(logs / "record"), "LOGS": str(logs)}),
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
        started.append(process)

        peer = Peer(address, process.pid, logs)
        peer.wait_listening()
        return peer

    try:
        yield start
    finally:
        for process in started:
            if process.poll() is None:
                process.terminate()
            try:
                process.wait(DEADLINE_S)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
