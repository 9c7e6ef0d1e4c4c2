"""Which peers are believed."""

from __future__ import annotations

import pytest

from gthreadsrv.net.peers import TrustedPeers


@pytest.mark.parametrize(
    ("entries", "address", "trusted"),
    [
        (("127.0.0.1",), "127.0.0.1", True),
        (("127.0.0.1",), "127.0.0.2", False),
        (("127.0.0.1",), "::1", False),
        (("127.0.0.1",), "::ffff:127.0.0.1", True),
        (("10.0.0.0/8", "192.168.0.1"), "10.255.0.7", True),
        (("10.0.0.0/8", "192.168.0.1"), "192.168.0.1", True),
        (("10.0.0.0/8", "192.168.0.1"), "11.0.0.1", False),
        (("10.1.2.3/8",), "10.9.9.9", True),
        (("fe80::/10",), "fe80::1%eth0", True),
        (("::1",), "::1", True),
        (("*",), "203.0.113.9", True),
        (("127.0.0.1", "*"), "2001:db8::1", True),
        ((), "127.0.0.1", False),
        ((), "", True),
        (("*",), "not an address", True),
        (("127.0.0.1",), "not an address", False),
    ],
)
def test_whose_word_counts(entries: tuple[str, ...], address: str, *, trusted: bool) -> None:
    """Addresses, networks of both families, mapped and scoped ones, everyone, and unix peers."""
    assert TrustedPeers(entries).includes(address) is trusted


def test_a_hop_is_a_proxy_only_when_it_was_named() -> None:
    """`*` believes every peer, but says of no address on the way that it is a proxy's."""
    peers = TrustedPeers(("*", "10.0.0.0/8"))
    assert peers.is_proxy("10.1.1.1")
    assert not peers.is_proxy("203.0.113.9")
    assert not peers.is_proxy("nonsense")
    assert not TrustedPeers(("*",)).is_proxy("127.0.0.1")


def test_remembered_hops_are_bounded() -> None:
    """Clients name as many addresses as they like."""
    peers = TrustedPeers(("10.0.0.0/8",))
    for number in range(3000):
        assert peers.is_proxy(f"10.0.{number // 256}.{number % 256}")
    assert len(peers._known) <= 1024
