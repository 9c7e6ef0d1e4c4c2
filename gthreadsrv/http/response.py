"""The one response writer: an application's status and headers become the bytes of a head.

Bytes in, bytes out: no socket, no thread, and no clock of its own (the caller passes the
time).  Every response of the server, error answers included, gets its head here, so
framing (RFC 9112 6) is decided in a single place.  Runs in whichever thread serves.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from gthreadsrv.http import grammar

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "CHUNKED",
    "EMPTY",
    "LENGTH",
    "UNTIL_CLOSE",
    "HeadEncoder",
    "ResponseError",
    "ResponseHead",
    "phrase",
]

# How the body ends (RFC 9112 6.3).
LENGTH = 0
CHUNKED = 1
UNTIL_CLOSE = 2
EMPTY = 3

# What a response field means to the server.
_PLAIN = 0
_CONTENT_LENGTH = 1
_DATE = 2
_SERVER = 3
_CONNECTION = 4
_HOP_BY_HOP = 5

# RFC 9110 7.6.1: fields that speak about this connection are the server's to write.
_ROLES = {
    "content-length": _CONTENT_LENGTH,
    "date": _DATE,
    "server": _SERVER,
    "connection": _CONNECTION,
    "keep-alive": _HOP_BY_HOP,
    "proxy-authenticate": _PLAIN,
    "proxy-authorization": _HOP_BY_HOP,
    "proxy-connection": _HOP_BY_HOP,
    "te": _HOP_BY_HOP,
    "trailer": _HOP_BY_HOP,
    "transfer-encoding": _HOP_BY_HOP,
    "upgrade": _HOP_BY_HOP,
}

# RFC 9110 15.2: a 1xx is an announcement, and the client would go on waiting.
_STATUS = re.compile(r"[2-5][0-9][0-9](?: [\t\x20-\x7e\x80-\xff]*)?")
_NAME = re.compile(grammar.TOKEN.decode("ascii"))

# An application's vocabulary is small; a hostile one must not grow ours without end.
_LEARN_MAX = 512

# Heads of this second, kept whole: an application has few kinds of responses, and gives the
# same one to many.
_RECENT_MAX = 128
_RECENT_MAX_BYTES = 2048
_UNKEPT: dict[tuple[object, ...], ResponseHead] = {}

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class ResponseError(ValueError):
    """The application's status or headers cannot be sent; the message says what is wrong."""


@dataclass(slots=True)
class ResponseHead:
    """An encoded head and how the body after it is framed.

    Shared by responses that are alike, and changed by nobody. Not a named tuple: each of those
    reads nine of its fields, and a tuple's cost four times what a slot's do.
    """

    data: bytes
    code: int
    framing: int
    """``LENGTH``, ``CHUNKED``, ``UNTIL_CLOSE`` or ``EMPTY``."""
    length: int
    """Body bytes to send under ``LENGTH``; otherwise 0."""
    keep_alive: bool
    dropped: tuple[str, ...]
    """Hop-by-hop fields that the application set and the server did not send."""


def phrase(code: int) -> str:
    """Return the status line's ``code reason`` for ``code``."""
    try:
        return f"{code} {HTTPStatus(code).phrase}"
    except ValueError:
        return f"{code} Unknown"


def http_date(second: int) -> str:
    """Return an IMF-fixdate (RFC 9110 5.6.7); strftime would follow the locale."""
    days, rest = divmod(second, 86400)
    # Civil date from days since 1970-01-01, in the proleptic Gregorian calendar.
    shifted = days + 719468
    era, day_of_era = divmod(shifted, 146097)
    year_of_era = (
        day_of_era - day_of_era // 1460 + day_of_era // 36524 - day_of_era // 146096
    ) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    month_shifted = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * month_shifted + 2) // 5 + 1
    month = month_shifted + 3 if month_shifted < 10 else month_shifted - 9
    year = year_of_era + era * 400 + (1 if month <= 2 else 0)
    hour, rest = divmod(rest, 3600)
    minute, sec = divmod(rest, 60)
    return (
        f"{_DAYS[(days + 3) % 7]}, {day:02} {_MONTHS[month - 1]} {year} "
        f"{hour:02}:{minute:02}:{sec:02} GMT"
    )


