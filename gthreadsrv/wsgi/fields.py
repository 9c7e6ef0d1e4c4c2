"""What a trusted proxy's fields do to a request: scheme, client address, SCRIPT_NAME.

Who is trusted was decided when the connection was accepted; here it is only used.  No I/O.
Runs in the thread that serves the request, for peers that are trusted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from gthreadsrv.http.errors import BadRequestError
from gthreadsrv.http.forwarded import HOPS_MAX, Hop, forwarded_for_hops, forwarded_hops, node

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gthreadsrv.http.request import RequestHead
    from gthreadsrv.net.peers import TrustedPeers

__all__ = ["ClientFinder", "FieldTrust", "SchemeFinder", "below", "mount_of"]

_KNOWN_MAX: Final = 1024
_KNOWN_MAX_BYTES: Final = 256
"""Of a field that is remembered: one may be as long as a head."""
_SCHEMES: Final = frozenset({"http", "https"})


@dataclass(frozen=True, slots=True)
class FieldTrust:
    """The settings about fields and whom to believe them."""

    header_map: str = "drop"
    forwarder_headers: tuple[str, ...] = ("SCRIPT_NAME", "PATH_INFO")
    secure_scheme_headers: tuple[tuple[str, str], ...] = (
        ("X-FORWARDED-PROTOCOL", "ssl"),
        ("X-FORWARDED-PROTO", "https"),
        ("X-FORWARDED-SSL", "on"),
    )
    client: str = "off"
    """The field that REMOTE_ADDR comes from: forwarded, x-forwarded-for, or off."""
    mount: str = ""
    """SCRIPT_NAME where no trusted proxy names another."""


class SchemeFinder:
    """How the client spoke to the outermost trusted proxy."""

    __slots__ = ("_exact", "_hops", "_secure", "_strict")

    def __init__(self, fields: FieldTrust, hops: TrustedPeers) -> None:
        self._secure = [
            ("HTTP_" + name.replace("-", "_"), name.lower().encode("latin-1"), word)
            for name, word in fields.secure_scheme_headers
        ]
        self._exact = fields.header_map == "dangerous"
        # The proxy is said to write Forwarded: then nothing else may contradict it.
        self._strict = fields.client == "forwarded"
        self._hops = hops

    def find(self, head: RequestHead, environ: dict[str, Any]) -> str | None:
        """Return the scheme that the fields of ``head`` name; None: they are silent.

        Raises BadRequestError when they contradict each other: one of them is a client's.
        """
        said: str | None = None
        for key, name, word in self._secure:
            value = environ.get(key)
            if value is None:
                continue
            values = [value]
            if self._exact or "," in value:
                # Line by line, and not those of a twin whose name has "_".
                values = [v.decode("latin-1") for n, v in head.headers if n.lower() == name]
            for one in values:
                scheme = "https" if one == word else "http"
                if said is not None and said != scheme:
                    raise BadRequestError("fields contradict each other about the scheme")
                said = scheme
        text = environ.get("HTTP_FORWARDED")
        if text is not None and (said is None or self._strict):
            scheme = _client_hop(forwarded_hops(text) or [], self._hops).scheme
            if scheme in _SCHEMES:
                if said is not None and said != scheme:
                    raise BadRequestError("Forwarded contradicts another field about the scheme")
                said = scheme
        return said


class ClientFinder:
    """The address of the client in front of all trusted proxies."""

    __slots__ = ("_forwarded", "_known", "_peers", "_prefaced", "key")

    def __init__(self, field: str, peers: TrustedPeers, *, prefaced: bool) -> None:
        """``prefaced``: a connection's peer is what a PROXY header said, maybe no proxy."""
        self._forwarded = field == "forwarded"
        self.key = "HTTP_FORWARDED" if self._forwarded else "HTTP_X_FORWARDED_FOR"
        """Where the field is in the environ."""
        self._peers = peers
        self._prefaced = prefaced
        self._known: dict[str, tuple[str, str] | None] = {}

    def find(self, text: str, peer: tuple[str, str]) -> tuple[str, str]:
        """Return address and port of the client; ``peer``'s own when the field has none.

        Raises BadRequestError for a Forwarded that cannot be read: a client that could make
        the rest unreadable would hide from its own address.
        """
        if self._prefaced and peer[0] and not self._peers.is_proxy(peer[0]):
            return peer
        try:
            found = self._known[text]
        except KeyError:
            found = self._read(text)
            if len(text) <= _KNOWN_MAX_BYTES:
                if len(self._known) >= _KNOWN_MAX:
                    self._known.clear()
                self._known[text] = found
        return peer if found is None else found

    def _read(self, text: str) -> tuple[str, str] | None:
        hops = forwarded_hops(text) if self._forwarded else forwarded_for_hops(text)
        if hops is None:
            raise BadRequestError("Forwarded is malformed")
        return node(_client_hop(hops, self._peers).client)


def _client_hop(hops: list[Hop], peers: TrustedPeers) -> Hop:
    """Go back from the nearest hop to the first whose client is no trusted proxy.

    What lies beyond that was written by somebody who is not trusted.  When all are proxies the
    request came from the first of them; or, of very many, from one that is near enough.
    """
    hop = Hop("")
    for hop in hops[: -HOPS_MAX - 1 : -1]:
        found = node(hop.client)
        if found is None or not peers.is_proxy(found[0]):
            break
    return hop


def mount_of(environ: Mapping[str, str]) -> str:
    """Return where the process's variables say the application is mounted, as with gunicorn.

    Empty for what is no path (PEP 3333): the settings have a warning about that.
    """
    mount = environ.get("SCRIPT_NAME", "")
    return mount.rstrip("/") if mount.startswith("/") else ""


def below(path: str, script_name: str) -> str:
    """Return what of ``path`` lies below ``script_name``; BadRequestError when it is elsewhere."""
    if path != script_name and not path.startswith(f"{script_name}/"):
        raise BadRequestError("path is not below SCRIPT_NAME")
    return path[len(script_name) :]
