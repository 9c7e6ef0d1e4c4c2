"""One client connection: what is known of it, and the states it may be in.

No I/O here.  A connection has one owner at a time: the leader while it waits in the
poller, the serving thread while it is ACTIVE.  Only `Connection.move` changes the state,
and only along the table.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from gthreadsrv.worker.wire import Wire

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from gthreadsrv.http.body import ChunkedBody, LengthBody
    from gthreadsrv.http.head import HeadBuffer
    from gthreadsrv.http.request import RequestHead
    from gthreadsrv.worker.pending import Pending
    from gthreadsrv.worker.ports import Port
    from gthreadsrv.worker.upload import Upload

__all__ = [
    "ACTIVE",
    "CLOSED",
    "HANDSHAKING",
    "IDLE",
    "LINGERING",
    "MOVES",
    "READING",
    "WRITING",
    "Connection",
    "State",
]


class State(IntEnum):
    """Where a connection is on its way."""

    IDLE = 0
    """Nothing of a request has come: just accepted, or kept alive."""
    READING = 1
    """Part of a request has come, or of the PROXY header before it."""
    HANDSHAKING = 2
    """A TLS handshake has begun; before its first byte a connection is IDLE like any other."""
    ACTIVE = 3
    """A thread has its request, or a request waits for a thread."""
    WRITING = 4
    """The response is made; the poller sends what the client has yet to take."""
    LINGERING = 5
    """Our side is shut; what the client still sends is thrown away (RFC 9112 9.6)."""
    CLOSED = 6


# On CPython 3.11 an enum's member is found in 175 ns, a name of the module in 15; a request
# asks for a dozen.
IDLE = State.IDLE
READING = State.READING
HANDSHAKING = State.HANDSHAKING
ACTIVE = State.ACTIVE
WRITING = State.WRITING
LINGERING = State.LINGERING
CLOSED = State.CLOSED


MOVES: dict[State, frozenset[State]] = {
    State.IDLE: frozenset(
        {
            State.READING,
            State.HANDSHAKING,
            State.ACTIVE,
            State.WRITING,
            State.LINGERING,
            State.CLOSED,
        }
    ),
    State.HANDSHAKING: frozenset({State.IDLE, State.LINGERING, State.CLOSED}),
    State.READING: frozenset(
        {State.IDLE, State.ACTIVE, State.WRITING, State.LINGERING, State.CLOSED}
    ),
    State.ACTIVE: frozenset(
        {State.IDLE, State.READING, State.WRITING, State.LINGERING, State.CLOSED}
    ),
    State.WRITING: frozenset(
        {State.IDLE, State.READING, State.ACTIVE, State.LINGERING, State.CLOSED}
    ),
    State.LINGERING: frozenset({State.CLOSED}),
    State.CLOSED: frozenset(),
}
"""The legal moves.

IDLE and READING go to WRITING when a refusal does not leave at once, READING to IDLE when what
came was a PROXY header alone.
"""

# The same as rows of flags: a set of enum members costs two Python-level hashes per look.
_LEGAL = tuple(tuple(to in MOVES[at] for to in State) for at in State)


class Connection:
    """A client connection.  Slots: ten thousand idle ones must stay small."""

    __slots__ = (
        "arrival_ns",
        "asked",
        "body",
        "buffer",
        "deadline",
        "fd",
        "first_read",
        "fresh_until",
        "head",
        "known",
        "linger_left",
        "peer",
        "pending",
        "polled",
        "port",
        "read_at",
        "receive",
        "rest",
        "sock",
        "state",
        "then_close",
        "trusted",
        "upload",
        "wire",
    )

    def __init__(
        self,
        sock: socket.socket,
        port: Port,
        peer: tuple[str, str],
        write_timeout_s: float,
        *,
        trusted: bool,
    ) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.port = port
        self.peer = peer
        self.receive: Callable[[socket.socket, int], tuple[bytes, int]] = port.receive
        self.wire = Wire(sock, write_timeout_s)
        self.trusted = trusted
        self.state = IDLE
        self.polled = False
        """Whether the poller watches it.  Guarded by the pool's lock."""
        self.deadline = 0.0
        """Monotonic instant at which its present wait has lasted too long."""
        self.fresh_until = 0.0
        """Until this instant a thread is kept for its first request; 0 when that has come."""
        self.buffer: HeadBuffer | None = None
        self.head: RequestHead | None = None
        self.asked = b""
        """All bytes of an earlier request, a head that `Recall` has told."""
        self.known: RequestHead | None = None
        """What they mean; nobody changes it."""
        self.body: LengthBody | ChunkedBody | None = None
        self.upload: Upload | None = None
        self.rest = b""
        """Bytes that came after the present request: the next, pipelined one."""
        self.arrival_ns = 0
        """Kernel's wall-clock time of the last bytes; 0 where the kernel gives none."""
        self.first_read = 0.0
        """Monotonic instant at which the first byte of the request was read."""
        self.read_at = 0.0
        """Monotonic instant of the last read."""
        self.pending: Pending | None = None
        """What is to be counted and logged once the response has left."""
        self.then_close = ""
        """Why the connection ends when its response has left; empty when it goes on."""
        self.linger_left = 0

    def move(self, state: State) -> None:
        """Go to ``state``; a move outside the table is a bug of ours."""
        if not _LEGAL[self.state][state]:
            raise AssertionError(f"connection cannot go from {self.state.name} to {state.name}")
        self.state = state
