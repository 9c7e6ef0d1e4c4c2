"""`gthreadsrvctl advise` at a real server, in staged situations."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.system.conftest import Servers
from tests.system.harness import Server, clean_environment


def advice(server: Server) -> str:
    """What is said within two seconds."""
    done = subprocess.run(
        [
            sys.executable, "-m", "gthreadsrv.ctl", "advise", "--seconds", "2",
            "--metrics-bind", server.metrics_url.removeprefix("http://"),
        ],
        env=clean_environment(), capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def asking(server: Server, path: str, clients: int) -> Iterator[None]:
    """So many clients that ask again and again; inside, each has been answered once."""
    ended = threading.Event()
    begun = threading.Barrier(clients + 1)

    def ask() -> None:
        with server.connect() as connection:
            connection.get(path)
            begun.wait(30)
            while not ended.is_set():
                connection.get(path)

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    begun.wait(30)
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def test_it_has_nothing_to_say_of_a_calm_server(serve: Servers) -> None:
    server = serve("behaviours:app", workers=1, threads=4, metrics=True)
    with asking(server, "/sleep?s=0.05", 1):
        assert advice(server) == ""


def test_it_asks_for_threads_where_they_wait(serve: Servers) -> None:
    server = serve("behaviours:app", workers=1, threads=2, metrics=True)
    with asking(server, "/sleep?s=0.05", 8):
        said = advice(server)
    assert said.startswith("threads: ")
    assert "raise --threads from 2 to" in said


def test_nobody_there_is_said_in_one_line(serve: Servers) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gthreadsrv.ctl", "advise", "--metrics-bind", "127.0.0.1:1"],
        env=clean_environment(), capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("gthreadsrvctl: error: 127.0.0.1:1 does not answer")
    assert done.stderr.count("\n") == 1
