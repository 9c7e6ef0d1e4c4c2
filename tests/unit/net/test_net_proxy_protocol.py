"""The PROXY protocol: what is a header, whose connection it says this is, and where it ends."""

from __future__ import annotations

import ipaddress
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gthreadsrv.net.proxy_protocol import (
    MAX_HEADER_BYTES,
    HeaderError,
    HeaderReader,
    Source,
    crc32c,
)

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
BOTH = frozenset({1, 2})
REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
LINE = b"PROXY TCP4 192.0.2.1 198.51.100.2 40000 443\r\n"


def header(rest: bytes = b"", *, command: int = 0x21, family: int = 0x11) -> bytes:
    """A header of version 2."""
    return SIGNATURE + bytes([command, family]) + struct.pack("!H", len(rest)) + rest


def inet(source: str = "192.0.2.1", port: int = 40000) -> bytes:
    """The address block of a connection over IPv4 or IPv6."""
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    other = "2001:db8::9" if ":" in source else "198.51.100.2"
    addresses = socket.inet_pton(family, source) + socket.inet_pton(family, other)
    return addresses + struct.pack("!HH", port, 443)


def tlv(kind: int, value: bytes) -> bytes:
    """An extension."""
    return struct.pack("!BH", kind, len(value)) + value


def checked(*extensions: bytes, wrong: int = 0) -> bytes:
    """A header over IPv4 with a checksum among its extensions."""
    before = header(inet() + tlv(3, bytes(4)) + b"".join(extensions))
    crc = struct.pack("!I", crc32c(before) ^ wrong)
    return before.replace(tlv(3, bytes(4)), tlv(3, crc), 1)


def read(data: bytes, versions: frozenset[int] = BOTH) -> tuple[Source | None, int]:
    """The source of a header and its length; the data must hold one."""
    reader = HeaderReader(versions)
    taken = reader.feed(data)
    assert reader.done, "more was expected"
    return reader.source, taken


