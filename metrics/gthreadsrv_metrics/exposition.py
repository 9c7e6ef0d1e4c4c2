"""From families to bytes: which format a scraper gets, rendered by prometheus_client.

Pure: families and request headers in, a body and its headers out. A family of the
application that cannot be rendered is left out; it never costs the page.
"""

from __future__ import annotations

import gzip
import inspect
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

from prometheus_client.exposition import choose_encoder
from prometheus_client.openmetrics import exposition as openmetrics

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gthreadsrv_metrics.families import Family

    Encoder = Callable[[Any], bytes]

__all__ = ["Encoding", "accepts_gzip", "negotiate", "render"]

_EOF: Final = b"# EOF\n"
_OPENMETRICS: Final = "application/openmetrics-text"
# Our names are plain ASCII, for which this escaping changes nothing but does not go over
# every name character by character either: half the time of a large page.
_escapable = "escaping" in inspect.signature(openmetrics.generate_latest).parameters
_plain_openmetrics: Encoder = cast(
    "Encoder",
    partial(openmetrics.generate_latest, escaping="allow-utf-8")
    if _escapable
    else openmetrics.generate_latest,
)


class Encoding:
    """A negotiated format."""

    def __init__(self, encoder: Encoder, content_type: str) -> None:
        self.content_type = content_type
        self._openmetrics = content_type.startswith(_OPENMETRICS)
        self._app = encoder
        self._own = _plain_openmetrics if self._openmetrics else encoder

    def own(self, families: Sequence[Family]) -> bytes:
        """Render the server's families, open at the end."""
        return self._own(_Collected(families)).removesuffix(_EOF)

    def app(self, families: Sequence[Family]) -> bytes:
        """Render the application's families, open at the end."""
        return self._app(_Collected(families)).removesuffix(_EOF)

    def end(self) -> bytes:
        """Return what closes a page."""
        return _EOF if self._openmetrics else b""


class _Collected:
    """Families that were collected already, as a registry to be rendered."""

    def __init__(self, families: Sequence[Family]) -> None:
        self._families = families

    def collect(self) -> Sequence[Family]:
        """Return them."""
        return self._families


def negotiate(accept: str) -> Encoding:
    """Choose the format by a request's Accept field."""
    try:
        encoder, content_type = choose_encoder(accept)
    except Exception:  # noqa: BLE001 - it reads a stranger's text and trips over bad versions
        encoder, content_type = choose_encoder("")
    return Encoding(cast("Encoder", encoder), content_type)


def accepts_gzip(accept_encoding: str) -> bool:
    """Whether gzip may be sent (RFC 9110 section 12.5.3): named, and not with weight 0."""
    for item in accept_encoding.lower().split(","):
        coding, *parameters = (part.strip() for part in item.split(";"))
        if coding in {"gzip", "x-gzip"}:
            weights = [p[2:] for p in parameters if p.startswith("q=")]
            return not weights or any(digit in weights[0] for digit in "123456789")
    return False


def render(
    encoding: Encoding, own: Sequence[Family], app: Sequence[Family], *, compress: bool
) -> tuple[bytes, list[str]]:
    """Return the page and the names of application families that are not on it."""
    body, left_out = _render_app(encoding, app)
    page = encoding.own(own) + body + encoding.end()
    # A scrape is read once, by a neighbour: level 1 is a third of the CPU for a tenth more
    # bytes than the default.
    return (gzip.compress(page, 1, mtime=0) if compress else page), left_out


def _render_app(encoding: Encoding, families: Sequence[Family]) -> tuple[bytes, list[str]]:
    try:
        return encoding.app(families), []
    except Exception:  # noqa: BLE001 - boundary: these families come out of other people's files
        parts: list[bytes] = []
    left_out = []
    for family in families:
        try:
            parts.append(encoding.app([family]))
        except Exception:  # noqa: BLE001 - as above; the caller counts and logs it
            left_out.append(family.name)
    return b"".join(parts), left_out
