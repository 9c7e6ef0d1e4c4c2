"""How long a worker waits for a client, in one place: settings with 0 made into what it means."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gthreadsrv.settings import Settings

__all__ = ["Patience", "patience_of"]


@dataclass(frozen=True, slots=True)
class Patience:
    """Times in seconds; infinity is no limit."""

    keeps_alive: bool
    idle_s: float
    """For the next request, or the first of a new connection."""
    head_s: float
    """For a whole head, from its first byte."""
    body_s: float
    """For the next bytes of a body."""
    write_s: float
    """For a client to take more of its response."""


def patience_of(settings: Settings) -> Patience:
    """Return the times that ``settings`` stand for."""
    head_s = settings.header_timeout or inf
    return Patience(
        keeps_alive=settings.keepalive > 0,
        # Without keep-alive a new connection still has the time of a head to speak.
        idle_s=settings.keepalive or head_s,
        head_s=head_s,
        body_s=settings.body_timeout or inf,
        write_s=settings.write_timeout or inf,
    )
