"""The plain WSGI application of the benchmark: one path for each kind of work.

Runs in every server alike, in that server's own threads; imports only the standard library. Where
a server has no `wsgi.file_wrapper` the file is sent by wsgiref's, as PEP 3333 tells applications.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING
from wsgiref.util import FileWrapper

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from wsgiref.types import StartResponse, WSGIEnvironment

MIB = 1024 * 1024
CPU_NS = 2_000_000
FILE_BLOCK_BYTES = 64 * 1024
PATTERN = b"0123456789abcdef"


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Do what the path asks for."""
    return ROUTES[environ["PATH_INFO"]](environ, start_response)


def answer(start_response: StartResponse, body: bytes) -> Iterable[bytes]:
    """A whole body with its length, as frameworks send it."""
    headers = [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))]
    start_response("200 OK", headers)
    return [body]


def hello(_environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Nothing but the server."""
    return answer(start_response, b"Hello, world!\n")


def sleep_5ms(_environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """A quick question to a database."""
    time.sleep(0.005)
    return answer(start_response, b"Hello, world!\n")


def sleep_50ms(_environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """A call of another service."""
    time.sleep(0.050)
    return answer(start_response, b"Hello, world!\n")


def cpu_2ms(_environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Python that computes for 2 ms of its thread's own CPU time, however fast the machine is."""
    end_ns = time.thread_time_ns() + CPU_NS
    while time.thread_time_ns() < end_ns:
        pass
    return answer(start_response, b"Hello, world!\n")


def upload(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Read the whole body at once."""
    body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
    return answer(start_response, b"%d\n" % len(body))


def large(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """As many bytes as the query says, 1 MiB without one."""
    size = int(environ.get("QUERY_STRING") or MIB)
    body = bodies.get(size)
    if body is None:
        body = bodies[size] = (PATTERN * (size // len(PATTERN) + 1))[:size]
    return answer(start_response, body)


def file(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """The file whose path is in BENCH_FILE, sent the server's own way."""
    opened = open(os.environ["BENCH_FILE"], "rb")  # noqa: SIM115 - the server closes it
    size = os.fstat(opened.fileno()).st_size
    start_response(
        "200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", str(size))]
    )
    wrapped: Iterable[bytes] = environ.get("wsgi.file_wrapper", FileWrapper)(
        opened, FILE_BLOCK_BYTES
    )
    return wrapped


bodies: dict[int, bytes] = {}
ROUTES: dict[str, Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]]] = {
    "/": hello,
    "/sleep-5ms": sleep_5ms,
    "/sleep-50ms": sleep_50ms,
    "/cpu-2ms": cpu_2ms,
    "/upload": upload,
    "/large": large,
    "/file": file,
}
