"""Two masters on the same sockets: where they stand to each other, and the line between them.

A master that gets USR2 starts a successor with the listening sockets in its hands; until one of
the two has left, both serve. They tell each other little, one byte at a time over a socket pair:
the successor that it is ready, the predecessor that it has given up the metrics port and that it
is about to leave. The end of the stream says that the other one is gone, however it went.

The state machine is pure. Runs in the master's loop; never blocks. Not here: starting a successor
(reexec), and what follows for workers, sockets and files (handover).
"""

from __future__ import annotations

import enum
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import socket

    from gthreadsrv.master.inheritance import Inheritance
    from gthreadsrv.master.switchboard import Switchboard

_RECEIVE_SIZE: Final = 64


class Standing(enum.Enum):
    """Where this master stands."""

    ALONE = "alone"
    EXPECTING = "a successor is booting"
    SUCCEEDED = "a successor serves too, and answers on the metrics port"
    HEIR = "a predecessor serves too, and answers on the metrics port"
    ENTHRONED = "a predecessor may serve too; the metrics port is ours"


class Event(enum.Enum):
    """What happened. Those with a byte are said by the other master."""

    FORKED = b""
    READY = b"R"  # the successor: a worker serves
    YIELDED = b"Y"  # the predecessor: nobody of mine answers on the metrics port any more
    LEAVING = b"L"  # the predecessor: I go, and the service manager knows you
    GONE = b"-"


TRANSITIONS: Final[dict[tuple[Standing, Event], Standing]] = {
    (Standing.ALONE, Event.FORKED): Standing.EXPECTING,
    (Standing.EXPECTING, Event.READY): Standing.SUCCEEDED,
    (Standing.EXPECTING, Event.GONE): Standing.ALONE,
    (Standing.SUCCEEDED, Event.GONE): Standing.ALONE,
    (Standing.HEIR, Event.YIELDED): Standing.ENTHRONED,
    (Standing.HEIR, Event.LEAVING): Standing.HEIR,
    (Standing.HEIR, Event.GONE): Standing.ALONE,
    (Standing.ENTHRONED, Event.LEAVING): Standing.ENTHRONED,
    (Standing.ENTHRONED, Event.GONE): Standing.ALONE,
}

_SAID: Final = {event.value: event for event in (Event.READY, Event.YIELDED, Event.LEAVING)}


class Succession:
    """This master's standing, and its end of the line. Owned by the master's only thread."""

    def __init__(self, switchboard: Switchboard, inheritance: Inheritance | None) -> None:
        """With an inheritance there is a predecessor, else nobody."""
        self._switchboard = switchboard
        self._link: socket.socket | None = None
        self.standing = Standing.ALONE
        self.other = 0  # the other master's pid
        if inheritance is not None:
            self.standing = Standing.HEIR
            self.other = inheritance.pid
            self._watch(inheritance.link)

    @property
    def shares_sockets(self) -> bool:
        """Whether another master accepts from the same listeners."""
        return self.standing is not Standing.ALONE

    @property
    def answers_metrics(self) -> bool:
        """Whether the metrics port is ours to answer on."""
        return self.standing in {Standing.ALONE, Standing.EXPECTING, Standing.ENTHRONED}

    @property
    def has_successor(self) -> bool:
        """Whether the other one is younger."""
        return self.standing in {Standing.EXPECTING, Standing.SUCCEEDED}

    def forked(self, pid: int, link: socket.socket) -> None:
        """A successor was started."""
        self._move(Event.FORKED)
        self.other = pid
        self._watch(link)

    def say(self, event: Event) -> None:
        """Tell the other master; it reads in its own time, and may be gone."""
        if self._link is not None:
            with suppress(OSError):
                self._link.send(event.value)

    def hear(self) -> list[Event]:
        """What the other master has said since last time; the standing has moved on by it."""
        link = self._link
        if link is None:
            return []
        events: list[Event] = []
        while True:
            try:
                data = link.recv(_RECEIVE_SIZE)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            if not data:
                events.append(Event.GONE)
                self._unwatch()
                break
            events += [_SAID[bytes([byte])] for byte in data]
        for event in events:
            self._move(event)
        return events

    def close_in_child(self) -> None:
        """Let go of the line: a copy kept here would hide this master's end from the other."""
        if self._link is not None:
            self._link.close()

    def _move(self, event: Event) -> None:
        self.standing = TRANSITIONS[self.standing, event]

    def _watch(self, link: socket.socket) -> None:
        link.setblocking(False)
        self._link = link
        self._switchboard.watch(link)

    def _unwatch(self) -> None:
        if self._link is not None:
            self._switchboard.unwatch(self._link)
            self._link.close()
            self._link = None
