"""A small application to try the server with: one route for each kind of work.

Why it exists: `make serve` must show something at once, and tests, benchmarks and
dashboards need a known load: fast, slow, CPU-heavy, streaming and failing requests.
It is plain WSGI (PEP 3333, clean under wsgiref.validate) and imports only the standard
library, so that it starts quickly and runs under any WSGI server.  It runs in pool
threads and keeps no state.  Nothing of the server may be imported here: the demo sees
the server as any other application does.
"""

from __future__ import annotations

import hashlib
import os
import time
from html import escape
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qs
from wsgiref.util import FileWrapper

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from wsgiref.types import StartResponse, WSGIEnvironment

PLAIN = "text/plain; charset=utf-8"
# One request of the demo never holds a thread, or its memory, for longer than this.
MAX_MS = 60_000
MAX_CHUNKS = 10_000
FILE_BLOCK_BYTES = 64 * 1024


class Route(NamedTuple):
    """One path of the demo; `example` is what the index links."""

    handler: Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]]
    example: str
    what: str


class BadParameterError(ValueError):
    """A query parameter is not what the route takes; answered with 400."""


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Serve one request by its path."""
    route = ROUTES.get(environ.get("PATH_INFO") or "/")
    if route is None:
        return _plain(start_response, "404 Not Found", "no such page\n")
    try:
        return route.handler(environ, start_response)
    except BadParameterError as error:
        return _plain(start_response, "400 Bad Request", f"{error}\n")


def index(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Link every route."""
    prefix = escape(environ.get("SCRIPT_NAME", ""), quote=True)
    rows = "".join(
        f'<li><a href="{prefix}{escape(route.example, quote=True)}">{escape(route.example)}</a>'
        f"<span>{escape(route.what)}</span></li>"
        for route in ROUTES.values()
        if route.example != "/"
    )
    body = PAGE.replace("{rows}", rows).replace("{software}", escape(_software(environ)))
    return _reply(start_response, "200 OK", "text/html; charset=utf-8", body.encode())


