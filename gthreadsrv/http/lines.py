"""One line at a time: cutting lines out of a stream, and reading the two kinds a head has.

The slow and exact half of parsing, plain enough to check against the RFC by eye. It serves
heads that come in pieces, chunked bodies and trailers, and it decides the status of every
refusal; a whole head that is fine never comes here on the fast parser.

Used by whichever worker thread holds the connection. No field has a meaning here: giving
them one is the business of `screen`.
"""

from __future__ import annotations

from gthreadsrv.http.errors import BadRequestError
from gthreadsrv.http.grammar import BLANKS, FIELD_LINE, METHODS, TARGET, TOKEN_ONLY, VERSION
from gthreadsrv.http.target import split_target

_CR, _LF = 13, 10


class LineTooLongError(Exception):
    """A line passed its limit; the caller knows what kind it was and which status that is."""


class LineReader:
    """Takes CRLF-ended lines out of a stream that is cut anywhere.

    A verdict depends on the bytes alone, never on how they were cut, and comes with the first
    byte that makes it certain. A byte is looked at a few times at most, whatever came before it.
    """

    __slots__ = ("_ends_in_cr", "_held")

    def __init__(self) -> None:
        self._held = bytearray()  # the line so far, without a CR that may belong to its end
        self._ends_in_cr = False

    @property
    def started(self) -> bool:
        """Whether part of a line is held."""
        return self._ends_in_cr or bool(self._held)

    def hold(self, data: bytes, limit: int) -> bool:
        """Whether these bytes were plainly the middle of a line, and are held now.

        The cheap way for clients that send a line in many small pieces; `take` decides the
        rest.
        """
        held = self._held
        if (
            held
            and not self._ends_in_cr
            and len(held) + len(data) <= limit
            and _CR not in data
            and _LF not in data
        ):
            held += data
            return True
        return False

    def take(self, data: bytes, position: int, limit: int) -> tuple[bytes | None, int]:
        """Read on from `position`: the line without its end, or None if that has not come.

        Also gives the position of the first byte not taken. `limit` must be the same for all
        parts of a line. A bare CR or LF is refused, whatever RFC 9112 2.2 lets a server do:
        what one reader of a chain takes for a line end and another does not is how requests
        are smuggled.
        """
        held = self._held
        if self._ends_in_cr:
            if data[position] != _LF:
                raise BadRequestError("bare CR")
            self._ends_in_cr = False
            line = bytes(held)
            held.clear()
            return line, position + 1
        # Not a byte further than a line within its limit could reach.
        horizon = min(len(data), position + limit - len(held) + 1)
        end = data.find(_CR, position, horizon)
        stop = end if end >= 0 else horizon
        newline = data.find(_LF, position, stop)
        if newline >= 0:
            raise BadRequestError("line ended by a bare LF")
        if len(held) + stop - position > limit:
            raise LineTooLongError
        if end >= 0 and end + 1 < len(data):
            if data[end + 1] != _LF:
                raise BadRequestError("bare CR")
            if not held:
                return data[position:end], end + 2
            held += data[position:end]
            line = bytes(held)
            held.clear()
            return line, end + 2
        held += data[position:stop]
        self._ends_in_cr = end >= 0
        return None, len(data)


def read_request_line(line: bytes) -> tuple[str, str, int]:
    """Method, target and minor version; refuses what is malformed or not served."""
    parts = line.split(b" ")
    if len(parts) != 3:
        # Two parts are HTTP/0.9; more come from blanks in the target or between the parts.
        raise BadRequestError("request line is not method, target and version, one space apart")
    method, target, version = parts
    if not TOKEN_ONLY.fullmatch(method):
        raise BadRequestError("method is not a token")
    if not TARGET.fullmatch(target):
        raise BadRequestError("target is empty, has a fragment or a byte that is not visible ASCII")
    match = VERSION.fullmatch(version)
    if match is None:
        raise BadRequestError("malformed HTTP version")
    major, minor = match.groups()
    if major == b"0":
        raise BadRequestError("HTTP/0.9 is not served")
    if major != b"1" or minor not in b"01":
        # Also the preface of HTTP/2 with prior knowledge (RFC 9113 3.4).
        raise BadRequestError(f"{version.decode('ascii')} is not served", 505)
    name = method.decode("ascii")
    if name not in METHODS:
        raise BadRequestError(f"method {name[:32]} is not served", 501)
    text = target.decode("ascii")
    split_target(name, text)
    return name, text, int(minor)


def read_field(line: bytes) -> tuple[bytes, bytes]:
    """Name and value of a field line; says what is wrong with one that is none."""
    match = FIELD_LINE.fullmatch(line)
    if match is not None:
        name, value = match.groups()
        return name, value.strip(BLANKS)
    if line[:1] in (b" ", b"\t"):
        raise BadRequestError("folded field line")
    name, colon, _ = line.partition(b":")
    if not colon:
        raise BadRequestError("field line without a colon")
    if not TOKEN_ONLY.fullmatch(name):
        if name.rstrip(BLANKS) != name:
            raise BadRequestError("blank before the colon of a field line")
        raise BadRequestError("field name is not a token")
    raise BadRequestError("control byte in a field value")