class HeadEncoder:
    """Encodes response heads for one worker; shared by its threads.

    The learned tables are plain dicts that only gain entries; the second's date and heads are
    replaced as one tuple, so a reader sees either second whole.
    """

    __slots__ = ("_codes", "_recent", "_roles", "_server")

    def __init__(self, server: str) -> None:
        self._server = f"Server: {server}"
        self._recent: tuple[int, str, dict[tuple[object, ...], ResponseHead]] = (-1, "", {})
        self._roles: dict[str, int] = {}
        self._codes: dict[str, tuple[int, str]] = {}

    def encode(
        self,
        status: str,
        headers: Sequence[tuple[str, str]],
        second: int,
        method: str,
        minor: int,
        keep_alive: bool,
        length: int,
    ) -> ResponseHead:
        """Return the head for ``status`` and ``headers``.

        ``second`` is the wall clock's; ``length`` the body's length in bytes when
        it is known before the first byte, else -1.  Raises `ResponseError` for what must
        not reach the wire (RFC 9110 5.5: a CR, LF or NUL would split the response).
        """
        recent = self._recent
        if recent[0] != second:
            recent = self._recent = (second, f"Date: {http_date(second)}", {})
        seen = recent[2]
        wanted = (status, length, minor, keep_alive, method == "HEAD", *headers)
        try:
            known = seen.get(wanted)
        except TypeError:
            # PEP 3333 asks for tuples of strings; what else there is need not be quick.
            seen, known = _UNKEPT, None
        if known is not None:
            return known
        code, status_line = self._codes.get(status) or self._learn_code(status)
        lines = [status_line]
        declared = -1
        dated = served = False
        dropped: tuple[str, ...] = ()
        roles = self._roles
        for name, value in headers:
            role = roles.get(name)
            if role is None:
                role = self._learn_name(name)
            if role:
                if role == _CONTENT_LENGTH:
                    declared = _parse_length(value, declared)
                    continue
                if role == _DATE:
                    dated = True
                elif role == _SERVER:
                    served = True
                elif role == _CONNECTION:
                    if "close" in value.lower():
                        keep_alive = False
                    continue
                else:
                    dropped = (*dropped, name)
                    continue
            if not isinstance(value, str):
                raise ResponseError(f"header {name!r}: the value is {value!r}, not a str")
            # Not an f-string, which would ask a subclass of str for its own idea of itself.
            lines.append(name + ": " + value)

        if not dated:
            lines.append(recent[1])
        if not served:
            lines.append(self._server)

        # RFC 9110 8.6 and RFC 9112 6.3: 204 and 304 end with the head, and so does the
        # answer to HEAD, which keeps the length that GET would have.
        if code == 204:
            framing, remaining = EMPTY, 0
        elif code == 304 or method == "HEAD":
            framing, remaining = EMPTY, 0
            if declared >= 0 or (length > 0 and code != 304):
                lines.append(f"Content-Length: {declared if declared >= 0 else length}")
        elif declared >= 0 or length >= 0:
            framing, remaining = LENGTH, declared if declared >= 0 else length
            lines.append(f"Content-Length: {remaining}")
        elif minor:
            framing, remaining = CHUNKED, 0
            lines.append("Transfer-Encoding: chunked")
        else:
            framing, remaining = UNTIL_CLOSE, 0
            keep_alive = False

        if not keep_alive:
            lines.append("Connection: close")
        elif not minor:
            lines.append("Connection: keep-alive")

        expected = len(lines) + 1
        lines.append("\r\n")
        text = "\r\n".join(lines)
        if text.count("\n") != expected or text.count("\r") != expected or "\0" in text:
            raise ResponseError("a header's value holds CR, LF or NUL")
        try:
            data = text.encode("latin-1")
        except UnicodeEncodeError as error:
            raise ResponseError(
                f"a header holds {text[error.start]!r}, which is outside latin-1 (PEP 3333)"
            ) from None
        encoded = ResponseHead(data, code, framing, remaining, keep_alive, dropped)
        if seen is not _UNKEPT and len(seen) < _RECENT_MAX and len(data) <= _RECENT_MAX_BYTES:
            seen[wanted] = encoded
        return encoded

    def _learn_code(self, status: object) -> tuple[int, str]:
        if not isinstance(status, str) or not _STATUS.fullmatch(status):
            raise ResponseError(f"status {status!r} is not '<200 to 599> <reason>'")
        # RFC 9112 4: the blank after the code stays when there is no reason.
        blank = "" if len(status) > 3 else " "
        learned = int(status[:3]), f"HTTP/1.1 {status}{blank}"
        if len(self._codes) < _LEARN_MAX:
            self._codes[status] = learned
        return learned

    def _learn_name(self, name: object) -> int:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ResponseError(f"header name {name!r} is not a token (RFC 9110 5.6.2)")
        role = _ROLES.get(name.lower(), _PLAIN)
        if len(self._roles) < _LEARN_MAX:
            self._roles[name] = role
        return role


def _parse_length(value: object, before: int) -> int:
    if not isinstance(value, str) or not (value.isascii() and value.strip().isdigit()):
        raise ResponseError(f"Content-Length {value!r} is not a number of bytes")
    length = int(value)
    if before not in (-1, length):
        raise ResponseError(f"Content-Length is given twice: {before} and {length}")
    return length
