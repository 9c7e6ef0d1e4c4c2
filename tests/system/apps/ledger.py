"""Answers with its process and the request's number, which it has noted in a ledger before.

The ledger (a file named by LEDGER, shared memory of all workers) outlives a worker that is
killed: it tells which process ran which request, and how often.  The file named by MOOD, where
there is one, says what an import does: hang, crash, fail, or nothing.
"""

from __future__ import annotations

import mmap
import os
import signal
import struct
import time
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs

ENTRY = struct.Struct("=II")
PADS = (0, 1_000, 40_000)


def pad(token: int) -> bytes:
    """What follows the first line of an answer: nothing, a packet, or more than one."""
    return b"%d," % token * (PADS[token % len(PADS)] // 8)


def _obey_mood() -> None:
    try:
        with open(os.environ["MOOD"]) as file:
            mood = file.read().strip()
    except (KeyError, FileNotFoundError):
        return
    if mood == "hang":
        time.sleep(3600)
    elif mood == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif mood == "fail":
        raise RuntimeError("failed on purpose")


def _open_ledger() -> mmap.mmap | None:
    path = os.environ.get("LEDGER")
    if not path:
        return None
    with open(path, "r+b") as file:
        return mmap.mmap(file.fileno(), 0)


_obey_mood()
ledger = _open_ledger()
kept: list[bytes] = []
blobs: dict[int, bytes] = {}


def note(token: int) -> None:
    """This process runs the request."""
    if ledger is not None:
        _, count = ENTRY.unpack_from(ledger, token * ENTRY.size)
        ENTRY.pack_into(ledger, token * ENTRY.size, os.getpid(), count + 1)


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Do what the path says."""
    path, query = environ["PATH_INFO"], parse_qs(environ["QUERY_STRING"])

    def number(name: str) -> int:
        return int(query.get(name, ["0"])[0])

    token = number("token")
    note(token)
    tail = pad(token)
    if path == "/keep":
        kept.append(b"x" * (number("mb") << 20))
    elif path == "/asleep":
        time.sleep(3600)
    elif path == "/blob":
        # Made once: what it costs to make is no part of what it costs to send.
        size = number("n")
        blob = blobs.get(size) or blobs.setdefault(size, b"x" * size)
        start_response("200 OK", [("Content-Length", str(len(blob)))])
        return [blob]
    elif path == "/upload":
        source = environ["wsgi.input"]
        tail = b"%d" % sum(len(piece) for piece in iter(lambda: source.read(65536), b""))
    time.sleep(number("ms") / 1000)
    body = b"%d %d\n%b" % (os.getpid(), token, tail)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
