"""One worker in a process of its own, without a master: started by `test_process`.

Arguments: a socket file, the descriptor of the worker's line, a mode, and settings as
name=number.  Modes: `serve`, `preload`, `exporter`, and `missing` for an application that
cannot be loaded.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from typing import TYPE_CHECKING, Any, Literal

from gthreadsrv import log
from gthreadsrv.errors import AppLoadError
from gthreadsrv.net.address import UnixAddress
from gthreadsrv.net.listeners import bind
from gthreadsrv.settings import Settings
from gthreadsrv.worker.channel import WorkerChannel
from gthreadsrv.worker.context import WorkerContext
from gthreadsrv.worker.process import run_worker
from gthreadsrv_metrics.scoreboard import Scoreboard

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    """Tell who serves; `/hold` waits for a byte on standard input."""
    if environ["PATH_INFO"] == "/hold":
        os.write(1, b"held\n")
        os.read(0, 1)
    start_response("200 OK", [])
    return [str(os.getpid()).encode()]


def load() -> WSGIApplication:
    """Load the application."""
    return app


def fail() -> WSGIApplication:
    """Fail as a broken import does."""
    raise AppLoadError("there is no module called nowhere")


def main(path: str, fd: str, mode: str, *values: str) -> int:
    """Run the worker to its end."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    given: dict[str, Any] = {
        name: int(number) for name, _, number in (one.partition("=") for one in values)
    }
    threads = given.pop("threads", 2)
    settings = Settings(app="rig:app", workers=1, threads=threads, **given)
    log.configure(settings)
    role: Literal["worker", "exporter"] = "exporter" if mode == "exporter" else "worker"
    board = Scoreboard(1, threads, ["rig"])
    board.master.lease(0, os.getpid(), 1, 0.0)
    context = WorkerContext(
        settings=settings,
        slot=0,
        generation=1,
        listeners=tuple(bind([UnixAddress(path)], 16)),
        board=board,
        channel=WorkerChannel(socket.socket(fileno=int(fd))),
        app=app if mode == "preload" else None,
        load=fail if mode == "missing" else load,
        role=role,
    )
    return run_worker(context)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
