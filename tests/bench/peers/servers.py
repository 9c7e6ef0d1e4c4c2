"""The servers that are compared: where each comes from, and its command line.

All serve the same application with the same number of workers and threads, keep connections alive,
write no access log unless it is measured, and take as many connections as are opened. Everything
else is left as each server has it; gthreadsrv runs with every metric on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

APPS = Path(__file__).with_name("apps")
LAUNCHER = Path(__file__).with_name("launch.py")
KEEP_ALIVE_S = 75
BACKLOG = 2048


@dataclass(frozen=True)
class Wish:
    """What a measurement wants of a server."""

    port: int
    metrics_port: int
    app: str = "plain:app"
    workers: int = 1
    threads: int = 8
    # The most that will be open at once.
    connections: int = 1000
    access_log: Path | None = None


@dataclass(frozen=True)
class Server:
    """One server; `command` takes the folder of programs."""

    name: str
    packages: tuple[str, ...]
    command: Callable[[Path, Wish], list[str]]
    # Without threads of its own it has no place where handlers block.
    threaded: bool = True


def gthreadsrv(parser: str) -> Callable[[Path, Wish], list[str]]:
    """Ours, from the checkout, with one of its two parsers."""

    def command(programs: Path, wish: Wish) -> list[str]:
        argv = [
            str(programs / "gthreadsrv"),
            *("--bind", f"127.0.0.1:{wish.port}", "--backlog", str(BACKLOG)),
            *("--metrics-bind", f"127.0.0.1:{wish.metrics_port}"),
            *("--workers", str(wish.workers), "--threads", str(wish.threads)),
            *("--worker-connections", str(wish.connections)),
            *("--http-parser", parser, "--keep-alive", str(KEEP_ALIVE_S)),
        ]
        if wish.access_log:
            argv += ["--access-logfile", str(wish.access_log), "--access-logformat", "json"]
        return [*argv, wish.app]

    return command


def gunicorn(parser: str) -> Callable[[Path, Wish], list[str]]:
    """Workers of class gthread, with the parser in Python or that of its `fast` extra."""

    def command(programs: Path, wish: Wish) -> list[str]:
        argv = [
            str(programs / "gunicorn"),
            *("--bind", f"127.0.0.1:{wish.port}", "--backlog", str(BACKLOG)),
            *("--worker-class", "gthread", "--no-control-socket"),
            *("--workers", str(wish.workers), "--threads", str(wish.threads)),
            *("--worker-connections", str(wish.connections)),
            *("--http-parser", parser, "--keep-alive", str(KEEP_ALIVE_S)),
        ]
        if wish.access_log:
            argv += ["--access-logfile", str(wish.access_log)]
        return [*argv, wish.app]

    return command


def granian(programs: Path, wish: Wish) -> list[str]:
    """HTTP/1 only, so that it need not guess the version."""
    return [
        str(programs / "granian"),
        *("--interface", "wsgi", "--http", "1", "--no-ws"),
        *("--host", "127.0.0.1", "--port", str(wish.port), "--backlog", str(BACKLOG)),
        *("--workers", str(wish.workers), "--blocking-threads", str(wish.threads)),
        # Its limit of open connections; left alone it is the backlog.
        *("--backpressure", str(max(BACKLOG, wish.connections))),
        *(("--access-log",) if wish.access_log else ()),
        wish.app,
    ]


def waitress(programs: Path, wish: Wish) -> list[str]:
    """One process; poll, because select ends at 1024 descriptors."""
    return [
        str(programs / "waitress-serve"),
        *("--listen", f"127.0.0.1:{wish.port}", "--backlog", str(BACKLOG)),
        *("--threads", str(wish.threads), "--connection-limit", str(wish.connections)),
        "--asyncore-use-poll",
        wish.app,
    ]


def cheroot(programs: Path, wish: Wish) -> list[str]:
    """A library: the command cannot lift its limit of ten kept connections."""
    return launched("cheroot", programs, wish)


def bjoern(programs: Path, wish: Wish) -> list[str]:
    """A library without a command, one thread."""
    return launched("bjoern", programs, wish)


def launched(name: str, programs: Path, wish: Wish) -> list[str]:
    """A server that a few lines of Python start."""
    argv = [str(programs / "python"), str(LAUNCHER), name, wish.app]
    return [*argv, str(wish.port), str(wish.threads), str(wish.connections)]


def uwsgi(programs: Path, wish: Wish) -> list[str]:
    """Behind its own HTTP router, which keeps more connections than there are threads."""
    return [*uwsgi_common(programs, wish), "--http", f"127.0.0.1:{wish.port}", "--http-keepalive"]


def uwsgi_direct(programs: Path, wish: Wish) -> list[str]:
    """Without the router: fewer copies, but each open connection holds a thread."""
    return [*uwsgi_common(programs, wish), "--http11-socket", f"127.0.0.1:{wish.port}"]


def uwsgi_common(programs: Path, wish: Wish) -> list[str]:
    """What both have."""
    return [
        str(programs / "uwsgi"),
        *("--master", "--die-on-term", "--need-app", "--disable-logging"),
        *("--processes", str(wish.workers), "--threads", str(wish.threads)),
        *("--listen", str(BACKLOG), "--module", wish.app),
    ]


OURS = "gthreadsrv"
OURS_H11 = "gthreadsrv-h11"

SERVERS = {
    server.name: server
    for server in (
        Server(OURS, (), gthreadsrv("httptools")),
        Server(OURS_H11, (), gthreadsrv("h11")),
        Server("gunicorn", ("gunicorn==27.0.1",), gunicorn("python")),
        Server("gunicorn-fast", ("gunicorn[fast]==27.0.1",), gunicorn("fast")),
        Server("granian", ("granian==2.8.7",), granian),
        Server("waitress", ("waitress==3.0.2",), waitress),
        Server("cheroot", ("cheroot==11.1.2",), cheroot),
        Server("uwsgi", ("pyuwsgi==2.0.30",), uwsgi),
        Server("uwsgi-direct", ("pyuwsgi==2.0.30",), uwsgi_direct),
        Server("bjoern", ("bjoern==3.2.2",), bjoern, threaded=False),
    )
}