def fast(_environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer at once."""
    return _plain(start_response, "200 OK", "Hello, world!\n")


def slow(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Wait as for a database: the thread is held, the interpreter is free."""
    duration_ms = _number(environ, "ms", default=300, maximum=MAX_MS)
    time.sleep(duration_ms / 1000)
    return _plain(start_response, "200 OK", f"waited {duration_ms} ms\n")


def cpu(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Compute in Python: the thread holds the interpreter most of the time."""
    duration_ms = _number(environ, "ms", default=100, maximum=MAX_MS)
    # CPU time of this thread, not the wall clock: the amount of work must not
    # depend on who else wants the processor.
    deadline = time.thread_time() + duration_ms / 1000
    rounds = 0
    digest = b"gthreadsrv"
    while time.thread_time() < deadline:
        for _ in range(100):
            digest = hashlib.sha256(digest).digest()
        rounds += 100
    return _plain(start_response, "200 OK", f"{rounds} hashes in {duration_ms} ms of CPU\n")


def stream(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Send the body piece by piece, without a length."""
    chunks = _number(environ, "chunks", default=10, maximum=MAX_CHUNKS)
    delay_ms = _number(environ, "ms", default=0, maximum=MAX_MS)
    start_response("200 OK", [("Content-Type", PLAIN)])
    return _pieces(chunks, delay_ms / 1000)


def fail(_environ: WSGIEnvironment, _start_response: StartResponse) -> Iterable[bytes]:
    """Raise, as a broken view does."""
    raise RuntimeError("the demo's /fail route always raises")


def echo(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Send the request's body back."""
    # wsgi.input_terminated says that reading to the end of a body of unknown length is
    # safe; without it only Content-Length bytes may be read.
    length = environ.get("CONTENT_LENGTH") or ""
    if length:
        body = environ["wsgi.input"].read(int(length))
    elif environ.get("wsgi.input_terminated"):
        body = environ["wsgi.input"].read(-1)
    else:
        body = b""
    kind = environ.get("CONTENT_TYPE") or "application/octet-stream"
    return _reply(start_response, "200 OK", kind, body)


def file(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Send a file, by the server's own means where it has some."""
    source = open(__file__, "rb")  # noqa: SIM115 - the server closes it after the last byte
    size = os.fstat(source.fileno()).st_size
    start_response("200 OK", [("Content-Type", PLAIN), ("Content-Length", str(size))])
    wrapper = environ.get("wsgi.file_wrapper", FileWrapper)
    return wrapper(source, FILE_BLOCK_BYTES)  # type: ignore[no-any-return]


def headers(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Show the request as the application sees it."""
    lines = (
        f"{name}: {value}\n"
        for name, value in sorted(environ.items())
        if name in SHOWN or name.startswith("HTTP_")
    )
    # The environment carries bytes as latin-1 characters: they go out as they came in.
    body = "".join(lines).encode("latin-1", "backslashreplace")
    return _reply(start_response, "200 OK", PLAIN, body)


def _pieces(chunks: int, delay_s: float) -> Iterator[bytes]:
    for number in range(1, chunks + 1):
        if delay_s:
            time.sleep(delay_s)
        yield f"piece {number} of {chunks}\n".encode()


def _number(environ: WSGIEnvironment, name: str, *, default: int, maximum: int) -> int:
    values = parse_qs(environ.get("QUERY_STRING", "")).get(name)
    if values is None:
        return default
    text = values[-1]
    if not (text.isascii() and text.isdigit()) or len(text) > 9 or int(text) > maximum:
        raise BadParameterError(f"{name} must be a whole number from 0 to {maximum}")
    return int(text)


def _plain(start_response: StartResponse, status: str, text: str) -> Iterable[bytes]:
    return _reply(start_response, status, PLAIN, text.encode())


def _reply(
    start_response: StartResponse, status: str, content_type: str, body: bytes
) -> Iterable[bytes]:
    start_response(status, [("Content-Type", content_type), ("Content-Length", str(len(body)))])
    return [body]


def _software(environ: WSGIEnvironment) -> str:
    return str(environ.get("SERVER_SOFTWARE") or "a WSGI server")


SHOWN = frozenset(
    {
        "CONTENT_LENGTH",
        "CONTENT_TYPE",
        "PATH_INFO",
        "QUERY_STRING",
        "REMOTE_ADDR",
        "REMOTE_PORT",
        "REQUEST_METHOD",
        "SCRIPT_NAME",
        "SERVER_NAME",
        "SERVER_PORT",
        "SERVER_PROTOCOL",
        "SERVER_SOFTWARE",
        "wsgi.url_scheme",
    }
)

ROUTES: dict[str, Route] = {
    "/": Route(index, "/", "this page"),
    "/fast": Route(fast, "/fast", "answers at once"),
    "/slow": Route(slow, "/slow?ms=300", "waits, as for a database"),
    "/cpu": Route(cpu, "/cpu?ms=100", "computes in Python"),
    "/stream": Route(stream, "/stream?chunks=10&ms=100", "sends its body piece by piece"),
    "/file": Route(file, "/file", "sends a file: the demo's own source"),
    "/headers": Route(headers, "/headers", "shows the request as the application sees it"),
    "/echo": Route(echo, "/echo", "sends the request's body back (use POST)"),
    "/fail": Route(fail, "/fail", "raises an exception"),
}

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>gthreadsrv demo</title>
<style>
  :root { color-scheme: light dark; --ink: #1c2530; --dim: #5d6b7a; --line: #dde3ea;
          --card: #ffffff; --ground: #f4f6f8; --link: #0b62c4; }
  @media (prefers-color-scheme: dark) {
    :root { --ink: #e4e9ef; --dim: #9aa7b4; --line: #2d3640; --card: #1a2129;
            --ground: #12171d; --link: #6db3ff; }
  }
  body { margin: 0; padding: 3rem 1rem; background: var(--ground); color: var(--ink);
         font: 16px/1.5 system-ui, sans-serif; }
  main { max-width: 42rem; margin: 0 auto; }
  h1 { margin: 0; font-size: 1.6rem; }
  p { color: var(--dim); }
  ul { list-style: none; margin: 1.5rem 0; padding: 0; background: var(--card);
       border: 1px solid var(--line); border-radius: 10px; }
  li { display: flex; flex-wrap: wrap; gap: .25rem 1rem; padding: .65rem 1rem; }
  li + li { border-top: 1px solid var(--line); }
  li a { flex: 0 0 15rem; font-family: ui-monospace, monospace; font-size: .95em; }
  li span { color: var(--dim); }
  a { color: var(--link); text-decoration: none; }
  a:hover, a:focus { text-decoration: underline; }
</style>
</head>
<body>
<main>
  <h1>It works</h1>
  <p>Served by {software}. Each page below is one kind of work; watch what it does to the
  server's metrics (on port 9180 unless you chose another).</p>
  <ul>{rows}</ul>
</main>
</body>
</html>
"""
