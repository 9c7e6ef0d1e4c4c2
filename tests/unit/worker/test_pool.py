"""The lead and how it changes hands: every step of it with threads that do not run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gthreadsrv.worker.connection import State
from gthreadsrv.worker.poller import READ, WRITE
from gthreadsrv.worker.pool import PACE_WEIGHT, PATIENCE_S, SLOW_S, Order, Turn
from tests.unit.worker.pool_bench import Bench, rung, stub

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gthreadsrv.worker.thread import PoolThread


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench(3)
    yield bench
    bench.close()


def test_the_first_thread_leads_and_the_others_are_parked(bench: Bench) -> None:
    """Enlisting makes one leader, whatever the order."""
    assert bench.pool.leader is bench.threads[0]
    assert bench.pool.idle == bench.threads[1:]
    assert not any(stub(thread).woken for thread in bench.threads)


def test_hand_on_starts_the_others_and_gives_the_lead_to_one_more(bench: Bench) -> None:
    """The warmest follower gets the request, the next the lead; the former leader keeps its own."""
    other = bench.connection()
    bench.pool.hand_on([other], 1.0)

    assert stub(bench.threads[2]).task is other
    assert stub(bench.threads[1]).task is Order.LEAD
    assert all(stub(thread).woken for thread in bench.threads[1:])
    assert bench.pool.leader is bench.threads[1]
    assert bench.pool.idle == []
    assert not bench.pool.saturated


def test_hand_on_to_every_follower_leaves_nobody_in_the_lead(bench: Bench) -> None:
    """With all threads in the application nobody polls, and that is counted."""
    bench.pool.hand_on([bench.connection(), bench.connection()], 10.0)

    assert bench.pool.leader is None
    assert bench.pool.saturated
    assert bench.saturated_s(12.5) == pytest.approx(2.5)


def test_the_first_thread_back_takes_a_lead_that_nobody_has(bench: Bench) -> None:
    """And ends the saturated stretch."""
    others = [bench.connection(), bench.connection()]
    bench.pool.hand_on(others, 10.0)

    assert bench.pool.settle(bench.threads[2], others[0], State.IDLE, 11.0) is Turn.LEAD
    assert bench.pool.settle(bench.threads[1], others[1], State.IDLE, 12.0) is Turn.PARK
    assert bench.pool.leader is bench.threads[2]
    assert bench.pool.idle == [bench.threads[1]]
    assert bench.saturated_s(99.0) == pytest.approx(1.0)


def test_a_leader_that_ran_its_request_inline_leads_on(bench: Bench) -> None:
    """No hand-over happens for a fast request."""
    connection = bench.connection()
    bench.pool.go_inline(5.0)
    assert bench.pool.inline_since == 5.0

    assert bench.pool.settle(bench.threads[0], connection, State.IDLE, 5.1) is Turn.LEAD
    assert bench.pool.inline_since == 0.0
    assert not any(stub(thread).woken for thread in bench.threads)


def test_a_leader_promoted_away_while_inline_parks(bench: Bench) -> None:
    """Its follower leads; it comes back as a follower and does not end the other's inline run."""
    connection = bench.connection()
    bench.pool.go_inline(5.0)
    assert bench.pool.promote(5.0 + PATIENCE_S)
    assert bench.pool.leader is bench.threads[2]
    assert stub(bench.threads[2]).task is Order.LEAD
    assert stub(bench.threads[2]).woken

    bench.pool.go_inline(6.0)
    assert bench.pool.settle(bench.threads[0], connection, State.IDLE, 6.1) is Turn.PARK
    assert bench.pool.inline_since == 6.0
    assert bench.pool.leader is bench.threads[2]


def test_promote_needs_patience(bench: Bench) -> None:
    """Nothing happens for a leader that polls, or that is inline for less than PATIENCE_S."""
    assert not bench.pool.promote(100.0)
    bench.pool.go_inline(5.0)
    assert not bench.pool.promote(5.0 + PATIENCE_S * 0.9)
    assert bench.pool.leader is bench.threads[0]


def test_promote_happens_once(bench: Bench) -> None:
    """The same slow request gives the lead away only once."""
    bench.pool.go_inline(5.0)

    assert bench.pool.promote(6.0)
    assert not bench.pool.promote(7.0)
    assert bench.pool.idle == [bench.threads[1]]


def test_promote_without_a_follower_leaves_the_lead_to_the_next_thread_back() -> None:
    """With one thread that is the same thread again."""
    bench = Bench(1)
    connection = bench.connection()
    bench.pool.go_inline(5.0)
    assert not bench.pool.promote(6.0)
    assert bench.pool.leader is None

    assert bench.pool.settle(bench.threads[0], connection, State.IDLE, 7.0) is Turn.LEAD
    assert bench.pool.leader is bench.threads[0]
    assert bench.saturated_s(99.0) == pytest.approx(2.0)
    bench.close()


