"""A wall clock that is set: what that does to queue times, and what it must not."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from gthreadsrv.worker import clock as module
from gthreadsrv.worker.clock import ClockWatch
from tests.unit.worker.rig import GET

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.worker.rig import Rig

    MakeRig = Callable[..., Rig]

DAY_S = 86_400.0


class Clocks:
    """Both clocks, to be moved."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.offset = 1000.0, 1e9
        monkeypatch.setattr(module, "monotonic", lambda: self.now)
        monkeypatch.setattr(module, "time", lambda: self.now + self.offset)


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    return Clocks(monkeypatch)


@pytest.mark.parametrize("step", [DAY_S, -DAY_S, 2.0])
def test_a_step_spoils_what_came_before_it(clocks: Clocks, step: float) -> None:
    """Until the next beat everything odd, then all that would have come before the step."""
    watch = ClockWatch()
    assert not watch.spoils(3.0)
    clocks.offset += step
    assert watch.spoils(3.0)
    clocks.now += 1.0
    watch.sample()
    assert watch.spoils(DAY_S)
    assert watch.spoils(-DAY_S)
    clocks.now += 5.0
    watch.sample()
    assert watch.spoils(DAY_S)
    assert not watch.spoils(3.0)


def test_a_clock_that_is_slewed_spoils_nothing(clocks: Clocks) -> None:
    """Half a millisecond a second is the most that NTP does."""
    watch = ClockWatch()
    for _ in range(10):
        clocks.now += 1.0
        clocks.offset += 0.0005
        assert not watch.spoils(3.0)
        watch.sample()


@pytest.mark.parametrize("step_s", [DAY_S, -DAY_S])
def test_a_request_under_way_when_the_clock_is_set(
    make_rig: MakeRig, monkeypatch: pytest.MonkeyPatch, step_s: float
) -> None:
    """The step is no part of its queue time, which user space measures then."""
    rig = make_rig(tcp=True)
    for _ in range(2):  # timestamps are switched on by their first user
        assert rig.exchange(GET).endswith(b"hello")
    monkeypatch.setattr(
        "gthreadsrv.worker.service.time_ns", lambda: time.time_ns() + int(step_s * 1e9)
    )
    monkeypatch.setattr(module, "time", lambda: time.time() + step_s)
    assert rig.exchange(GET).endswith(b"hello")

    assert all(0.0 <= queue[0] < 5.0 for queue in rig.fleet().queue.values())