@pytest.mark.parametrize(
    ("data", "source"),
    [
        (LINE, ("192.0.2.1", "40000")),
        (b"PROXY TCP6 2001:DB8::1 ::1 1 65535\r\n", ("2001:db8::1", "1")),
        (b"PROXY TCP6 ::ffff:192.0.2.1 ::1 0 0\r\n", ("::ffff:192.0.2.1", "0")),
        (b"PROXY UNKNOWN\r\n", None),
        (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", None),
        (b"PROXY UNKNOWN whatever it is\r\n", None),
        (b"PROXY UNKNOWN " + b"x" * 91 + b"\r\n", None),
        (header(inet()), ("192.0.2.1", "40000")),
        (header(inet("2001:db8::1", 7), family=0x21), ("2001:db8::1", "7")),
        (header(bytes(216), family=0x31), ("", "")),
        (header(b"/run/a".ljust(108, b"\0") * 2, family=0x31), ("", "")),
        (header(family=0x00), None),
        (header(b"anything at all", family=0x00), None),
        (header(command=0x20, family=0x00), None),
        (header(inet(), command=0x20), None),
        (header(b"anything at all", command=0x20, family=0xFF), None),
        # An AWS endpoint service's id, a host name, a unique id, TLS, padding.
        (header(inet() + tlv(0xEA, b"\x01vpce-08d2bf15fac5001c9")), ("192.0.2.1", "40000")),
        (header(inet() + tlv(2, b"a.test") + tlv(5, b"id") + tlv(4, b"")), ("192.0.2.1", "40000")),
        (header(inet() + tlv(0x20, b"\1\0\0\0\0" + tlv(0x21, b"TLSv1.3"))), ("192.0.2.1", "40000")),
        (header(inet() + tlv(4, bytes(MAX_HEADER_BYTES - 16 - 12 - 3))), ("192.0.2.1", "40000")),
        (checked(), ("192.0.2.1", "40000")),
        (checked(tlv(0xEA, b"\x01vpce-1")), ("192.0.2.1", "40000")),
    ],
)
def test_a_header_says_whose_connection_it_is(data: bytes, source: Source | None) -> None:
    """And takes no byte of what follows, however it comes."""
    assert read(data + REQUEST) == (source, len(data))
    bytewise = HeaderReader(BOTH)
    for number in range(len(data)):
        assert not bytewise.done
        assert bytewise.feed(data[number : number + 1]) == 1
        assert bytewise.started
    assert bytewise.done
    assert bytewise.source == source
    assert bytewise.feed(REQUEST) == 0


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (REQUEST, "does not begin"),
        (b"POST / HTTP/1.1\r\n", "does not begin"),
        (b"PROXY\r\n", "does not begin"),
        (b"proxy TCP4 1.2.3.4 1.2.3.4 1 1\r\n", "does not begin"),
        (b"\r\n\r\n\0\r\nQUIT\r", "does not begin"),
        (b"\x16\x03\x01", "does not begin"),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 1\n", "CRLF"),
        (b"PROXY \r\n", "is not PROXY"),
        (b"PROXY TCP5 1.2.3.4 1.2.3.4 1 1\r\n", "is not PROXY"),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n", "is not PROXY"),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 1 1\r\n", "is not PROXY"),
        (b"PROXY TCP4  1.2.3.4 1.2.3.4 1 1\r\n", "is not PROXY"),
        (b"PROXY TCP4 1.2.3 1.2.3.4 1 1\r\n", "address '1.2.3'"),
        (b"PROXY TCP4 1.2.3.04 1.2.3.4 1 1\r\n", "address '1.2.3.04'"),
        (b"PROXY TCP4 ::1 ::1 1 1\r\n", "address '::1'"),
        (b"PROXY TCP6 1.2.3.4 ::1 1 1\r\n", "address '1.2.3.4'"),
        (b"PROXY TCP6 fe80::1%lo ::1 1 1\r\n", "address 'fe80::1%lo'"),
        (b"PROXY TCP4 1.2.3.4 x 1 1\r\n", "address 'x'"),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 65536 1\r\n", "port '65536'"),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 01 1\r\n", "port '01'"),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 +1 1\r\n", "port '\\+1'"),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 \r\n", "port ''"),
        (b"PROXY TCP4 1.2.3.4\0 1.2.3.4 1 1\r\n", "address"),
        (b"PROXY TCP4 1.2.3.\xb2 1.2.3.4 1 1\r\n", "not ASCII"),
        (b"PROXY UNKNOWN " + b"x" * 200, "longer than 107"),
        (b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n", "longer than 107"),
        (header(inet(), command=0x11), "version 1"),
        (header(inet(), command=0x22), "command 2"),
        (header(inet(), family=0x12), "0x12 is not for a stream"),
        (header(inet(), family=0x41), "0x41 is not for a stream"),
        (header(inet()[:-1]), "too short"),
        (header(inet(), family=0x21), "too short"),
        (header(bytes(215), family=0x31), "too short"),
        (header(b"\1"), "too short"),
        (header(inet() + b"\x04"), "inside an extension"),
        (header(inet() + b"\x04\0"), "inside an extension"),
        (header(inet() + b"\x04\0\2x"), "inside an extension"),
        (header(inet() + tlv(3, b"abc")), "not of 4 bytes"),
        (checked(wrong=1), "wrong checksum"),
        (SIGNATURE + b"\x21\x11\xff\xff", "longer than 4096"),
        (SIGNATURE + b"\x20\x00\xff\xff", "longer than 4096"),
    ],
)
def test_what_is_no_header_is_refused_as_soon_as_it_is_certain(data: bytes, why: str) -> None:
    """At the same byte whether it comes at once or one by one, and never by a wait for more."""
    with pytest.raises(HeaderError, match=why):
        HeaderReader(BOTH).feed(data)
    bytewise = HeaderReader(BOTH)
    with pytest.raises(HeaderError, match=why):
        for number in range(len(data)):
            bytewise.feed(data[number : number + 1])