def test_a_pipelined_request_stays_with_its_thread_while_somebody_polls(bench: Bench) -> None:
    """AGAIN: no hand-over for the request behind the one just served."""
    other = bench.connection()
    bench.pool.hand_on([other], 1.0)

    assert bench.pool.settle(bench.threads[2], other, State.ACTIVE, 2.0) is Turn.AGAIN
    assert other.state is State.ACTIVE
    assert not bench.pool.ready
    assert bench.pool.idle == []


@pytest.mark.parametrize("led", [True, False])
def test_a_pipelined_request_of_the_leader_queues_behind_the_others(
    bench: Bench, *, led: bool
) -> None:
    """One connection must not keep the poll from all others: its next request waits its turn."""
    connection = bench.connection()
    if led:
        bench.pool.go_inline(1.0)
    else:
        bench.pool.hand_on([bench.connection(), bench.connection()], 1.0)

    assert bench.pool.settle(bench.threads[0], connection, State.ACTIVE, 2.0) is Turn.LEAD
    assert list(bench.pool.ready) == [connection]
    assert bench.pool.leader is bench.threads[0]
    free = 1 + len(bench.pool.idle) - 1
    assert bench.pool.free_threads() == free


def test_a_thread_that_goes_on_does_not_end_saturation() -> None:
    """AGAIN frees no thread: with the leader inline all of them are still busy."""
    bench = Bench(2)
    other = bench.connection()
    bench.pool.hand_on([], 1.0)
    leader, busy = bench.pool.leader, bench.threads[0]
    assert leader is bench.threads[1]
    bench.pool.go_inline(2.0)

    assert bench.pool.settle(busy, other, State.ACTIVE, 3.0) is Turn.AGAIN
    assert bench.pool.saturated
    assert bench.saturated_s(10.0) == pytest.approx(8.0)
    bench.close()


def test_saturation_begins_with_the_last_thread_inline() -> None:
    """An inline leader with no follower parked makes all threads busy."""
    bench = Bench(2)
    bench.pool.go_inline(1.0)
    assert not bench.pool.saturated
    bench.pool.promote(2.0)
    bench.pool.go_inline(3.0)
    assert bench.pool.saturated

    # The first one comes back: not all are busy, although the leader is still inline.
    bench.pool.settle(bench.threads[0], bench.connection(), State.IDLE, 5.0)
    assert not bench.pool.saturated
    assert bench.saturated_s(50.0) == pytest.approx(2.0)
    bench.close()


