"""Fixtures of the system tests: servers that are checked and gone when the test ends."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.system.harness import Server

# Every HTTP test runs on both parsers and on both kinds of socket.
COMBINATIONS = [
    (parser, transport, "gthread")
    for parser in ("h11", "httptools")
    for transport in ("tcp", "unix")
]
# Those marked `greenlets` run on one more of each class that is named there.
GREEN = {
    "gevent": ("httptools", "tcp", "gevent"),
    "eventlet": ("h11", "unix", "eventlet"),
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that takes a `combination` on each."""
    if "combination" in metafunc.fixturenames:
        marker = metafunc.definition.get_closest_marker("greenlets")
        found = COMBINATIONS + [GREEN[name] for name in (marker.args if marker else ())]
        ids = ["-".join(each) for each in found]
        metafunc.parametrize("combination", found, indirect=True, scope="module", ids=ids)


class Servers:
    """Starts servers, and checks and removes all of them in the end."""

    def __init__(self, folder: Path) -> None:
        """Servers run in this folder unless told otherwise."""
        self.folder = folder
        self.started: list[tuple[Server, bool]] = []

    def __call__(
        self, app: str, *args: str, allow_errors: bool = False, cwd: Path | None = None, **kw: Any
    ) -> Server:
        """Start one; with allow_errors the log may hold errors and text that is not JSON."""
        server = Server(app, *args, cwd=cwd or self.folder, **kw)
        self.started.append((server, allow_errors))
        return server

    def finish(self) -> None:
        """Stop what still runs; each must leave with 0, quietly, and leave no process behind."""
        if sys.exc_info()[0] is not None:
            # A test's own failure must not be hidden behind what it did to the server.
            self.kill()
            return
        try:
            for server, allow_errors in self.started:
                if server.process.poll() is None:
                    code = server.stop()
                    assert code == 0, f"exit code {code}\n{server.report()}"
                assert server.left_behind() == [], f"processes left behind\n{server.report()}"
                if not allow_errors:
                    bad = [x for x in server.lines if x.get("level") in ("error", "critical")]
                    assert bad == [], f"errors were logged\n{server.report()}"
                    assert server.noise == [], f"not JSON\n{server.report()}"
        finally:
            self.kill()

    def kill(self) -> None:
        """End them all."""
        for server, _ in self.started:
            server.kill()


def bind_for(transport: str, folder: Path) -> str:
    """A free address of that kind."""
    return "127.0.0.1:0" if transport == "tcp" else f"unix:{folder / 'web.sock'}"


@dataclass(frozen=True)
class Combination:
    """One parser on one kind of socket."""

    parser: str
    transport: str
    worker_class: str
    folder: Path

    @contextlib.contextmanager
    def server(self, app: str, *args: str, **options: Any) -> Iterator[Server]:
        """A server for the tests of a module, checked at the end like any other."""
        servers = Servers(self.folder)
        record = {"RECORD": str(self.folder / "record")}
        options["env"] = {**record, **options.get("env", {})}
        bind = (bind_for(self.transport, self.folder),)
        args = ("--http-parser", self.parser, "--worker-class", self.worker_class, *args)
        try:
            server = servers(app, *args, bind=bind, **options)
            server.wait_log("worker ready", options.get("workers", 1))
            yield server
        finally:
            servers.finish()

    def elsewhere(self, folder: Path) -> Combination:
        """The same with another folder."""
        return dataclasses.replace(self, folder=folder)

    def recorded(self) -> list[str]:
        """What the application has told in its record."""
        path = self.folder / "record"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Servers]:
    """Start servers for one test."""
    servers = Servers(tmp_path)
    try:
        yield servers
    finally:
        servers.finish()


@pytest.fixture(scope="module")
def combination(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Combination:
    """Each parser on each kind of socket."""
    return Combination(*request.param, tmp_path_factory.mktemp("socket"))
