"""Whatever happens to a fleet, and in whatever order: what always holds, and where it ends."""

from __future__ import annotations

import signal

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gthreadsrv.master.reload import Verdict
from gthreadsrv.master.slots import Worker
from tests.unit.master.simulated_fleet import KILLED, LOAD_ERROR, Simulation

STATUSES = st.sampled_from([KILLED, LOAD_ERROR, 0, 1 << 8, int(signal.SIGSEGV)])


class FleetMachine(RuleBasedStateMachine):
    """Random events in a random order, one turn of the master after each."""

    def __init__(self) -> None:
        super().__init__()
        self.fleet = Simulation(target=3, capacity=24, boot_timeout_s=15.0)
        self.fleet.turn()
        self.ended = False

    def pick(self, workers: list[Worker], index: int) -> Worker:
        return workers[index % len(workers)]

    def turn(self, after_s: float = 0.0) -> None:
        """One turn, in which nobody may be told to leave that is needed."""
        fleet = self.fleet
        told = len(fleet.signals)
        fleet.turn(after_s)
        silent = {"heartbeat", "boot_error"}
        dismissed = [
            step.worker
            for step in fleet.signals[told:]
            if step.why is not None and step.why not in silent and step.worker.ready_at is not None
        ]
        # Replacement before retirement, always.
        assert not dismissed or len(fleet.ready) >= fleet.fleet.target

    @rule(seconds=st.sampled_from([0.0, 0.05, 1.0, 5.0, 40.0]), beating=st.booleans())
    def time_passes(self, seconds: float, beating: bool) -> None:
        if beating:
            for worker in self.fleet.ready:
                self.fleet.heartbeats[worker.slot] = self.fleet.now + seconds
        self.turn(seconds)

    @precondition(lambda self: self.fleet.booting)
    @rule(index=st.integers(0, 20))
    def one_boots(self, index: int) -> None:
        self.fleet.fleet.ready(self.pick(self.fleet.booting, index), self.fleet.now)
        self.turn()

    @precondition(lambda self: len(self.fleet.fleet.registry))
    @rule(index=st.integers(0, 20), status=STATUSES, oom_kills=st.integers(0, 1))
    def one_dies(self, index: int, status: int, oom_kills: int) -> None:
        worker = self.pick(list(self.fleet.fleet.registry), index)
        ended = self.fleet.fleet.exited(worker, status, oom_kills, self.fleet.now)
        if ended.verdict is Verdict.END_SERVER:
            self.fleet.fleet.stop(self.fleet.now, 2.0, quick=True)
            self.ended = True
        self.turn()

    @precondition(lambda self: self.fleet.ready)
    @rule(index=st.integers(0, 20), reason=st.sampled_from(["max_requests", "request_timeout"]))
    def one_asks_to_leave(self, index: int, reason: str) -> None:
        self.fleet.fleet.retire(self.pick(self.fleet.ready, index), reason)
        self.turn()

    @precondition(lambda self: not self.ended)
    @rule(size=st.integers(1, 6))
    def reload(self, size: int) -> None:
        self.fleet.fleet.reload(self.fleet.terms(size, boot_timeout_s=15.0))
        self.turn()

    @precondition(lambda self: not self.ended)
    @rule(size=st.integers(1, 6))
    def resize(self, size: int) -> None:
        self.fleet.fleet.resize(size)
        self.turn()

    @rule(quick=st.booleans())
    def stop(self, quick: bool) -> None:
        self.fleet.fleet.stop(self.fleet.now, 5.0, quick=quick)
        self.ended = True
        self.turn()

    @invariant()
    def nothing_is_due_after_a_turn(self) -> None:
        """The loop sleeps until the deadline: one in the past would spin it."""
        assert self.fleet.fleet.reconcile(self.fleet.now) == []
        deadline = self.fleet.fleet.next_deadline(self.fleet.now)
        assert deadline is None or deadline > self.fleet.now

    @invariant()
    def everybody_who_was_told_has_a_deadline(self) -> None:
        for worker in self.fleet.draining:
            assert worker.departure is not None

    @invariant()
    def at_most_one_worker_replaces_another(self) -> None:
        fleet = self.fleet
        if len(fleet.ready) >= fleet.fleet.target and not self.ended:
            assert len(fleet.booting) <= 1

    def teardown(self) -> None:
        """When all goes well from here on, the fleet becomes what is wanted."""
        self.fleet.settle()
        plan = self.fleet.fleet.plan
        if self.ended:
            assert len(self.fleet.fleet.registry) == 0
            return
        assert len(self.fleet.ready) == self.fleet.fleet.target
        assert plan.desired == plan.committed
        for worker in self.fleet.ready:
            assert worker.revision == plan.desired
            assert worker.retire is None


TestFleet = FleetMachine.TestCase
TestFleet.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