def test_a_thread_coming_back_just_then_is_not_counted_as_busy(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Going inline with nobody parked looks again under the lock before it calls that saturated."""
    pool = bench.pool
    pool.hand_on([bench.connection()], 1.0)
    back = bench.threads[2]

    class Looks(list["PoolThread"]):
        """The list of parked threads; one parks between the first look at it and the second."""

        looks = 0

        def __bool__(self) -> bool:
            self.looks += 1
            found = len(self) > 0
            if self.looks == 1:
                pool.settle(back, bench.connection(), State.IDLE, 2.0)
            return found

    pool.idle = Looks()
    pool.go_inline(2.0)

    assert pool.idle == [back]
    assert not pool.saturated
    assert bench.saturated_s(50.0) == 0.0


def test_a_sleeping_watchdog_is_roused_by_the_first_inline_request(bench: Bench) -> None:
    """Nobody else would see that the leader is away; a watchdog that is awake costs nothing."""
    bench.pool.go_inline(1.0)
    assert not rung(bench.pool.watchdog_fd)
    bench.pool.settle(bench.threads[0], bench.connection(), State.IDLE, 1.1)

    bench.pool.watchdog_sleeps = True
    bench.pool.go_inline(2.0)
    assert rung(bench.pool.watchdog_fd)
    assert not bench.pool.watchdog_sleeps


def test_coming_back_wakes_a_leader_that_waits_for_a_free_thread(bench: Bench) -> None:
    """While the listeners are left alone a returning thread pokes; otherwise it does not."""
    others = [bench.connection(), bench.connection()]
    bench.pool.hand_on([others[0]], 1.0)
    bench.pool.settle(bench.threads[2], others[0], State.IDLE, 2.0)
    assert not rung(bench.pool.poke_fd)

    bench.pool.paused = True
    bench.pool.settle(bench.threads[0], others[1], State.IDLE, 2.0)
    assert rung(bench.pool.poke_fd)


def test_settle_puts_the_connection_back_into_the_poller(bench: Bench) -> None:
    """For reading, or for writing where the client has yet to take something."""
    idle, writing, gone = (bench.connection() for _ in range(3))
    for connection in (idle, writing):
        bench.peer(connection).send(b"x")
    bench.pool.go_inline(1.0)
    bench.pool.settle(bench.threads[0], idle, State.IDLE, 2.0)
    bench.pool.settle(bench.threads[0], writing, State.WRITING, 2.0)
    bench.pool.settle(bench.threads[0], gone, None, 2.0)

    assert bench.polled() == {idle.fd: READ, writing.fd: WRITE}
    assert gone.state is State.ACTIVE


def test_bytes_that_come_while_a_request_runs_are_reported_once(bench: Bench) -> None:
    """The leader takes the connection out of the poller; settle brings it back in."""
    connection = bench.connection(State.IDLE)
    bench.pool.watch(connection, 5.0)
    connection.move(State.ACTIVE)
    bench.peer(connection).send(b"x")
    assert bench.polled() == {connection.fd: READ}

    assert bench.pool.unwatch_active(connection)
    assert bench.polled() == {}
    bench.pool.settle(bench.threads[0], connection, State.IDLE, 2.0)
    assert bench.polled() == {connection.fd: READ}
    assert not bench.pool.unwatch_active(connection)
    assert bench.polled() == {connection.fd: READ}


def test_a_forgotten_connection_is_out_of_everything(bench: Bench) -> None:
    """Before its descriptor's number is free again."""
    connection = bench.connection(State.IDLE)
    bench.pool.watch(connection, 5.0)
    bench.peer(connection).send(b"x")
    bench.pool.forget(connection)

    assert bench.pool.connections == {}
    assert bench.polled() == {}
    with pytest.raises(AssertionError):
        bench.pool.forget(connection)


def test_lingering_and_sending_on_are_waits_with_a_deadline(bench: Bench) -> None:
    """Each sets its deadline and is watched for what it waits for."""
    lingering = bench.connection()
    bench.pool.linger(lingering, 7.0)
    sending = bench.connection()
    bench.pool.send_on(sending, 6.0)
    bench.pool.send_on(sending, 8.0)
    bench.peer(lingering).send(b"x")

    assert bench.polled() == {lingering.fd: READ, sending.fd: WRITE}
    assert (lingering.deadline, sending.deadline) == (7.0, 8.0)
    assert bench.pool.earliest == 6.0


@pytest.mark.parametrize("limit", [1, 3])
def test_the_request_limit_is_told_once(limit: int) -> None:
    """The watchdog is roused by the request that reaches it, and by none before or after."""
    bench = Bench(1, max_requests=limit)
    rings = []
    for _ in range(limit + 3):
        bench.pool.settle(bench.threads[0], bench.connection(), State.IDLE, 1.0)
        rings.append(rung(bench.pool.watchdog_fd))

    assert rings == [number == limit - 1 for number in range(limit + 3)]
    assert bench.pool.limit_reached
    bench.close()


def test_without_a_limit_none_is_reached(bench: Bench) -> None:
    """Counting on from -1 never meets 0."""
    for _ in range(10):
        bench.pool.settle(bench.threads[0], bench.connection(), State.IDLE, 1.0)

    assert not bench.pool.limit_reached
    assert not rung(bench.pool.watchdog_fd)


def test_pipelined_requests_count_against_the_limit() -> None:
    """Each of them, also those that a thread goes on with by itself."""
    bench = Bench(2, max_requests=3)
    other = bench.connection()
    bench.pool.hand_on([], 1.0)
    for _ in range(3):
        assert bench.pool.settle(bench.threads[0], other, State.ACTIVE, 2.0) is Turn.AGAIN

    assert bench.pool.limit_reached
    bench.close()


def test_the_pace_follows_the_application() -> None:
    """Unknown counts as slow; it becomes fast after some fast requests, and slow after one slow."""
    bench = Bench(1)
    pace_s = bench.pool.pace_s
    bench.close()
    assert pace_s > SLOW_S
    for _ in range(20):
        pace_s += (0.0001 - pace_s) * PACE_WEIGHT
    assert pace_s < SLOW_S

    pace_s += (0.1 - pace_s) * PACE_WEIGHT
    assert pace_s > SLOW_S


def test_stop_sends_parked_threads_home_and_those_that_come_later(bench: Bench) -> None:
    """Nobody stays parked for ever."""
    connection = bench.connection()
    bench.pool.hand_on([], 1.0)
    late = bench.threads[0]
    bench.pool.stop()
    assert stub(bench.threads[1]).task is Order.STOP
    assert stub(bench.threads[1]).woken
    assert bench.pool.idle == []

    assert bench.pool.settle(late, connection, None, 2.0) is Turn.PARK
    assert stub(late).task is Order.STOP
    assert stub(late).woken
    assert rung(bench.pool.watchdog_fd)


def test_wake_up_pipes_never_block_and_never_fill(bench: Bench) -> None:
    """A hundred thousand rings that nobody hears are one."""
    for _ in range(100_000):
        bench.pool.poke()
    bench.pool.rouse_watchdog()
    while rung(bench.pool.poke_fd):
        bench.pool.poked()
    bench.pool.poked()
    bench.pool.watchdog_roused()
    bench.pool.watchdog_roused()

    assert not rung(bench.pool.poke_fd)
    assert not rung(bench.pool.watchdog_fd)
