"""The access log: one line a response, written by the thread that served it.

On the path of every request when it is switched on, so a JSON line is one f-string of
texts escaped in C, its time formatted once a second, and one write(2). No field a client
sends can end the line or a JSON string. Opened by the master, inherited by workers; holds
no lock. Only what the formats need is looked at; credentials never are.
"""

from __future__ import annotations

import os
from json.encoder import encode_basestring_ascii
from typing import TYPE_CHECKING, Protocol

from gthreadsrv.log.atoms import COMBINED, Headers, Record, compile_format
from gthreadsrv.log.logfile import PIPE_WHOLE_BYTES, LogFile
from gthreadsrv.log.render import iso_time

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# Of a client's texts, on a pipe, so that the longest line stays in one piece: six bytes a
# character at worst, five such texts, and the rest of a line.
_SHORT = 96

_NULL = "null"

# Field names as clients spell them, each to its place in a line; others are looked up once.
_WANTED = {b"referer": 1, b"user-agent": 2, b"x-forwarded-for": 3}
_PLACES_MAX = 1024
_PLACE_MAX_BYTES = 64


class Section(Protocol):
    """Fields that several requests have sent alike."""

    logged: str
    """What a line says of them, kept here; empty until there was one."""


class Request(Protocol):
    """What is logged of a request: an `http.request.RequestHead`."""

    method: str
    target: str
    minor: int
    headers: list[tuple[bytes, bytes]]

    @property
    def section(self) -> Section | None:
        """Where the headers are shared with other requests."""


class Response(Protocol):
    """What is logged of a response: a `wsgi.exchange.Exchange`."""

    code: int
    sent: int
    headers: list[tuple[str, str]]


class AccessLog:
    """Where responses are logged, and in what form: `json`, `combined` or a format text."""

    def __init__(self, file: LogFile, form: str) -> None:
        """ValueError when `form` is a text that is no format."""
        self.file = file
        self.unknown: tuple[str, ...] = ()
        self.lost = 0
        """Lines that could not be written."""
        self._render: Callable[[Record], str] | None = None
        if form != "json":
            text = COMBINED if form == "combined" else form
            self._render, self.unknown = compile_format(text)
        self._places = dict(_WANTED)
        self._stamp = (-1, "")

    def log(
        self,
        client: str,
        head: Request,
        response: Response,
        duration_s: float,
        started_wall: float,
        request_id: str,
        trace_id: str,
        environ: Mapping[str, object],
    ) -> None:
        """Write one line. Never raises for a client's bytes or a full disk; see `lost`.

        ``head`` holds the method and target as sent, empty where no request could be read.
        The response's headers and ``environ`` are looked at only by formats with `%({name}o)s`
        and `%({name}e)s`.
        """
        if self._render is not None:
            line = self._render(
                Record(
                    client, head.method, head.target, head.minor, response.code, response.sent,
                    duration_s, started_wall, head.headers, request_id, trace_id, response.headers,
                    environ,
                )
            )  # fmt: skip
            if len(line) >= PIPE_WHOLE_BYTES and not self.file.whole_lines:
                line = line[: PIPE_WHOLE_BYTES - 1]
            self._write(f"{line}\n")
            return
        section = head.section
        fields = "" if section is None else section.logged
        if not fields:
            fields = self._fields(head.headers)
            if section is not None:
                section.logged = fields
        second = int(started_wall)
        stamp = self._stamp
        if stamp[0] != second:
            # Replaced as one object, so that threads see a second with its own text.
            self._stamp = stamp = (second, iso_time(second)[:-5])
        millis = int((started_wall - second) * 1000)
        begin = f'{{"time":"{stamp[1]}.{millis:03d}Z","level":"info","event":"request"'
        text = encode_basestring_ascii
        end = (
            f',"request_id":{text(request_id) if request_id else _NULL}'
            f',"trace_id":{text(trace_id) if trace_id else _NULL},"pid":{os.getpid()}}}\n'
        )
        answer = (
            f',"protocol":"HTTP/1.{head.minor}","status":{response.code},"bytes":{response.sent}'
            f',"duration":{duration_s:.6f}'
        )
        asked = (
            f',"remote_addr":{text(client)},"method":{text(head.method)}'
            f',"target":{text(head.target)}'
        )
        line = f"{begin}{asked}{answer}{fields}{end}"
        if len(line) > PIPE_WHOLE_BYTES and not self.file.whole_lines:
            asked = (
                f',"remote_addr":{text(client)},"method":{text(head.method[:_SHORT])}'
                f',"target":{text(head.target[:_SHORT])}'
            )
            fields = self._fields(head.headers, _SHORT)
            line = f"{begin}{asked}{answer}{fields}{end}"
        self._write(line)

    def _fields(self, headers: Headers, most: int | None = None) -> str:
        """The part of a JSON line that is made of a request's fields, ``most`` bytes of each."""
        referer = agent = forwarded = None
        find = self._places.get
        for name, value in headers:
            # Most fields are known and not wanted: one look-up and one test for those.
            place = find(name, -1)
            if place:
                if place < 0:
                    place = self._learn(name)
                if place == 1:
                    referer = _joined(referer, value)
                elif place == 2:
                    agent = _joined(agent, value)
                elif place == 3:
                    forwarded = _joined(forwarded, value)
        return (
            f',"referer":{_quoted(referer, most)},"user_agent":{_quoted(agent, most)}'
            f',"forwarded_for":{_quoted(forwarded, most)}'
        )

    def _write(self, line: str) -> None:
        try:
            os.write(self.file.fd, line.encode("ascii", "backslashreplace"))
        except OSError:  # a full disk or a closed pipe must not fail the request
            self.lost += 1

    def _learn(self, name: bytes) -> int:
        place = _WANTED.get(name.lower(), 0)
        # A client that invents names must not grow the table without end.
        if len(name) <= _PLACE_MAX_BYTES and len(self._places) < _PLACES_MAX:
            self._places[name] = place
        return place

    def reopen(self) -> None:
        """Go on in a new file after log rotation; raises OSError, keeping the old one."""
        self.file.reopen()

    def close(self) -> None:
        """Close the file."""
        self.file.close()


def _joined(before: bytes | None, value: bytes) -> bytes:
    """What several lines of one field say (RFC 9110 5.3); a proxy may write one of its own."""
    return value if before is None else b"%b, %b" % (before, value)


def _quoted(value: bytes | None, most: int | None) -> str:
    return _NULL if value is None else encode_basestring_ascii(value[:most].decode("latin-1"))


def client_of(environ: Mapping[str, object], peer: tuple[str, str]) -> str:
    """The address that a line names: as the application has it, like gunicorn's, else the peer's.

    Whatever a middleware has put there: what is no text is not taken.
    """
    client = environ.get("REMOTE_ADDR")
    return client if isinstance(client, str) else peer[0]
