"""From a request head to the WSGI environ (PEP 3333).

One builder per listener holds what is the same for all its requests; a request copies
that and adds its own.  No I/O.  Runs in the thread that serves the request.
"""

from __future__ import annotations

import sys
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from gthreadsrv import __version__
from gthreadsrv.wsgi.file_wrapper import FileWrapper

if TYPE_CHECKING:
    from gthreadsrv.http.request import RequestHead

__all__ = ["EnvironBuilder"]

# Names seen before; a client that invents names must not grow the table without end.
_LEARN_MAX = 1024

_PROTOCOLS = ("HTTP/1.0", "HTTP/1.1")

_SECURE_HEADERS = (
    ("HTTP_X_FORWARDED_PROTO", "https"),
    ("HTTP_X_FORWARDED_PROTOCOL", "ssl"),
    ("HTTP_X_FORWARDED_SSL", "on"),
)


class EnvironBuilder:
    """Builds environs for one listener of one worker."""

    __slots__ = ("_base", "_keys", "_pass_underscores", "_plain", "_trusting")

    def __init__(
        self,
        *,
        server_name: str,
        server_port: str,
        multithread: bool,
        multiprocess: bool,
        scheme: str = "http",
        pass_underscores: bool = False,
        file_wrapper: type[FileWrapper] = FileWrapper,
    ) -> None:
        """``pass_underscores``: whether names with ``_`` reach the application."""
        self._pass_underscores = pass_underscores
        self._keys: dict[bytes, str] = {}
        # Marks on kept environs: this listener's, by whether the peer is believed.
        self._plain, self._trusting = object(), object()
        self._base: dict[str, Any] = {
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": scheme,
            "wsgi.errors": _ErrorStream(),
            "wsgi.multithread": multithread,
            "wsgi.multiprocess": multiprocess,
            "wsgi.run_once": False,
            # The body always ends by itself: reading past it gives b"", never a wait.
            "wsgi.input_terminated": True,
            "wsgi.file_wrapper": file_wrapper,
            "SERVER_SOFTWARE": f"gthreadsrv/{__version__}",
            "SERVER_NAME": server_name,
            "SERVER_PORT": server_port,
            "SCRIPT_NAME": "",
            # Set for each request; here so that a copy of this need not grow.
            "REQUEST_METHOD": "",
            "PATH_INFO": "",
            "QUERY_STRING": "",
            "RAW_URI": "",
            "REQUEST_URI": "",
            "SERVER_PROTOCOL": "",
            "REMOTE_ADDR": "",
            "REMOTE_PORT": "",
            "wsgi.input": None,
        }
        if scheme == "https":
            self._base["HTTPS"] = "on"

    def build(
        self,
        head: RequestHead,
        body: IO[bytes],
        body_length: int,
        peer: tuple[str, str],
        trusted: bool,
    ) -> dict[str, Any]:
        """Return the environ of one request.

        ``body_length`` is the decoded body's length in bytes, -1 without a body; ``peer``
        the client's address and port, empty on a unix socket; ``trusted`` whether the
        peer's word on the scheme counts.
        """
        section = head.section
        if section is None:
            environ = self._with_fields(head, trusted=trusted)
        else:
            whose = self._trusting if trusted else self._plain
            kept = section.environ
            if kept is None or kept[0] is not whose:
                kept = section.environ = (whose, self._with_fields(head, trusted=trusted))
            environ = kept[1].copy()
        path = head.path
        environ["REQUEST_METHOD"] = head.method
        if "%" in path:
            path = unquote_to_bytes(path.encode("latin-1")).decode("latin-1")
        elif path == "*":
            # OPTIONS about the server as a whole: no path (RFC 3875 4.1.5: "/..." or nothing).
            path = ""
        environ["PATH_INFO"] = path
        environ["QUERY_STRING"] = head.query
        environ["RAW_URI"] = environ["REQUEST_URI"] = head.target
        environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = peer
        environ["wsgi.input"] = body
        if body_length >= 0:
            environ["CONTENT_LENGTH"] = str(body_length)
        return environ

    def _with_fields(self, head: RequestHead, *, trusted: bool) -> dict[str, Any]:
        """Return what the listener and the header fields give."""
        environ = self._base.copy()
        # Here, not in `build`: fields are kept from requests in HTTP/1.1 only.
        environ["SERVER_PROTOCOL"] = _PROTOCOLS[head.minor]
        keys = self._keys
        for name, value in head.headers:
            key = keys.get(name)
            if key is None:
                key = self._learn(name)
            if not key:
                continue
            if key in environ:
                # RFC 9110 5.3: repeats join by a comma; cookies by a semicolon (RFC 9113 8.2.3).
                joint = "; " if key == "HTTP_COOKIE" else ","
                environ[key] += joint + value.decode("latin-1")
            else:
                environ[key] = value.decode("latin-1")
        if head.chunked:
            # What the application reads is the decoded body (RFC 9112 7.1.3).
            environ.pop("HTTP_TRANSFER_ENCODING", None)
        if trusted:
            for header, word in _SECURE_HEADERS:
                if environ.get(header) == word:
                    environ["wsgi.url_scheme"] = "https"
                    break
        return environ

    def _learn(self, name: bytes) -> str:
        """Return the environ key for a field name; empty for a name that is left out.

        A name with "_" would land on the same key as its twin with "-", and could speak
        for it; ``Proxy`` would become HTTP_PROXY, which HTTP clients of the application
        take for their own configuration.
        """
        text = name.decode("latin-1").upper()
        if ("_" in text and not self._pass_underscores) or text == "PROXY":
            key = ""
        elif text in ("CONTENT-TYPE", "CONTENT-LENGTH"):
            key = text.replace("-", "_")
        elif text in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            # Framing is never a matter of trust.
            key = ""
        else:
            key = "HTTP_" + text.replace("-", "_")
        if len(self._keys) < _LEARN_MAX:
            self._keys[name] = key
        return key


class _ErrorStream:
    """wsgi.errors: whatever sys.stderr is at the moment of the write."""

    __slots__ = ()

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def writelines(self, lines: list[str]) -> None:
        sys.stderr.writelines(lines)

    def flush(self) -> None:
        sys.stderr.flush()
