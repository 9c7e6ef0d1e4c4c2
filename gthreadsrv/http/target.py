"""Request targets and authorities: which forms are served, and what they name.

RFC 9112 3.2 has four forms. origin-form and absolute-form name a resource, asterisk-form is
for OPTIONS alone, authority-form is for CONNECT, which is never served. Pure functions on
bytes and text, for any thread.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv6Address

from gthreadsrv.http.errors import BadRequestError
from gthreadsrv.http.grammar import AUTHORITY, AUTHORITY_BYTES


# One site has a few host names and each request brings one. 256 entries of at most 261 bytes;
# the cache has its own lock, so the pool's threads may share it.
@lru_cache(maxsize=256)
def is_authority(value: bytes) -> bool:
    """Whether this is a host with an optional port, and no user information.

    The caller has checked that it is no longer than AUTHORITY_BYTES.
    """
    match = AUTHORITY.fullmatch(value)
    if match is None:
        return False
    address, port = match.groups()
    if address is not None:
        try:
            IPv6Address(address.decode("ascii"))
        except ValueError:
            return False
    return not port or int(port) <= 65535


def split_target(method: str, target: str) -> tuple[str, str, bytes | None]:
    """Path, query and, where the target has one, authority. The path is never empty."""
    if target[:1] == "/":
        path, _, query = target.partition("?")
        return path, query, None
    if target == "*":
        if method != "OPTIONS":
            raise BadRequestError("target * is for OPTIONS only")
        return target, "", None
    scheme, separator, rest = target.partition("://")
    if not separator or scheme.lower() not in ("http", "https"):
        raise BadRequestError("target is neither a path nor an http or https URI")
    rest, _, query = rest.partition("?")
    host, slash, path = rest.partition("/")
    authority = host.encode("latin-1")
    if len(authority) > AUTHORITY_BYTES or not is_authority(authority):
        raise BadRequestError("target has no valid authority")
    return slash + path or "/", query, authority
