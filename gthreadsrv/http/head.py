"""Where a request head ends: a quick look for a whole one, a careful buffer for the rest.

Heads are cut out of the stream here, before any parser sees them, so that two parsers cannot
disagree about where one ends. Size limits are kept here too, with the bytes as they come: a
client is answered when it passes a limit, not when it has finished.

A connection uses one `HeadBuffer` for all its requests, on whichever worker thread holds it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gthreadsrv.http.errors import BadRequestError, HeadTooLargeError
from gthreadsrv.http.grammar import TOKEN_BYTES
from gthreadsrv.http.lines import LineReader, LineTooLongError, read_request_line

if TYPE_CHECKING:
    from gthreadsrv.http.limits import Limits

_CR = 13


def split_head(data: bytes, limits: Limits) -> int:
    """Length of the head that begins `data`, if all of it is there and plainly within limits.

    -1 is no verdict: give the data to a `HeadBuffer`. Most requests come in one read and are
    small enough that no single limit can be broken, which needs no look at the lines.
    """
    end = data.find(b"\r\n\r\n", 0, limits.plain_head)
    if end > 0 and data[0] != _CR:
        return end + 4
    return -1


class HeadBuffer:
    """Collects one head after the other; linear in bytes however they are cut."""

    __slots__ = ("_limit", "_limits", "_lines", "_reader", "_room", "_skipped", "rest")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._reader = LineReader()
        self.rest = b""  # what followed the head that `feed` returned last
        self._reset()

    def _reset(self) -> None:
        self._lines: list[bytes] = []
        self._limit = self._limits.line  # of the line being read
        self._room = self._limits.head
        self._skipped = False

    @property
    def started(self) -> bool:
        """Whether part of a head is held: the client has begun a request."""
        return bool(self._lines) or self._skipped or self._reader.started

    def feed(self, data: bytes) -> bytes | None:
        """The head with its last CRLF CRLF once it is whole, else None.

        Refuses as soon as it is certain: lines and heads that are too long, too many fields,
        bare CR or LF, and a request line that no further byte can mend (a client that speaks
        HTTP/0.9 or TLS would wait for an answer for ever). Unusable after that.
        """
        if self._reader.hold(data, self._limit):
            return None
        lines = self._lines
        limits = self._limits
        position = 0
        self.rest = b""
        while position < len(data):
            line, position = self._take_line(data, position)
            if line is None:
                return None
            if line:
                if not lines:
                    read_request_line(line)
                elif len(lines) > limits.fields:
                    raise HeadTooLargeError(f"more than {limits.fields} fields")
                lines.append(line)
                self._room -= len(line) + 2
                self._limit = min(limits.field_size, max(0, self._room))
            elif lines:
                self.rest = data[position:]
                lines.append(b"\r\n")
                head = b"\r\n".join(lines)
                self._reset()
                return head
            elif self._skipped:
                raise BadRequestError("more than one empty line before the request line")
            else:
                # RFC 9112 2.2: old clients send a CRLF after a body.
                self._skipped = True
        return None

    def _take_line(self, data: bytes, position: int) -> tuple[bytes | None, int]:
        begins = not self._lines and not self._reader.started
        if begins and data[position] != _CR and data[position] not in TOKEN_BYTES:
            raise BadRequestError("request does not begin with a method")
        try:
            return self._reader.take(data, position, self._limit)
        except LineTooLongError:
            limit = self._limit
            if not self._lines:
                raise HeadTooLargeError(f"request line longer than {limit} bytes", 414) from None
            if limit == self._limits.field_size:
                raise HeadTooLargeError(f"field line longer than {limit} bytes") from None
            raise HeadTooLargeError(f"head longer than {self._limits.head} bytes") from None
