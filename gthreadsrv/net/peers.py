"""Which peers are believed: the addresses and networks of a setting, and `*`.

Asked once for a connection, when it is accepted, and for the hops that a trusted proxy names.
No I/O.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["TrustedPeers"]

_KNOWN_MAX: Final = 1024


class TrustedPeers:
    """The peers of one setting."""

    __slots__ = ("_everyone", "_known", "_networks")

    def __init__(self, entries: Sequence[str]) -> None:
        self._everyone = "*" in entries
        self._networks = [
            ipaddress.ip_network(entry, strict=False) for entry in entries if entry != "*"
        ]
        self._known: dict[str, bool] = {}

    def includes(self, address: str) -> bool:
        """Say whether ``address`` may be believed; a unix socket's peer always may."""
        return self._everyone or not address or self._named(address)

    def is_proxy(self, address: str) -> bool:
        """Say whether ``address`` is one of the proxies that were named; remembered.

        `*` names none: it says that whoever connects is believed, not that every address on
        the way is a proxy's.
        """
        known = self._known.get(address)
        if known is None:
            if len(self._known) >= _KNOWN_MAX:
                self._known.clear()
            known = self._known[address] = self._named(address)
        return known

    def _named(self, address: str) -> bool:
        try:
            ip = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return False
        if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        return any(ip.version == network.version and ip in network for network in self._networks)
