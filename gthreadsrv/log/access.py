"""The access log: one line a response, written by the thread that served it.

On the path of every request when it is switched on, so a JSON line is one f-string of
texts escaped in C, its time formatted once a second, and one write(2). No field a client
sends can end the line or a JSON string. Opened by the master, inherited by workers; holds
no lock. Only what the formats need is looked at; credentials never are.
"""

from __future__ import annotations

import os
from json.encoder import encode_basestring_ascii
from typing import TYPE_CHECKING

from gthreadsrv.log.atoms import COMBINED, Headers, Record, compile_format
from gthreadsrv.log.logfile import PIPE_WHOLE_BYTES, LogFile
from gthreadsrv.log.render import iso_time

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

# Of a client's texts, on a pipe, so that the longest line stays in one piece: six bytes a
# character at worst, five such texts, and the rest of a line.
_SHORT = 96

_NULL = "null"

# Field names as clients spell them, each to its place in a line; others are looked up once.
_WANTED = {b"referer": 1, b"user-agent": 2, b"x-forwarded-for": 3}
_PLACES_MAX = 1024


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
        *,
        remote_addr: str,
        method: str,
        target: str,
        version_minor: int,
        status: int,
        bytes_sent: int,
        duration_s: float,
        started_wall: float,
        headers: Headers,
        request_id: str,
        trace_id: str,
        response_headers: Sequence[tuple[str, str]] = (),
        environ: Mapping[str, object] | None = None,
    ) -> None:
        """Write one line. Never raises for a client's bytes or a full disk; see `lost`.

        `method` and `target` are as sent, empty where no request could be read. The last
        two are looked at only by formats with `%({name}o)s` and `%({name}e)s`.
        """
        if self._render is not None:
            line = self._render(
                Record(
                    remote_addr, method, target, version_minor, status, bytes_sent, duration_s,
                    started_wall, headers, request_id, trace_id, response_headers, environ or {},
                )
            )  # fmt: skip
            if len(line) >= PIPE_WHOLE_BYTES and not self.file.whole_lines:
                line = line[: PIPE_WHOLE_BYTES - 1]
            self._write(f"{line}\n")
            return
        text = encode_basestring_ascii
        referer = agent = forwarded = _NULL
        find = self._places.get
        for name, value in headers:
            # Most fields are known and not wanted: one look-up and one test for those.
            place = find(name, -1)
            if place:
                if place < 0:
                    place = self._learn(name)
                if place == 1:
                    referer = text(value.decode("latin-1"))
                elif place == 2:
                    agent = text(value.decode("latin-1"))
                elif place == 3:
                    forwarded = text(value.decode("latin-1"))
        second = int(started_wall)
        stamp = self._stamp
        if stamp[0] != second:
            # Replaced as one object, so that threads see a second with its own text.
            self._stamp = stamp = (second, iso_time(second)[:-5])
        line = (
            f'{{"time":"{stamp[1]}.{int((started_wall - second) * 1000):03d}Z"'
            f',"level":"info","event":"request"'
            f',"remote_addr":{text(remote_addr)},"method":{text(method)},"target":{text(target)}'
            f',"protocol":"HTTP/1.{version_minor}","status":{status},"bytes":{bytes_sent}'
            f',"duration":{duration_s:.6f},"referer":{referer},"user_agent":{agent}'
            f',"forwarded_for":{forwarded},"request_id":{text(request_id) if request_id else _NULL}'
            f',"trace_id":{text(trace_id) if trace_id else _NULL},"pid":{os.getpid()}}}\n'
        )
        if len(line) > PIPE_WHOLE_BYTES and not self.file.whole_lines:
            # Cut texts give a line that fits, so this is one step deep.
            self.log(
                remote_addr=remote_addr,
                method=method[:_SHORT],
                target=target[:_SHORT],
                version_minor=version_minor,
                status=status,
                bytes_sent=bytes_sent,
                duration_s=duration_s,
                started_wall=started_wall,
                headers=[(name, value[:_SHORT]) for name, value in headers],
                request_id=request_id,
                trace_id=trace_id,
            )
            return
        self._write(line)

    def _write(self, line: str) -> None:
        try:
            os.write(self.file.fd, line.encode("ascii", "backslashreplace"))
        except OSError:  # a full disk or a closed pipe must not fail the request
            self.lost += 1

    def _learn(self, name: bytes) -> int:
        place = _WANTED.get(name.lower(), 0)
        # A client that invents names must not grow the table without end.
        if len(self._places) < _PLACES_MAX:
            self._places[name] = place
        return place

    def reopen(self) -> None:
        """Go on in a new file after log rotation; raises OSError, keeping the old one."""
        self.file.reopen()

    def close(self) -> None:
        """Close the file."""
        self.file.close()
