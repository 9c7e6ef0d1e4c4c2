"""An application for worker classes of greenlets: it waits, computes, and has things of its own."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs

import structlog

AT_IMPORT = f"{os.getpid()} {socket.socket.__module__.partition('.')[0]}"

local = threading.local()
structlog.configure(
    processors=[structlog.contextvars.merge_contextvars, structlog.processors.JSONRenderer()]
)
log = structlog.get_logger()


def _ask(port: str) -> bytes:
    """Ask over a blocking socket, as a database's driver in Python does."""
    with socket.create_connection(("127.0.0.1", int(port))) as database:
        database.sendall(b"SELECT 1")
        return database.recv(100)


def _own(name: str, seconds: float) -> bytes:
    """Keep something where threads keep it, let others run, and look again."""
    local.name = name
    log.warning("before", name=name)
    time.sleep(seconds)
    log.warning("after", name=name)
    return b"mine" if local.name == name else b"another's"


def _forked(seconds: float) -> bytes:
    """How a child ends that waits for so long, in two greenlets of its own."""
    child = os.fork()
    if not child:
        other = threading.Thread(target=time.sleep, args=(seconds,))
        other.start()
        time.sleep(seconds / 2)
        other.join()
        os._exit(7)
    return str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])).encode()


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Do what the path says."""
    path = environ["PATH_INFO"]
    given = {name: values[-1] for name, values in parse_qs(environ["QUERY_STRING"]).items()}
    body = b"well\n"
    if path == "/database":
        body = _ask(given["port"])
    elif path == "/own":
        body = _own(given["name"], float(given["s"]))
    elif path == "/sleep":
        time.sleep(float(given["s"]))
    elif path == "/compute":
        until = time.monotonic() + float(given["s"])
        while time.monotonic() < until:
            pass
    elif path == "/fork":
        body = _forked(float(given["s"]))
    elif path == "/at-import":
        body = AT_IMPORT.encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
