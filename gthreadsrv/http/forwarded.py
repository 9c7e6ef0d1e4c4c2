"""What proxies say of a request's way: RFC 7239 `Forwarded`, and `X-Forwarded-For`.

Reads the two fields into hops, nearest last, as they are written.  Whether to believe them is
asked elsewhere.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final, NamedTuple

__all__ = ["HOPS_MAX", "Hop", "forwarded_for_hops", "forwarded_hops", "node"]

HOPS_MAX: Final = 64
"""The nearest hops of X-Forwarded-For that are read: each costs time, and a head has room for
thousands."""

_ELEMENTS_MAX: Final = 256
"""Of Forwarded, which must be read from its beginning. RFC 9110 5.6.1.2: empty ones are skipped,
but not so many that they deny service."""

# RFC 7239 section 4, with RFC 9110 5.6.4 for the quoted string.  A value without quotes may
# hold more than a token does: many proxies write for=192.0.2.1:80 and for=[2001:db8::1] so.
_PAIR: Final = re.compile(
    r"[ \t]*([!#$%&'*+\-.^_`|~0-9A-Za-z]+)="
    r'(?:"((?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*)"|([!#-+\--:<>-~]+))[ \t]*'
)
_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)
_IPV4: Final = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,3}){3})(?::([0-9]{1,5}|_[A-Za-z0-9._\-]+))?")
_IPV6: Final = re.compile(
    r"\[(?=[0-9A-Fa-f.]*:)([0-9A-Fa-f:.]{2,45})\](?::([0-9]{1,5}|_[A-Za-z0-9._\-]+))?"
)


class Hop(NamedTuple):
    """One proxy's word: from whom it had the request, and how."""

    client: str  # `for`, as it is written; empty when it is not said
    scheme: str = ""  # `proto` in lower case; empty when it is not said


def forwarded_hops(text: str) -> list[Hop] | None:
    """Read a Forwarded field, its lines joined by commas; None when it is malformed."""
    if text.count(",") >= _ELEMENTS_MAX:
        return None
    hops: list[Hop] = []
    pairs: dict[str, str] = {}
    at = 0
    while True:
        match = _PAIR.match(text, at)
        if match is not None:
            name = match[1].lower()
            # Section 4: each parameter at most once in an element.
            if name in pairs:
                return None
            pairs[name] = match[3] if match[2] is None else _ESCAPE.sub(r"\1", match[2])
            at = match.end()
        else:
            # RFC 9110 5.6.1: empty elements of a list are skipped.
            while at < len(text) and text[at] in " \t":
                at += 1
        if at == len(text) or text[at] == ",":
            if pairs:
                hops.append(Hop(pairs.get("for", ""), pairs.get("proto", "").lower()))
            if at == len(text):
                return hops
            pairs = {}
        elif text[at] != ";":
            return None
        at += 1


def forwarded_for_hops(text: str) -> list[Hop]:
    """Read an X-Forwarded-For field, its lines joined by commas."""
    return [Hop(part.strip(" \t")) for part in text.rsplit(",", HOPS_MAX)[-HOPS_MAX:]]


def node(text: str) -> tuple[str, str] | None:
    """Return the address and port that a hop names (RFC 7239 section 6).

    The port is empty where it is not said or hidden.  None: there is no address, since it is
    `unknown`, hidden behind an `_identifier`, or nonsense.
    """
    # X-Forwarded-For has IPv6 addresses without brackets as well.
    bare = text.count(":") > 1 and not text.startswith("[")
    match = _IPV4.fullmatch(text) or _IPV6.fullmatch(f"[{text}]" if bare else text)
    if match is None:
        return None
    try:
        address = ipaddress.ip_address(match[1])
    except ValueError:
        return None
    # A socket for both families calls IPv4 peers ::ffff:192.0.2.1; they are the same client.
    mapped = address.ipv4_mapped if address.version == 6 else None
    port = match[2] or ""
    return str(mapped or address), port if port.isdigit() and int(port) <= 65535 else ""
