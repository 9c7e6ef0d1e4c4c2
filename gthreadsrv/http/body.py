"""Request bodies: from the bytes after a head to the body's own, and where they end.

Both parsers share these decoders, so a message ends at the same byte with either. Nothing of
a body is kept here but part of a line (a chunk's size, a trailer field), which is bounded.
Used by whichever worker thread holds the connection.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, Protocol

from gthreadsrv.http.errors import BadRequestError, BodyTooLargeError, HeadTooLargeError
from gthreadsrv.http.grammar import CHUNK_EXTENSIONS, CHUNK_SIZE, NOT_IN_TRAILERS
from gthreadsrv.http.lines import LineReader, LineTooLongError, read_field

if TYPE_CHECKING:
    from gthreadsrv.http.limits import Limits
    from gthreadsrv.http.request import RequestHead

# A size and its extensions; the longest in use are signatures of some 90 bytes.
CHUNK_LINE_BYTES = 1024
# How far framing may outgrow the data it frames. Chunks of one byte are a client's right, and
# cost it 5 bytes each; one byte dressed in a kilobyte of extension is only work for us.
FREE_OVERHEAD_BYTES = 16_384
OVERHEAD_PER_BYTE = 16


class BodyDecoder(Protocol):
    """Takes a body's bytes as they come."""

    done: bool  # the body is complete
    rest: bytes  # once done: what followed it, the start of the next request
    received: int  # bytes of body so far, framing not counted

    def feed(self, data: bytes) -> list[bytes]:
        """The bytes of body among these, in pieces, perhaps none; not to be called once done."""


def make_body(head: RequestHead, limits: Limits) -> BodyDecoder | None:
    """The decoder for what follows this head, None if nothing does."""
    if head.chunked:
        return ChunkedBody(limits)
    if head.content_length > 0:
        return LengthBody(head.content_length)
    return None


class LengthBody:
    """A body of a length known beforehand (RFC 9112 6.2)."""

    __slots__ = ("_length", "done", "received", "rest")

    def __init__(self, length: int) -> None:
        self._length = length
        self.done = length == 0
        self.rest = b""
        self.received = 0

    def feed(self, data: bytes) -> list[bytes]:
        """See `BodyDecoder.feed`."""
        missing = self._length - self.received
        if len(data) < missing:
            self.received += len(data)
            return [data]
        self.received = self._length
        self.done = True
        self.rest = data[missing:]
        return [data[:missing]]


class _Expect(Enum):
    """What the next byte of a chunked body belongs to."""

    SIZE = auto()
    DATA = auto()
    DATA_END = auto()
    TRAILER = auto()


class ChunkedBody:
    """The chunked coding (RFC 9112 7.1), by the letter."""

    __slots__ = (
        "_expect",
        "_limits",
        "_missing",
        "_overhead",
        "_reader",
        "_trailer_bytes",
        "_trailers",
        "done",
        "received",
        "rest",
    )

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._reader = LineReader()
        self._expect = _Expect.SIZE
        self._missing = 0  # bytes to come of the current chunk
        self._overhead = 0  # bytes of size lines, each with its CRLF and the data's
        self._trailers = 0
        self._trailer_bytes = 0
        self.done = False
        self.rest = b""
        self.received = 0

    def feed(self, data: bytes) -> list[bytes]:
        """See `BodyDecoder.feed`; a chunk that would pass the limit is refused at its size."""
        pieces = []
        position = 0
        while position < len(data) and not self.done:
            if self._expect is _Expect.DATA:
                piece = data[position : position + self._missing]
                pieces.append(piece)
                position += len(piece)
                self.received += len(piece)
                self._missing -= len(piece)
                if not self._missing:
                    self._expect = _Expect.DATA_END
            elif self._expect is _Expect.SIZE:
                line, position = self._take(data, position, CHUNK_LINE_BYTES, "chunk size line")
                if line is not None:
                    self._begin_chunk(line)
            elif self._expect is _Expect.DATA_END:
                line, position = self._take(data, position, 0, "chunk")
                if line is not None:
                    self._expect = _Expect.SIZE
            else:
                position = self._take_trailer(data, position)
        if self.done:
            self.rest = data[position:]
        return pieces

    def _take(self, data: bytes, position: int, limit: int, what: str) -> tuple[bytes | None, int]:
        try:
            return self._reader.take(data, position, limit)
        except LineTooLongError:
            raise BadRequestError(f"{what} longer than allowed") from None

    def _begin_chunk(self, line: bytes) -> None:
        match = CHUNK_SIZE.match(line)
        if match is None:
            raise BadRequestError("chunk without a size")
        extensions = line[match.end() :]
        if extensions and not CHUNK_EXTENSIONS.fullmatch(extensions):
            raise BadRequestError("invalid chunk size or chunk extension")
        size = int(match[0], 16)
        if not size:
            self._expect = _Expect.TRAILER
            return
        self._overhead += len(line) + 4
        if self._overhead > FREE_OVERHEAD_BYTES + OVERHEAD_PER_BYTE * self.received:
            raise BadRequestError("chunks too small for their framing")
        if 0 < self._limits.body < self.received + size:
            raise BodyTooLargeError(f"chunked body is over the limit of {self._limits.body} bytes")
        self._missing = size
        self._expect = _Expect.DATA

    def _take_trailer(self, data: bytes, position: int) -> int:
        """Read a trailer field and drop it: nothing of it may reach the application's headers."""
        limits = self._limits
        room = limits.head - self._trailer_bytes
        try:
            line, position = self._reader.take(data, position, min(limits.field_size, room))
        except LineTooLongError:
            raise HeadTooLargeError("trailer section or field too long") from None
        if line:
            name, _ = read_field(line)
            if name.lower() in NOT_IN_TRAILERS:
                raise BadRequestError(f"{name.decode('ascii')[:32]} in the trailer section")
            self._trailers += 1
            self._trailer_bytes += len(line) + 2
            if self._trailers > limits.fields:
                raise HeadTooLargeError(f"more than {limits.fields} trailer fields")
        elif line is not None:
            self.done = True
        return position
