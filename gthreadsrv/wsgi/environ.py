"""From a request head to the WSGI environ (PEP 3333).

One builder per listener holds what is the same for all its requests; a request copies
that and adds its own.  No I/O.  Runs in the thread that serves the request.
"""

from __future__ import annotations

import sys
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from gthreadsrv import __version__
from gthreadsrv.http.errors import BadRequestError
from gthreadsrv.wsgi.fields import SchemeFinder, below
from gthreadsrv.wsgi.file_wrapper import FileWrapper

if TYPE_CHECKING:
    from gthreadsrv.http.request import RequestHead
    from gthreadsrv.net.peers import TrustedPeers
    from gthreadsrv.wsgi.fields import ClientFinder, FieldTrust

__all__ = ["ClientEnvironBuilder", "EnvironBuilder"]

# Names seen before; a client that invents names must not grow the table without end.
_LEARN_MAX = 1024
# Nor with few names that are long: a field line may hold one of 8 KiB.
_LEARN_MAX_BYTES = 64

_PROTOCOLS = ("HTTP/1.0", "HTTP/1.1")


class EnvironBuilder:
    """Builds environs for one listener of one worker."""

    __slots__ = ("_base", "_forwarder", "_keys", "_map", "_plain", "_schemes", "_trusting")

    def __init__(
        self,
        server_name: str,
        server_port: str,
        multithread: bool,
        multiprocess: bool,
        fields: FieldTrust,
        *,
        hops: TrustedPeers,
        scheme: str = "http",
        file_wrapper: type[FileWrapper] = FileWrapper,
    ) -> None:
        """``hops``: whose word counts of the proxies that a trusted peer names."""
        self._map = fields.header_map
        self._forwarder = frozenset(fields.forwarder_headers)
        self._schemes = SchemeFinder(fields, hops)
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
            "SCRIPT_NAME": fields.mount,
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
        peer's word counts.  Raises BadRequestError when a trusted peer contradicts itself.
        """
        path = head.path
        section = head.section
        whose = self._trusting if trusted else self._plain
        kept = None if section is None else section.environ
        if kept is not None and kept[0] is whose:
            environ = kept[1].copy()
        else:
            environ = self._with_fields(head, trusted=trusted)
            if environ["SCRIPT_NAME"]:
                # Not kept: every other request is spared the look.
                path = below(path, environ["SCRIPT_NAME"])
            elif section is not None:
                section.environ = (whose, environ)
                environ = environ.copy()
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
        said: dict[str, str] = {}
        for name, value in head.headers:
            key = keys.get(name)
            if key is None:
                key = self._learn(name)
            if not key:
                if b"_" not in name:
                    continue
                key = self._underscored(name, trusted=trusted)
                if not key:
                    continue
                if trusted:
                    _believe(key, value.decode("latin-1"), said, environ)
                    continue
            if key in environ:
                # RFC 9110 5.3: repeats join by a comma; cookies by a semicolon (RFC 9113 8.2.3).
                joint = "; " if key == "HTTP_COOKIE" else ","
                environ[key] += joint + value.decode("latin-1")
            else:
                environ[key] = value.decode("latin-1")
        environ.update(said)
        if head.chunked:
            # What the application reads is the decoded body (RFC 9112 7.1.3).
            environ.pop("HTTP_TRANSFER_ENCODING", None)
        if trusted:
            scheme = self._schemes.find(head, environ)
            if scheme is not None:
                environ["wsgi.url_scheme"] = scheme
        return environ

    def _underscored(self, name: bytes, *, trusted: bool) -> str:
        """Return the key of a name with "_" that `_learn` left out; empty when it stays out."""
        text = name.decode("latin-1").upper()
        if text not in self._forwarder:
            return ""
        if not trusted and self._map == "refuse":
            raise BadRequestError(f"field name {text!r} holds _")
        return f"HTTP_{text}" if trusted or self._map == "dangerous" else ""

    def _learn(self, name: bytes) -> str:
        """Return the environ key for a field name; empty for a name that is left out.

        A name with "_" would land on the same key as its twin with "-", and could speak
        for it; ``Proxy`` would become HTTP_PROXY, which HTTP clients of the application
        take for their own configuration.
        """
        text = name.decode("latin-1").upper()
        if text == "PROXY" or ("_" in text and self._map != "dangerous"):
            key = ""
        elif text in self._forwarder:
            # Whose it is decides, request by request.
            key = ""
        elif text in ("CONTENT-TYPE", "CONTENT-LENGTH"):
            key = text.replace("-", "_")
        elif text in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            # Framing is never a matter of trust.
            key = ""
        else:
            key = "HTTP_" + text.replace("-", "_")
        if len(name) <= _LEARN_MAX_BYTES and len(self._keys) < _LEARN_MAX:
            self._keys[name] = key
        return key


class ClientEnvironBuilder(EnvironBuilder):
    """Builds environs whose REMOTE_ADDR is the client that trusted proxies name."""

    __slots__ = ("_finder",)

    def __init__(
        self,
        server_name: str,
        server_port: str,
        multithread: bool,
        multiprocess: bool,
        fields: FieldTrust,
        *,
        hops: TrustedPeers,
        finder: ClientFinder,
        scheme: str = "http",
        file_wrapper: type[FileWrapper] = FileWrapper,
    ) -> None:
        super().__init__(
            server_name,
            server_port,
            multithread,
            multiprocess,
            fields,
            hops=hops,
            scheme=scheme,
            file_wrapper=file_wrapper,
        )
        self._finder = finder

    def build(
        self,
        head: RequestHead,
        body: IO[bytes],
        body_length: int,
        peer: tuple[str, str],
        trusted: bool,
    ) -> dict[str, Any]:
        """See `EnvironBuilder.build`."""
        environ = super().build(head, body, body_length, peer, trusted)
        if trusted:
            text = environ.get(self._finder.key)
            if text is not None:
                client = self._finder.find(text, peer)
                environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = client
        return environ


def _believe(key: str, text: str, said: dict[str, str], environ: dict[str, Any]) -> None:
    """Note what a trusted proxy says in a name with "_".

    Apart from the rest, as it is to stand in the place of a twin with "-": that is a client's.
    """
    if key == "HTTP_SCRIPT_NAME":
        mount = text.rstrip("/")
        if key in said and mount != environ["SCRIPT_NAME"]:
            raise BadRequestError("several SCRIPT_NAME contradict each other")
        environ["SCRIPT_NAME"] = mount
    said[key] = f"{said[key]},{text}" if key in said else text


class _ErrorStream:
    """wsgi.errors: whatever sys.stderr is at the moment of the write."""

    __slots__ = ()

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def writelines(self, lines: list[str]) -> None:
        sys.stderr.writelines(lines)

    def flush(self) -> None:
        sys.stderr.flush()
