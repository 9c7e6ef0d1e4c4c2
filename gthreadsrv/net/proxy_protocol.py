"""The PROXY protocol, versions 1 and 2: a header in front of a connection's first byte.

A proxy that passes a connection on says in it whose connection it was (HAProxy's
proxy-protocol.txt; section numbers below are that document's).  Bytes in, an address out: a
state machine without I/O.  What becomes of a connection without a header, and who may send
one, is decided by the worker.
"""

from __future__ import annotations

import enum
import socket
import struct
from functools import cache
from typing import Final

__all__ = ["MAX_HEADER_BYTES", "HeaderError", "HeaderReader", "Source"]

Source = tuple[str, str]
"""A client's address and port; both empty for one on a unix socket of the proxy's."""

MAX_LINE_BYTES: Final = 107
"""Section 2.1: the longest line of version 1, its CRLF included."""

MAX_HEADER_BYTES: Final = 4096
"""Of version 2.  The format goes to 64 KiB; what proxies send fits into a tenth of this."""

_LINE_START: Final = b"PROXY "
_SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
_FIXED_BYTES: Final = 16

# Section 2.2: the family and transport byte, the length of both addresses and both ports.
_UNSPEC: Final = 0x00
_ADDRESS_BYTES: Final = {0x11: 12, 0x21: 36, 0x31: 216}
_FAMILIES: Final = {0x11: socket.AF_INET, 0x21: socket.AF_INET6}
_TLV_CRC32C: Final = 0x03


class HeaderError(ValueError):
    """This is no PROXY header, or not one that is taken; `str()` says why."""


class _State(enum.Enum):
    START = enum.auto()  # either version may come of it
    LINE = enum.auto()  # version 1, up to its LF
    FIXED = enum.auto()  # version 2, up to its length
    REST = enum.auto()  # version 2, as long as it said
    DONE = enum.auto()


