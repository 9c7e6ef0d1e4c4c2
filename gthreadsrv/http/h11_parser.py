"""The reference parser: h11, always installed, ten times slower than the fast one.

h11 is given only heads that `reference` accepts, because by itself it takes bare LF, folded
lines and more. It still has the final say, and what it read is what the request is made of.
One object per worker thread; every head gets a new h11 connection, whose state machine is for
whole exchanges and would have to be told of responses otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import h11

from gthreadsrv.http.errors import BadRequestError
from gthreadsrv.http.reference import read_head
from gthreadsrv.http.screen import screen

if TYPE_CHECKING:
    from gthreadsrv.http.limits import Limits
    from gthreadsrv.http.request import RequestHead


class H11Parser:
    """A `HeadParser` on h11."""

    __slots__ = ("_limits",)

    name = "h11"

    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    def parse(self, head: bytes) -> RequestHead:
        """See `HeadParser.parse`."""
        read_head(head, self._limits)
        try:
            connection = h11.Connection(h11.SERVER)
            connection.receive_data(head)
            event = connection.next_event()
        except Exception as error:
            # The boundary to h11: whatever it raises is a refusal, and logged as one.
            raise BadRequestError(f"refused by h11: {error}") from error
        if not isinstance(event, h11.Request):
            raise BadRequestError("refused by h11: not a request")
        return screen(
            event.method.decode("ascii"),
            event.target.decode("ascii"),
            1 if event.http_version == b"1.1" else 0,
            list(event.headers.raw_items()),
            self._limits,
        )
