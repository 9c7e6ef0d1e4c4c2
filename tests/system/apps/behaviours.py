"""One WSGI application with a route for each thing PEP 3333 lets an application do.

Served unchanged by the tests; `checked` is the same behind wsgiref.validate, and `plain`
knows nothing of any server.  Routes that tell what happened in the application write to
the file named by the environment variable RECORD, one line each.
"""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import parse_qs
from wsgiref.validate import validator

Environ = dict[str, Any]
StartResponse = Callable[..., Callable[[bytes], object]]
TEXT = [("Content-Type", "text/plain")]


def record(line: str) -> None:
    """Append one line to the record; O_APPEND keeps lines of several processes whole."""
    path = os.environ.get("RECORD")
    if path:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            os.write(fd, f"{line}\n".encode())
        finally:
            os.close(fd)


record(f"imported {os.getpid()}")


class Body:
    """An iterable that records its close()."""

    def __init__(self, name: str, pieces: Iterable[bytes], fail_on_close: bool = False) -> None:
        self.name, self.pieces, self.fail_on_close = name, iter(pieces), fail_on_close

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self.pieces)

    def close(self) -> None:
        record(f"closed {self.name}")
        if self.fail_on_close:
            raise RuntimeError("close() failed on purpose")


def arg(environ: Environ, name: str, default: str = "") -> str:
    """One query parameter."""
    query: str = environ["QUERY_STRING"]
    return parse_qs(query, keep_blank_values=True).get(name, [default])[-1]


def sized(start_response: StartResponse, body: bytes, status: str = "200 OK") -> list[bytes]:
    """A response with its length."""
    start_response(status, [*TEXT, ("Content-Length", str(len(body)))])
    return [body]


