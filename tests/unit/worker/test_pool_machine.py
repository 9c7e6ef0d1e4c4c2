"""Any order of the pool's steps, against a plain account of who does what."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gthreadsrv.worker.connection import Connection, State
from gthreadsrv.worker.pool import Order, Turn
from tests.unit.worker.pool_bench import Bench, stub

if TYPE_CHECKING:
    from gthreadsrv.worker.thread import PoolThread


class PoolMachine(RuleBasedStateMachine):
    """Any order of the pool's steps, against a plain account of who does what."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench(3)
        self.pool = self.bench.pool
        self.now = 1.0
        self.leading: PoolThread | None = self.bench.threads[0]
        self.inline = False
        self.busy: dict[PoolThread, Connection] = {}
        self.saturated_s = 0.0

    def pass_time(self) -> None:
        if len(self.busy) == 3:
            self.saturated_s += 1.0
        self.now += 1.0

    def obey(self) -> None:
        """Do what woken threads do: take up their task."""
        for thread in self.bench.threads:
            if stub(thread).woken:
                thread.wake.acquire()
                task, thread.task = thread.task, None
                if task is Order.LEAD:
                    assert self.leading is None
                    self.leading, self.inline = thread, False
                else:
                    assert isinstance(task, Connection)
                    self.busy[thread] = task

    @precondition(lambda self: self.leading is not None and not self.inline)
    @rule()
    def lead_inline(self) -> None:
        self.pass_time()
        assert self.leading is not None
        self.busy[self.leading] = self.bench.connection()
        self.inline = True
        self.pool.go_inline(self.now)

    @precondition(lambda self: self.leading is not None and not self.inline)
    @rule(wanted=st.integers(0, 3))
    def hand_on(self, wanted: int) -> None:
        self.pass_time()
        assert self.leading is not None
        self.busy[self.leading] = self.bench.connection()
        self.leading = None
        others = [self.bench.connection() for _ in range(min(wanted, len(self.pool.idle)))]
        self.pool.hand_on(others, self.now)
        self.obey()

    @precondition(lambda self: self.inline)
    @rule()
    def promote(self) -> None:
        self.pass_time()
        self.leading, self.inline = None, False
        self.pool.promote(self.now)
        self.obey()

    @precondition(lambda self: self.busy)
    @rule(data=st.data(), state=st.sampled_from([State.IDLE, State.WRITING, State.ACTIVE, None]))
    def come_back(self, data: st.DataObject, state: State | None) -> None:
        self.pass_time()
        thread = data.draw(st.sampled_from(sorted(self.busy, key=lambda one: stub(one).name)))
        turn = self.pool.settle(thread, self.busy[thread], state, self.now)
        if turn is Turn.AGAIN:
            assert state is State.ACTIVE
            return
        del self.busy[thread]
        if turn is Turn.LEAD:
            assert self.leading in (None, thread)
            self.leading, self.inline = thread, False
            self.pool.ready.clear()

    @invariant()
    def nobody_is_lost(self) -> None:
        """Each thread leads, works or is parked; the lead is lost only while all of them work."""
        assert self.pool.leader is self.leading
        assert bool(self.pool.inline_since) == self.inline
        everyone = set(self.busy) | set(self.pool.idle)
        if self.leading is not None:
            everyone.add(self.leading)
        assert everyone == set(self.bench.threads)
        assert not set(self.busy) & set(self.pool.idle)
        if self.leading is None:
            assert len(self.busy) == 3

    @invariant()
    def saturation_is_exact(self) -> None:
        """It is the time during which every thread was in a request."""
        assert self.pool.saturated == (len(self.busy) == 3)
        assert self.bench.saturated_s(self.now) == pytest.approx(self.saturated_s)

    def teardown(self) -> None:
        self.bench.close()


PoolMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestPoolMachine = PoolMachine.TestCase
