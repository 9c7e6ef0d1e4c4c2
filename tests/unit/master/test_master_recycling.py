"""Who is replaced for age or memory: one at a time, and never for nothing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gthreadsrv.master.recycling import JITTER, Recycling
from gthreadsrv.master.slots import Departure, Worker, WorkerState
from gthreadsrv.master.worker_memory import PERIOD_S, WorkerMemory

MIB = 1 << 20


def ready(number: int, at: float = 100.0, **more: object) -> Worker:
    """A worker that serves since then."""
    worker = Worker(number, 1, 1000 + number, 0, at - 1.0, WorkerState.READY, at)
    for name, value in more.items():
        setattr(worker, name, value)
    return worker


def test_off_it_wants_nothing() -> None:
    """No limit, no deadline."""
    recycling = Recycling(0.0, 0)
    assert recycling.next_deadline([ready(0)]) is None
    assert recycling.choose([ready(0)], 1e9, {1000: 1 << 50}) is None


def test_age_is_from_readiness_less_the_jitter() -> None:
    """Chance takes away up to a tenth, the same at each look."""
    for chance, ends in ((0.0, 1100.0), (1.0, 1000.0)):
        recycling = Recycling(1000.0, 0, lambda chance=chance: chance)  # type: ignore[misc]
        worker = ready(0)
        assert recycling.next_deadline([worker]) == ends
        assert recycling.choose([worker], ends - 0.01, {}) is None
        assert recycling.choose([worker], ends, {}) == (worker, "max_lifetime")
    draws = iter([0.2, 0.9, 0.5])
    recycling = Recycling(1000.0, 0, lambda: next(draws))
    fleet = [ready(0), ready(1)]
    first = recycling.next_deadline(fleet)
    assert first == recycling.next_deadline(fleet) == 100.0 + 1000.0 * (1 - 0.9 * JITTER)


def test_one_at_a_time() -> None:
    """While one is being replaced, or has not quite left, the next one waits."""
    recycling = Recycling(10.0, 100 * MIB, lambda: 0.0)
    old, other = ready(0), ready(1)
    assert recycling.choose([old, other], 500.0, {}) == (old, "max_lifetime")
    old.retire = "max_lifetime"
    assert recycling.choose([old, other], 500.0, {1001: 900 * MIB}) is None
    assert recycling.next_deadline([old, other]) is None
    old.departure, old.state = Departure("max_lifetime", 530.0), WorkerState.DRAINING
    assert recycling.choose([old, other], 500.0, {}) is None
    assert recycling.choose([other], 500.0, {}) == (other, "max_lifetime")


def test_who_leaves_anyway_is_left_alone() -> None:
    """Asked again, it would be reported again, and its deadline is past."""
    recycling = Recycling(10.0, 0, lambda: 0.0)
    asked = ready(0, retire="max_requests")
    leaving = ready(1, departure=Departure("reload", 600.0), state=WorkerState.DRAINING)
    booting = Worker(2, 1, 1002, 0, 99.0, WorkerState.BOOTING)
    assert recycling.next_deadline([asked, leaving, booting]) is None
    assert recycling.choose([asked, leaving, booting], 500.0, {}) is None


def test_the_largest_above_the_limit_goes_first() -> None:
    """By a figure that is new: an old one is another request's."""
    recycling = Recycling(0.0, 300 * MIB)
    fleet = [ready(0), ready(1), ready(2)]
    assert recycling.choose(fleet, 200.0, dict.fromkeys((1000, 1001, 1002), 100 * MIB)) is None
    held = {1000: 310 * MIB, 1001: 400 * MIB, 1002: 299 * MIB}
    assert recycling.choose(fleet, 205.0, held) == (fleet[1], "max_rss")
    assert recycling.choose(fleet, 205.1, {}) is None


def test_a_limit_below_what_a_new_worker_holds_replaces_nobody() -> None:
    """It would go on for ever."""
    recycling = Recycling(0.0, 50 * MIB)
    worker = ready(0)
    assert recycling.choose([worker], 101.0, {1000: 80 * MIB}) is None
    assert recycling.choose([worker], 106.0, {1000: 90 * MIB}) is None
    assert not recycling.may_shrink(worker)
    assert recycling.choose([ready(1)], 107.0, {1001: 40 * MIB}) is None
    assert recycling.choose([ready(1)], 112.0, {1001: 90 * MIB}) is not None


def test_other_limits_do_not_make_it_forget_how_a_worker_began() -> None:
    """As after a reload that was refused: the same limits again, and the same workers."""
    recycling = Recycling(100.0, 50 * MIB, lambda: 0.0)
    worker = ready(0)
    recycling.choose([worker], 101.0, {1000: 40 * MIB})
    recycling.adopt(100.0, 60 * MIB)
    assert recycling.choose([worker], 106.0, {1000: 70 * MIB}) == (worker, "max_rss")
    recycling.adopt(50.0, 0)
    assert recycling.next_deadline([worker]) == 150.0


@given(
    st.lists(st.tuples(st.floats(0, 50), st.booleans()), min_size=1, max_size=8), st.floats(0, 200)
)
def test_a_deadline_is_when_there_is_something_to_do(
    made: list[tuple[float, bool]], now: float
) -> None:
    """So the master neither spins nor oversleeps."""
    recycling = Recycling(60.0, 0)
    fleet = [
        ready(number, at, retire="max_requests" if asked else None)
        for number, (at, asked) in enumerate(made)
    ]
    deadline = recycling.next_deadline(fleet)
    chosen = recycling.choose(fleet, now, {})
    assert (chosen is not None) == (deadline is not None and deadline <= now)


def test_memory_is_asked_for_at_a_slow_pace() -> None:
    """New ones at once, each again after the period, those that are gone no more."""
    asked: list[int] = []

    def read(pid: int) -> int | None:
        asked.append(pid)
        return None if pid == 3 else pid * MIB

    memory = WorkerMemory(read)
    assert memory.next_deadline() is None
    assert memory.largest == 0
    assert memory.look([1, 2, 3], 10.0) == {1: MIB, 2: 2 * MIB}
    assert memory.look([1, 2, 3], 10.0 + PERIOD_S - 0.01) == {}
    assert memory.look([1, 2, 3, 4], 10.0 + PERIOD_S - 0.01) == {4: 4 * MIB}
    assert memory.largest == 4 * MIB
    assert memory.next_deadline() == 10.0 + PERIOD_S
    assert memory.look([1], 10.0 + PERIOD_S) == {1: MIB}
    assert memory.largest == MIB
    assert asked == [1, 2, 3, 4, 1]
