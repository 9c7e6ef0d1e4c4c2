"""What is measured: rows of servers under one kind of load each.

Declarations only. `running` carries them out, `goals` judges what comes out.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.bench.peers.load import BROWSER, Stream
from tests.bench.peers.servers import OURS, OURS_H11

SERVER_CORE = 0
LOAD_CORE = 1
ALL = (
    OURS, "granian", "gunicorn", "gunicorn-fast", "waitress", "cheroot", "uwsgi", "bjoern",
)  # fmt: skip
MIB = 1024 * 1024


@dataclass(frozen=True)
class Entry:
    """One server in a row, and how it is run there; `label` tells variants of one server apart.

    With `company` another of its kind is served and loaded on the other core at the same time. Two
    cores of a machine are often two threads of one, and each is faster while the other rests.
    """

    server: str
    label: str = ""
    workers: int = 1
    threads: int = 8
    access_log: bool = False
    server_cores: tuple[int, ...] = (SERVER_CORE,)
    load_cores: tuple[int, ...] = (LOAD_CORE,)
    company: bool = False

    @property
    def key(self) -> str:
        """Its name in results."""
        return f"{self.server}, {self.label}" if self.label else self.server


@dataclass(frozen=True)
class Row:
    """One kind of work, done by several servers in turn.

    With `kind` load, every stream runs once on each of the entry's load cores, and latencies are
    those of the first. `ideal_rate` is what the threads could do with a server that costs nothing.
    """

    name: str
    title: str
    entries: tuple[Entry, ...]
    streams: tuple[Stream, ...] = (Stream(),)
    app: str = "plain:app"
    kind: str = "load"
    ideal_rate: float | None = None
    idle_connections: int = 0
    # For slow requests: those that are running when the time is up are not counted.
    times_longer: int = 1


def entries(*servers: str, threads: int = 8) -> tuple[Entry, ...]:
    """These servers, each as it is usually run."""
    return tuple(Entry(server, threads=threads) for server in servers)


THREADED = tuple(name for name in ALL if name != "bjoern")
BYTES = (OURS, "granian", "gunicorn", "waitress", "cheroot", "uwsgi-direct", "bjoern")

ROWS = (
    Row(
        "hello", "hello world: 32 connections, browser-like headers, 8 threads",
        entries(OURS, OURS_H11, *ALL[1:]),
    ),
    Row(
        "hello-1", "hello world: 32 connections, browser-like headers, 1 thread",
        entries(OURS, "granian", threads=1),
    ),
    Row(
        "flask", "a page by Flask",
        entries(OURS, "granian", "gunicorn", "bjoern"), app="flask_page:app",
    ),
    Row(
        "django", "a page by Django",
        entries(OURS, "granian", "gunicorn", "bjoern"), app="django_page:app",
    ),
    Row(
        "sleep-5ms", "a handler that waits 5 ms: 32 connections, 8 threads",
        entries(*THREADED), (Stream("/sleep-5ms"),), ideal_rate=8 / 0.005,
    ),
    Row(
        "sleep-50ms", "a handler that waits 50 ms: 32 connections, 8 threads",
        entries(OURS, "granian", "gunicorn"), (Stream("/sleep-50ms"),), ideal_rate=8 / 0.050, times_longer=2,
    ),
    Row(
        "beside", "fast requests on 4 connections, while 4 others wait 50 ms each time; 8 threads",
        entries(OURS, "granian", "gunicorn", "waitress"),
        (Stream("/", connections=4), Stream("/sleep-50ms", connections=4)),
    ),
    Row(
        "cpu-2ms", "a handler that computes for 2 ms: 32 connections",
        (*entries(OURS), Entry(OURS, "1 thread", threads=1), *entries("granian", "gunicorn")),
        (Stream("/cpu-2ms"),), ideal_rate=1 / 0.002,
    ),
    Row(
        "post", "1 MiB posted: 4 connections",
        entries(*BYTES), (Stream("/upload", 4, method="POST", body_bytes=MIB),),
    ),
    Row("large", "a response of 1 MiB: 4 connections", entries(*BYTES), (Stream("/large", 4),)),
    Row(
        "file", "a file of 100 MiB by wsgi.file_wrapper: 4 connections",
        entries(*BYTES), (Stream("/file", 4),),
    ),
    Row(
        "workers", "hello world: on each core one worker and one load generator; two servers of one worker,"
        " or one server of two",
        tuple(
            Entry(server, f"{count} {'worker' if count == 1 else 'workers'}", workers=count,
                  server_cores=(0, 1)[:count], load_cores=(0, 1)[:count], company=count == 1)
            for server in (OURS, "granian")
            for count in (1, 2)
        ),
    ),
    Row(
        "idle", "10,000 idle connections that are kept alive, then hello world beside them",
        entries(OURS, "granian", "gunicorn"), kind="idle", idle_connections=10_000,
    ),
    Row(
        "close", "a new connection for each request: 32 clients",
        entries(OURS, "granian", "gunicorn", "uwsgi-direct", "bjoern"),
        (Stream(headers=(*BROWSER, "Connection: close")),),
    ),
    Row(
        "memory", "memory with the smallest application, after its first requests",
        entries(OURS, "gunicorn", "granian"), kind="memory",
    ),
    Row(
        "log", "hello world without and with an access log in a file (ours: JSON)",
        tuple(
            Entry(server, label, access_log=label == "logged")
            for server in (OURS, "gunicorn", "granian")
            for label in ("silent", "logged")
        ),
    ),
    Row(
        "boot", "from the command to the first response of the smallest application",
        entries(OURS, "gunicorn", "granian"), kind="boot",
    ),
)  # fmt: skip
