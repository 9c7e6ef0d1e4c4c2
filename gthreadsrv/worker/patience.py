"""How long a worker waits for a client, in one place: settings with 0 made into what it means."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from gthreadsrv.settings import Settings
    from gthreadsrv.worker.connection import Connection

__all__ = ["BODY_BYTES_PER_S", "Patience", "patience_of"]

BODY_BYTES_PER_S: Final = 500
"""What a body must bring on the whole, beyond the time of a head and of one pause."""


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

    def rest_by(self, connection: Connection) -> float:
        """When more of a request that has begun must have come (monotonic)."""
        body = connection.body
        if body is None:
            # From the first byte, not the last: a head sent byte by byte gains no time.
            return connection.first_read + self.head_s
        # The longest pause; and on the whole no slower than the rate, or a byte now and then
        # would hold a connection for as long as a client likes.
        whole_s = self.head_s + self.body_s + body.received / BODY_BYTES_PER_S
        return min(connection.read_at + self.body_s, connection.first_read + whole_s)


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
