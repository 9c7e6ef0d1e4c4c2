"""The fast parser: llhttp through httptools, with the few checks that it leaves out.

llhttp 9 refuses bare LF, folding, control bytes, a blank before the colon and conflicting
framing. It lets pass a second space in the request line, HTTP/0.9 and 2.0, and leaves blanks
after values; those are handled here. Whatever goes wrong, the verdict is left to `reference`,
so that it is the one h11 would have led to.

One object per worker thread. Its llhttp parser is reused while it can take another request:
making one costs 0.4 us, a tenth of parsing a head.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import httptools

from gthreadsrv.http.errors import BadRequestError, ProtocolError
from gthreadsrv.http.grammar import METHODS
from gthreadsrv.http.reference import read_head
from gthreadsrv.http.screen import screen

if TYPE_CHECKING:
    from gthreadsrv.http.limits import Limits
    from gthreadsrv.http.request import RequestHead

_HTAB = 9
_MINORS: Final = {"HTTP/1.1": 1, "HTTP/1.0": 0}


class _Events:
    """What llhttp calls while it parses: the least that will do, as each call is paid for."""

    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.unfinished: list[None] = []
        append = self.headers.append

        def on_header(name: bytes, value: bytes) -> None:
            # llhttp has refused every other byte that rstrip() takes for a blank.
            append((name, value.rstrip()))

        self.on_header = on_header
        # Takes no argument and fails on a second message in one head, which must not exist.
        self.on_message_complete = self.unfinished.pop


class HttptoolsParser:
    """A `HeadParser` on httptools."""

    __slots__ = ("_events", "_limits", "_parser")

    name = "httptools"

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._events = _Events()
        self._renew()

    def parse(self, head: bytes) -> RequestHead:
        """See `HeadParser.parse`."""
        events = self._events
        events.unfinished.append(None)
        try:
            self._parser.feed_data(head)
        except httptools.HttpParserUpgrade:
            # Never taken up, which RFC 9110 7.8 leaves to the server: a plain request.
            headers = events.headers.copy()
            self._renew()
        except Exception:  # noqa: BLE001 - the boundary to llhttp: only ProtocolError leaves here
            headers = self._parse_anew(head)
        else:
            headers = events.headers.copy()
            events.headers.clear()
            if events.unfinished:
                # It waits for a body now, which is not its business.
                self._renew()
        try:
            method, target, version = head.partition(b"\r")[0].decode("latin-1").split(" ")
            minor = _MINORS[version]
            if method in METHODS and "#" not in target:
                request = screen(method, target, minor, headers, self._limits)
                if (request.content_length >= 0 or request.chunked) and _HTAB in head:
                    # Whether llhttp took one for a blank is not to be seen from here.
                    read_head(head, self._limits)
                if not request.keep_alive:
                    # llhttp would take nothing more after `Connection: close`.
                    self._renew()
                return request
        except (ValueError, KeyError, ProtocolError):
            pass
        raise self._refusal(head, "malformed request line")

    def _renew(self) -> None:
        self._events.headers.clear()
        self._events.unfinished.clear()
        self._parser = httptools.HttpRequestParser(self._events)

    def _parse_anew(self, head: bytes) -> list[tuple[bytes, bytes]]:
        """Parse once more, to tell a bad head from a parser done with its connection.

        The latter comes of what llhttp takes for a close and `screen` does not, such as a
        Proxy-Connection field.
        """
        self._renew()
        self._events.unfinished.append(None)
        try:
            self._parser.feed_data(head)
        except httptools.HttpParserUpgrade:
            pass
        except Exception as error:
            self._renew()
            raise self._refusal(head, str(error)) from error
        headers = self._events.headers.copy()
        self._renew()
        return headers

    def _refusal(self, head: bytes, complaint: str) -> ProtocolError:
        try:
            read_head(head, self._limits)
        except ProtocolError as error:
            return error
        return BadRequestError(f"refused by llhttp: {complaint}")