@pytest.mark.parametrize(("version", "data"), [(1, header(inet())), (2, LINE)])
def test_a_version_that_is_not_wanted_is_refused(version: int, data: bytes) -> None:
    """With `v1` or `v2` only that one is a header."""
    with pytest.raises(HeaderError, match="not taken here"):
        HeaderReader(frozenset({version})).feed(data)
    assert read(data, frozenset({3 - version}))[0] == ("192.0.2.1", "40000")


def test_the_checksum_is_castagnolis() -> None:
    """RFC 3720 B.4 has these values."""
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43


def test_a_header_holds_no_more_memory_than_its_bound() -> None:
    """A peer that announces much is refused before it sends it."""
    reader = HeaderReader(BOTH)
    with pytest.raises(HeaderError, match="longer than"):
        reader.feed(header(bytes(MAX_HEADER_BYTES)) + bytes(1 << 16))
    assert len(reader._held) == 16


ADDRESSES = st.one_of(
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).filter(lambda ip: ip.scope_id is None).map(str),
)
PORTS = st.integers(0, 65535)


@st.composite
def headers(draw: st.DrawFn) -> tuple[bytes, Source]:
    """A header as a proxy writes it, and whom it names."""
    source, port = draw(ADDRESSES), draw(PORTS)
    six = ":" in source
    if draw(st.booleans()):
        family, other = ("TCP6", "::1") if six else ("TCP4", "10.0.0.1")
        line = f"PROXY {family} {source} {other} {port} 80\r\n".encode()
        return line, (source, str(port))
    extensions = draw(
        st.lists(st.tuples(st.sampled_from([1, 2, 4, 5, 0x20, 0xEA]), st.binary(max_size=40)))
    )
    rest = inet(source, port) + b"".join(tlv(*one) for one in extensions)
    return header(rest[:4000] if not extensions else rest, family=0x21 if six else 0x11), (
        source,
        str(port),
    )


@given(headers(), st.lists(st.integers(0, 400), max_size=12), st.binary(max_size=40))
def test_however_a_header_is_cut_it_says_the_same(
    made: tuple[bytes, Source], cuts: list[int], behind: bytes
) -> None:
    """The address that was meant, and every byte behind the header left alone."""
    data, (address, port) = made
    stream = data + behind
    reader = HeaderReader(BOTH)
    left = b""
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    for start, end in zip(edges, edges[1:], strict=False):
        piece = stream[start:end]
        left += piece[reader.feed(piece) :]
    assert reader.done
    assert left == behind
    assert reader.source is not None
    assert ipaddress.ip_address(reader.source[0]) == ipaddress.ip_address(address)
    assert reader.source[1] == port


def outcome(pieces: list[bytes]) -> tuple[str, Source | None, int]:
    """How a stream ends: refused, whole or unfinished; with what, after how many bytes."""
    reader = HeaderReader(BOTH)
    taken = 0
    try:
        for piece in pieces:
            taken += reader.feed(piece)
    except HeaderError as error:
        return str(error), None, -1
    return "done" if reader.done else "more", reader.source, taken


@given(
    st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 1.2.3.4 ", SIGNATURE, SIGNATURE + b"\x21\x11\0"]),
    st.binary(max_size=300),
    st.lists(st.integers(0, 320), max_size=8),
)
def test_no_bytes_break_it_and_cuts_change_nothing(
    start: bytes, rest: bytes, cuts: list[int]
) -> None:
    """Whatever is sent, at once or in pieces, ends in the same way and never in another error."""
    stream = start + rest
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    pieces = [stream[a:b] for a, b in zip(edges, edges[1:], strict=False)]
    assert outcome(pieces) == outcome([stream])
