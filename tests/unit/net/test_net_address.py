"""Bind addresses as users write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gthreadsrv.net.address import FdAddress, TcpAddress, UnixAddress, parse_bind


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8000", TcpAddress("127.0.0.1", 8000)),
        ("127.0.0.1", TcpAddress("127.0.0.1", 8000)),
        ("LocalHost:80", TcpAddress("localhost", 80)),
        ("my_app.internal:81", TcpAddress("my_app.internal", 81)),
        (":9000", TcpAddress("0.0.0.0", 9000)),
        ("*:9000", TcpAddress("0.0.0.0", 9000)),
        ("tcp://10.0.0.1:99", TcpAddress("10.0.0.1", 99)),
        ("[::1]:8080", TcpAddress("::1", 8080)),
        ("[::]", TcpAddress("::", 8000)),
        ("::1", TcpAddress("::1", 8000)),
        ("[fe80::1%eth0]:1", TcpAddress("fe80::1%eth0", 1)),
        (" 127.0.0.1:0 ", TcpAddress("127.0.0.1", 0)),
        ("unix:/run/app.sock", UnixAddress("/run/app.sock")),
        ("unix:app.sock", UnixAddress("app.sock")),
        ("unix:///run/app.sock", UnixAddress("/run/app.sock")),
        ("unix:@app", UnixAddress("\0app")),
        ("fd://3", FdAddress(3)),
    ],
)
def test_reads_every_form(text: str, address: object) -> None:
    """Each documented form names the address it seems to name."""
    assert parse_bind(text) == address


@pytest.mark.parametrize(
    ("text", "needle"),
    [
        ("", "empty"),
        ("127.0.0.1:http", "'http' is not a port"),
        ("127.0.0.1:65536", "0 to 65535"),
        ("127.0.0.1:-1", "'-1' is not a port"),
        ("127.0.0.1:", "'' is not a port"),
        ("127.0.0.1:٣", "is not a port"),
        ("a b:80", "is not a host"),
        ("-x:80", "is not a host"),
        ("http://localhost", "is not a port"),
        ("[::1:80", "[::1]:8000"),
        ("[::1]80", "[::1]:8000"),
        ("[zz]:80", "not an IPv6 address"),
        ("1:2:3", "not an IPv6 address"),
        ("unix:", "needs a path"),
        ("unix:@", "needs a path"),
        ("unix:///", "needs a path"),
        ("unix:/a\0b", "NUL"),
        ("unix:/" + "x" * 107, "107 bytes"),
        ("fd://", "write fd://3"),
        ("fd://-1", "write fd://3"),
        ("fd://9999999999", "write fd://3"),
    ],
)
def test_says_what_is_wrong(text: str, needle: str) -> None:
    """A wrong address is refused with the part that is wrong, or what would be right."""
    with pytest.raises(ValueError, match=r".") as caught:
        parse_bind(text)
    assert needle in str(caught.value)
    assert "\n" not in str(caught.value)


@given(
    st.one_of(
        st.builds(TcpAddress, st.ip_addresses(v=4).map(str), st.integers(0, 65535)),
        st.builds(TcpAddress, st.ip_addresses(v=6).map(str), st.integers(0, 65535)),
        st.builds(FdAddress, st.integers(0, 999_999_999)),
        st.text(st.characters(codec="ascii", exclude_characters="\0/@ ", categories=["L", "N"]),
                min_size=1, max_size=40).map(UnixAddress),
        st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=40)
        .map(lambda name: UnixAddress("\0" + name)),
    )
)  # fmt: skip
def test_canonical_text_names_the_same_address(address: TcpAddress | UnixAddress) -> None:
    """What an address prints as is read back as that address."""
    assert parse_bind(str(address)) == address


@given(st.text(max_size=60))
def test_any_text_gives_an_address_or_a_value_error(text: str) -> None:
    """No text raises anything but ValueError, and what is accepted is stable."""
    try:
        address = parse_bind(text)
    except ValueError:
        return
    assert parse_bind(str(address)) == address
