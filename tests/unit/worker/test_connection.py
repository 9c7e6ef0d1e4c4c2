"""The state table of a connection: every move, legal or not."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, cast

import pytest

from gthreadsrv.worker.connection import MOVES, Connection, State

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gthreadsrv.worker.ports import Port


class FakePort:
    """As much of a port as a connection keeps."""

    receive = None


@pytest.fixture
def connection() -> Iterator[Connection]:
    ours, theirs = socket.socketpair()
    yield Connection(ours, cast("Port", FakePort), ("192.0.2.1", "5"), 1.0, trusted=True)
    ours.close()
    theirs.close()


@pytest.mark.parametrize("start", State)
@pytest.mark.parametrize("end", State)
def test_every_pair_of_states_is_decided_by_the_table(
    connection: Connection, start: State, end: State
) -> None:
    """A move in the table is made; any other raises and leaves the state as it was."""
    connection.state = start
    if end in MOVES[start]:
        connection.move(end)
        assert connection.state is end
    else:
        with pytest.raises(AssertionError, match=f"{start.name} to {end.name}"):
            connection.move(end)
        assert connection.state is start


def test_the_table_covers_every_state() -> None:
    """No state is left out, and each but the first can be reached."""
    assert set(MOVES) == set(State)
    assert set().union(*MOVES.values()) == set(State)


def test_the_end_is_the_end() -> None:
    """Nothing leads out of CLOSED, and everything leads there."""
    assert MOVES[State.CLOSED] == frozenset()
    assert all(State.CLOSED in ends for start, ends in MOVES.items() if start is not State.CLOSED)


def test_a_shut_connection_never_speaks_again() -> None:
    """From LINGERING only CLOSED is left."""
    assert MOVES[State.LINGERING] == {State.CLOSED}


def test_no_state_leads_to_itself() -> None:
    """A move to the same state would hide that somebody forgot one."""
    assert all(state not in ends for state, ends in MOVES.items())


def test_a_new_connection_is_idle_and_knows_its_peer(connection: Connection) -> None:
    """Nothing is held for it: no buffer, no request, no outbox."""
    assert connection.state is State.IDLE
    assert connection.peer == ("192.0.2.1", "5")
    assert connection.trusted
    assert connection.fd == connection.sock.fileno()
    assert connection.wire.outbox is None
    assert connection.buffer is None
    assert connection.head is None
    assert connection.body is None
    assert connection.upload is None


def test_a_connection_has_no_dictionary(connection: Connection) -> None:
    """Ten thousand idle ones must stay small, and a mistyped name is an error."""
    with pytest.raises(AttributeError):
        connection.sate = State.CLOSED  # type: ignore[attr-defined]