class HeaderReader:
    """Reads one header, however its bytes come."""

    __slots__ = ("_held", "_state", "_versions", "_wanted", "source")

    def __init__(self, versions: frozenset[int]) -> None:
        """Take these versions: 1, 2 or both."""
        self._versions = versions
        self._held = bytearray()
        self._state = _State.START
        self._wanted = 0
        self.source: Source | None = None
        """Whose connection it is; None: the proxy's own, a health check for instance."""

    @property
    def done(self) -> bool:
        """Whether the header is whole."""
        return self._state is _State.DONE

    @property
    def started(self) -> bool:
        """Whether part of it has come."""
        return bool(self._held)

    def feed(self, data: bytes) -> int:
        """Take what belongs to the header from the front of ``data``; return how many bytes.

        Raises HeaderError as soon as it is certain, and is unusable after that.
        """
        taken = 0
        while taken < len(data) and self._state is not _State.DONE:
            taken += self._step(data, taken)
        return taken

    def _step(self, data: bytes, at: int) -> int:
        held = self._held
        if self._state is _State.START:
            held.append(data[at])
            self._start(bytes(held))
            return 1
        if self._state is _State.LINE:
            room = MAX_LINE_BYTES - len(held)
            end = data.find(b"\n", at, at + room)
            piece = data[at : end + 1 if end >= 0 else at + room]
            held += piece
            if end >= 0:
                self._end_line(bytes(held))
            elif len(held) == MAX_LINE_BYTES:
                raise HeaderError(f"PROXY line longer than {MAX_LINE_BYTES} bytes")
            return len(piece)
        piece = data[at : at + self._wanted - len(held)]
        held += piece
        if len(held) == self._wanted:
            if self._state is _State.FIXED:
                self._begin_rest(bytes(held))
            if len(held) == self._wanted:
                self._end_binary(bytes(held))
        return len(piece)

    def _start(self, held: bytes) -> None:
        if _LINE_START.startswith(held):
            if held == _LINE_START:
                self._allow(1)
                self._state = _State.LINE
        elif _SIGNATURE.startswith(held):
            if held == _SIGNATURE:
                self._allow(2)
                self._state, self._wanted = _State.FIXED, _FIXED_BYTES
        else:
            raise HeaderError("connection does not begin with a PROXY header")

    def _allow(self, version: int) -> None:
        if version not in self._versions:
            raise HeaderError(f"PROXY header of version {version}, which is not taken here")

    def _finish(self, source: Source | None) -> None:
        self.source = source
        self._state = _State.DONE

    # -- version 1 ----------------------------------------------------------------------

    def _end_line(self, line: bytes) -> None:
        if not line.endswith(b"\r\n"):
            raise HeaderError("PROXY line does not end with CRLF")
        try:
            words = line[:-2].decode("ascii").split(" ")
        except UnicodeDecodeError:
            raise HeaderError("PROXY line is not ASCII") from None
        if words[1] == "UNKNOWN":
            # Section 2.1: whatever follows is ignored, and the real addresses count.
            self._finish(None)
            return
        family = {"TCP4": socket.AF_INET, "TCP6": socket.AF_INET6}.get(words[1])
        if family is None or len(words) != 6:
            raise HeaderError("PROXY line is not PROXY TCP4|TCP6 address address port port")
        source, _destination = _address(family, words[2]), _address(family, words[3])
        port, _destination_port = _port(words[4]), _port(words[5])
        self._finish((source, port))

    # -- version 2 ----------------------------------------------------------------------

    def _begin_rest(self, fixed: bytes) -> None:
        command, family, length = fixed[12], fixed[13], int.from_bytes(fixed[14:16], "big")
        if command >> 4 != 2:
            raise HeaderError(f"PROXY header of version {command >> 4}")
        if command & 0xF > 1:
            raise HeaderError(f"PROXY command {command & 0xF} is unknown")
        if _FIXED_BYTES + length > MAX_HEADER_BYTES:
            raise HeaderError(f"PROXY header longer than {MAX_HEADER_BYTES} bytes")
        if command & 0xF and family != _UNSPEC:
            needed = _ADDRESS_BYTES.get(family)
            if needed is None:
                raise HeaderError(f"PROXY address family {family:#04x} is not for a stream")
            if length < needed:
                raise HeaderError("PROXY header is too short for its addresses")
        self._state, self._wanted = _State.REST, _FIXED_BYTES + length

    def _end_binary(self, header: bytes) -> None:
        family = header[13]
        if header[12] & 0xF == 0 or family == _UNSPEC:
            # LOCAL may come with any family and anything behind it; none of it counts (2.2).
            self._finish(None)
            return
        _check_extensions(header, _FIXED_BYTES + _ADDRESS_BYTES[family])
        if family not in _FAMILIES:
            self._finish(("", ""))
            return
        size = 4 if family == 0x11 else 16
        address = header[_FIXED_BYTES : _FIXED_BYTES + size]
        (port,) = struct.unpack_from("!H", header, _FIXED_BYTES + 2 * size)
        self._finish((socket.inet_ntop(_FAMILIES[family], address), str(port)))


def _address(family: int, text: str) -> str:
    try:
        return socket.inet_ntop(family, socket.inet_pton(family, text))
    except (OSError, ValueError):  # the latter for a NUL byte
        raise HeaderError(f"PROXY line with the address {text!r}") from None


def _port(text: str) -> str:
    # Section 2.1: decimal, without leading zeros.
    if not text.isdigit() or (text[0] == "0" and text != "0") or int(text) > 65535:
        raise HeaderError(f"PROXY line with the port {text!r}")
    return text


def _check_extensions(header: bytes, at: int) -> None:
    """Walk the type-length-values after the addresses (2.2); nothing in them is kept."""
    while at < len(header):
        if at + 3 > len(header):
            raise HeaderError("PROXY header ends inside an extension")
        kind, length = struct.unpack_from("!BH", header, at)
        value = at + 3
        at = value + length
        if at > len(header):
            raise HeaderError("PROXY header ends inside an extension")
        if kind == _TLV_CRC32C:
            if length != 4:
                raise HeaderError("PROXY header with a checksum that is not of 4 bytes")
            zeroed = header[:value] + bytes(4) + header[at:]
            if crc32c(zeroed) != int.from_bytes(header[value:at], "big"):
                raise HeaderError("PROXY header with a wrong checksum")


def crc32c(data: bytes) -> int:
    """The checksum of RFC 4960 appendix B (Castagnoli), which zlib does not have."""
    table = _crc_table()
    crc = 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


@cache
def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
        table.append(crc)
    return tuple(table)