def hello(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    return sized(start_response, b"hello\n")


def environ_json(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    shown = {k: v for k, v in environ.items() if isinstance(v, (str, bool, int, list, tuple))}
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(shown).encode()]


def echo(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    body = environ["wsgi.input"].read()
    record(f"read {len(body)}")
    return sized(start_response, body)


def read_by(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Read the body the way `how` says, and tell its size and its pieces' sum."""
    source, how = environ["wsgi.input"], arg(environ, "how")
    if how == "pieces":
        pieces = list(iter(lambda: source.read(1000), b""))
    elif how == "readline":
        pieces = list(iter(lambda: source.readline(100), b""))
    elif how == "readlines":
        pieces = source.readlines()
    elif how == "iterate":
        pieces = list(source)
    else:
        pieces = [source.read(0), source.read(-1), source.read(10), source.readline()]
    start_response("200 OK", [("Content-Type", "application/octet-stream")])
    return pieces


def size(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Count the body's bytes without keeping them."""
    count = sum(len(piece) for piece in iter(lambda: environ["wsgi.input"].read(65536), b""))
    return sized(start_response, f"{count}".encode())


def ignore_body(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    return sized(start_response, b"ignored\n")


def sleep(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    record(f"sleeping {arg(environ, 'name')}")
    time.sleep(float(arg(environ, "s", "0.1")))
    return sized(start_response, f"{os.getpid()}".encode())


def hold(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Hold the thread until the file named by `until` is there (at most 20 s)."""
    record(f"holding {arg(environ, 'name')}")
    deadline = time.monotonic() + 20
    while not os.path.exists(arg(environ, "until")) and time.monotonic() < deadline:
        time.sleep(0.005)
    return sized(start_response, f"{os.getpid()}".encode())


def who(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Tell which process and thread serve, and a setting from the environment."""
    told = {
        "pid": os.getpid(),
        "ppid": os.getppid(),
        "thread": threading.get_ident(),
        "threads": threading.active_count(),
        "cwd": os.getcwd(),
        "uid": os.getuid(),
        "gid": os.getgid(),
        "groups": os.getgroups(),
        "umask": _umask(),
        "variable": os.environ.get("VARIABLE"),
        "path": sys.path,
        "prometheus_client": "prometheus_client" in sys.modules,
        "master_only": sorted(m for m in sys.modules if m.startswith("gthreadsrv")),
    }
    return sized(start_response, json.dumps(told).encode())


def _umask() -> int:
    mask = os.umask(0o22)
    os.umask(mask)
    return mask


def blob(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    return sized(start_response, b"x" * int(arg(environ, "n")))


def pieces(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """No length; `n` pieces of `size` bytes, some of them empty when `empty` is given."""
    count, length = int(arg(environ, "n", "3")), int(arg(environ, "size", "10"))
    start_response("200 OK", TEXT)
    made: list[bytes] = []
    for number in range(count):
        if arg(environ, "empty"):
            made.append(b"")
        made.append(b"%d" % (number % 10) * length)
    return Body("pieces", made)


def drip(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Yield a piece; go on only when the file named by `until` is there."""
    start_response("200 OK", TEXT)
    yield b"first\n"
    deadline = time.monotonic() + 20
    while not os.path.exists(arg(environ, "until")) and time.monotonic() < deadline:
        time.sleep(0.005)
    yield b"second\n"


def generator(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """start_response is called only when the first piece is asked for."""
    start_response("201 Created", TEXT)
    yield b"lazy"


def nothing(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", TEXT)
    return Body("nothing", [])


def write(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    send = start_response("200 OK", TEXT)
    send(b"written, ")
    send(b"")
    send(b"again, ")
    return Body("write", [b"then returned\n"])


def write_sized(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    send = start_response("200 OK", [*TEXT, ("Content-Length", "6")])
    send(b"abc")
    send(b"def")
    return []


def status(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Any status, with a body that must not be sent when the status forbids one."""
    start_response(arg(environ, "code", "204 No Content"), [("ETag", '"x"')])
    return Body("status", [b"body\n"])


def not_modified(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    start_response("304 Not Modified", [("ETag", '"x"')])
    return []


def cookies(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [*TEXT, ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")])
    return [b"two cookies\n"]


def own_date(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    date = ("Date", "Thu, 01 Jan 1970 00:00:00 GMT")
    start_response("200 OK", [*TEXT, date, ("Server", "mine")])
    return [b"own date\n"]


def closing(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [*TEXT, ("Content-Length", "4"), ("Connection", "close")])
    return [b"bye\n"]


def fail(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    raise RuntimeError("failed on purpose")


def fail_after_start(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", TEXT)
    raise RuntimeError("failed after start_response")


def fail_first(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    def broken() -> Iterator[bytes]:
        yield b""
        raise RuntimeError("failed before the first byte")

    start_response("200 OK", TEXT)
    return Body("fail_first", broken())


def fail_later(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    def broken() -> Iterator[bytes]:
        yield b"some bytes\n"
        raise RuntimeError("failed after the first byte")

    start_response("200 OK", TEXT)
    return Body("fail_later", broken())


def fail_close(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [*TEXT, ("Content-Length", "3")])
    return Body("fail_close", [b"ok\n"], fail_on_close=True)


def error_page(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Change one's mind with exc_info before anything was sent."""
    start_response("200 OK", TEXT)
    try:
        raise RuntimeError("handled by the application")
    except RuntimeError:
        start_response("503 Service Unavailable", TEXT, sys.exc_info())
    return [b"own error page\n"]


def twice(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", TEXT)
    start_response("200 OK", TEXT)
    return [b"never\n"]


def never_starts(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    return [b"no start_response\n"]


def returns_none(environ: Environ, start_response: StartResponse) -> Any:
    start_response("200 OK", TEXT)


def injects(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [("X-Evil", "a\r\nSet-Cookie: stolen=1")])
    return [b"never\n"]


def too_short(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [*TEXT, ("Content-Length", "100")])
    return [b"short\n"]


def too_long(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [*TEXT, ("Content-Length", "4")])
    return [b"four", b" and more"]


def file(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """A real file by wsgi.file_wrapper, from an offset; with a length when `length` is given."""
    source = open(arg(environ, "path"), "rb")  # noqa: SIM115 - closed by the server
    source.seek(int(arg(environ, "offset", "0")))
    length = arg(environ, "length")
    start_response("200 OK", [*TEXT, ("Content-Length", length)] if length else TEXT)
    return environ["wsgi.file_wrapper"](source)  # type: ignore[no-any-return]


def file_like(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """An object with read() only, by wsgi.file_wrapper."""

    class Source(io.BytesIO):
        def close(self) -> None:
            record("closed file_like")
            super().close()

        def fileno(self) -> int:
            raise OSError("no descriptor")

    start_response("200 OK", TEXT)
    return environ["wsgi.file_wrapper"](Source(b"z" * 100_000), 1000)  # type: ignore[no-any-return]


def kill(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Die as from the kernel's OOM killer."""
    os.kill(os.getpid(), signal.SIGKILL)
    return []


def leave(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """sys.exit in a request."""
    sys.exit("the application wants to leave")


def astray(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Write to every socket without a name that this process has; how many there were."""
    import socket

    count = 0
    for fd in map(int, os.listdir("/proc/self/fd")):
        try:
            with socket.socket(fileno=os.dup(fd)) as sock:
                if sock.family == socket.AF_UNIX and not sock.getpeername():
                    sock.send(b'{"not": "yours"}\n[')
                    count += 1
        except OSError:
            continue
    return sized(start_response, b"%d" % count)


def log(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Log one line by structlog, one by logging and one to wsgi.errors."""
    import logging

    import structlog

    structlog.get_logger("shop").warning("order placed", order=7)
    logging.getLogger("shop").warning("plain warning")
    environ["wsgi.errors"].write("to wsgi.errors\n")
    environ["wsgi.errors"].flush()
    return sized(start_response, b"logged\n")


ROUTES: dict[str, Callable[[Environ, StartResponse], Iterable[bytes]]] = {
    f"/{handler.__name__}": handler
    for handler in (
        hello, environ_json, echo, read_by, size, ignore_body, sleep, hold, who, blob, pieces,
        drip, generator, nothing, write, write_sized, status, not_modified, cookies, own_date,
        closing, fail, fail_after_start, fail_first, fail_later, fail_close, error_page, twice,
        never_starts, returns_none, injects, too_short, too_long, file, file_like, kill, leave,
        astray, log,
    )
}  # fmt: skip


def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """The application as the tests serve it."""
    handler = ROUTES.get(environ["PATH_INFO"])
    if handler is None:
        return sized(start_response, b"no such route\n", "404 Not Found")
    return handler(environ, start_response)


checked: Any = validator(app)


def make_app(greeting: str = "made") -> Callable[[Environ, StartResponse], Iterable[bytes]]:
    """An application factory."""

    def made(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        return sized(start_response, greeting.encode())

    return made
