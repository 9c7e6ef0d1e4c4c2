"""Any sequence of events, against a model: nothing is lost, nothing counted twice or back.

The board is driven as master and workers drive it, with processes replaced, killed and
slots leased again in any order, and scraped by a collector after every step.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)

from gthreadsrv_metrics.collector import MultiprocessCollector
from gthreadsrv_metrics.labels import CODE_CLASSES
from gthreadsrv_metrics.scoreboard import Scoreboard, SlotRow, ThreadRow
from gthreadsrv_metrics.sources import Sources
from tests.unit.metrics.fakes import Usage

SLOTS, THREADS = 3, 2
Series = tuple[str, tuple[tuple[str, str], ...]]


@dataclass
class Worker:
    """A live process, as the model knows it."""

    slot: int
    row: SlotRow
    threads: list[ThreadRow]
    running: dict[int, float] = field(default_factory=dict)  # thread -> since
    saturated: float | None = None
    cpu_s: float = 0.0


class Fleet(RuleBasedStateMachine):
    """The board under test and what it must say."""

    workers = Bundle("workers")

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.board = Scoreboard(SLOTS, THREADS, [])
        # A process directory without processes: pids here are made up.
        sources = Sources(
            monotonic=lambda: self.now, wall=lambda: 1e9, proc_root="/nonexistent",
            cgroup_root="/nonexistent",
        )  # fmt: skip
        self.collector = MultiprocessCollector(self.board, sources)
        self.generation = 1
        self.live: dict[int, Worker] = {}
        self.requests: Counter[tuple[str, str]] = Counter()
        self.by_slot: Counter[int] = Counter()
        self.busy: dict[int, float] = dict.fromkeys(range(SLOTS), 0.0)
        self.saturated: dict[int, float] = dict.fromkeys(range(SLOTS), 0.0)
        self.cpu: dict[int, float] = dict.fromkeys(range(SLOTS), 0.0)
        self.exits: Counter[str] = Counter()
        self.accepted: Counter[int] = Counter()
        self.durations_s = 0.0
        self.last: dict[Series, float] = {}

    @initialize(target=workers)
    def boot(self) -> object:
        """The first workers."""
        return multiple(self.lease("boot"))

    def lease(self, reason: str) -> Worker:
        """Give a free slot to a new process, as the master does around a fork."""
        slot = next(slot for slot in range(SLOTS) if slot not in self.live)
        row = self.board.slot(slot)
        threads = [self.board.thread(slot, index) for index in range(THREADS)]
        self.board.master.lease(slot, 10_000 + self.generation, self.generation, self.now)
        self.board.master.spawned(reason)
        worker = Worker(slot, row, threads)
        self.live[slot] = worker
        return worker

    @rule(seconds=st.floats(0.0, 40.0))
    def pass_time(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds

    @rule(worker=workers, index=st.integers(0, THREADS - 1))
    def begin(self, worker: Worker, index: int) -> None:
        """A request is taken by a free thread."""
        if index in worker.running:
            return
        worker.threads[index].begin(self.now)
        worker.threads[index].count_accept()
        self.accepted[worker.slot] += 1
        worker.running[index] = self.now
        if len(worker.running) == THREADS:
            worker.row.begin_saturated(self.now)
            worker.saturated = self.now

    @rule(
        worker=workers,
        index=st.integers(0, THREADS - 1),
        method=st.sampled_from(["GET", "POST", "BREW"]),
        status=st.sampled_from([101, 200, 204, 302, 404, 499, 500, 503]),
        early_s=st.floats(0.0, 3.0),
        queue_s=st.floats(-1.0, 2.0),
    )
    def finish(
        self, worker: Worker, index: int, method: str, status: int, early_s: float, queue_s: float
    ) -> None:
        """A running request's response is sent."""
        since = self.free(worker, index)
        if since is None:
            return
        worker.threads[index].finish(
            self.now, method=method, status=status, started=since - early_s, app_s=0.1,
            queue_s=queue_s, kernel=True, body_in=0, body_out=0, trace_id=None,
        )  # fmt: skip
        self.requests["other" if method == "BREW" else method, str(status)] += 1
        self.by_slot[worker.slot] += 1
        self.durations_s += self.now - since + early_s

    @rule(worker=workers, index=st.integers(0, THREADS - 1))
    def abandon(self, worker: Worker, index: int) -> None:
        """A client goes before anything was sent."""
        if self.free(worker, index) is not None:
            worker.threads[index].abandon(self.now)

    def free(self, worker: Worker, index: int) -> float | None:
        """End a thread's running stretch in the model; None if it has none."""
        since = worker.running.pop(index, None)
        if since is not None:
            self.busy[worker.slot] += self.now - since
            if worker.saturated is not None:
                worker.row.end_saturated(self.now)
                self.saturated[worker.slot] += self.now - worker.saturated
                worker.saturated = None
        return since

    @rule(worker=workers, seconds=st.floats(0.0, 1.0))
    def beat(self, worker: Worker, seconds: float) -> None:
        """A heartbeat, with the process's CPU so far."""
        worker.cpu_s += seconds
        worker.row.heartbeat(self.now)
        worker.row.process_cpu(worker.cpu_s, 0.0)

    @rule(worker=consumes(workers), seconds=st.floats(0.0, 1.0))
    def kill(self, worker: Worker, seconds: float) -> None:
        """A process is killed, with whatever it runs, and reaped."""
        self.end(worker, seconds, "signal")

    @rule(target=workers)
    def respawn(self) -> object:
        """A free slot is leased again."""
        if len(self.live) == SLOTS:
            return multiple()
        return self.lease("respawn")

    @rule(target=workers, worker=consumes(workers))
    def reload(self, worker: Worker) -> object:
        """A replacement of the next generation first, then the old one drains and goes."""
        self.generation += 1
        successor: object = multiple() if len(self.live) == SLOTS else self.lease("reload")
        self.board.master.set_state(worker.slot, "draining")
        for index in list(worker.running):
            self.finish(worker, index, "GET", 200, 0.0, 0.0)
        self.end(worker, 0.0, "reload")
        return successor

    def end(self, worker: Worker, seconds: float, reason: str) -> None:
        """A process is reaped."""
        for since in worker.running.values():
            self.busy[worker.slot] += self.now - since
        if worker.saturated is not None:
            self.saturated[worker.slot] += self.now - worker.saturated
        self.cpu[worker.slot] += worker.cpu_s + seconds
        self.board.master.release(worker.slot, self.now, Usage(worker.cpu_s + seconds, 0.0))
        self.board.master.exited(reason)
        self.exits[reason] += 1
        del self.live[worker.slot]

    def scrape(self) -> dict[Series, float]:
        """Return every sample."""
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in self.collector.collect()
            for sample in family.samples
        }

    @invariant()
    def says_what_the_model_says(self) -> None:
        """Totals are exact, busy time included, and no counter ever goes back."""
        got = self.scrape()

        def value(name: str, **labels: str) -> float:
            return got.get((f"gthreadsrv_{name}", tuple(sorted(labels.items()))), 0.0)

        requests = {
            (dict(labels)["method"], dict(labels)["code"]): count
            for (name, labels), count in got.items()
            if name == "gthreadsrv_requests_total"
        }
        assert requests == dict(self.requests)
        by_class = Counter[str]()
        for (_, code), count in self.requests.items():
            by_class[f"{code[0]}xx"] += count
        for code_class in CODE_CLASSES:
            counted = value("request_duration_seconds_count", code_class=code_class)
            assert counted == by_class[code_class]
        sums = sum(value("request_duration_seconds_sum", code_class=name) for name in CODE_CLASSES)
        assert sums == pytest.approx(self.durations_s)
        assert value("application_seconds_count") == self.requests.total()
        for slot in range(SLOTS):
            worker = self.live.get(slot)
            running = list(worker.running.values()) if worker else []
            busy = self.busy[slot] + sum(self.now - since for since in running)
            name = str(slot)
            got_busy = value("thread_busy_seconds_total", worker=name)
            assert got_busy == pytest.approx(busy, abs=1e-6)
            saturated = self.saturated[slot]
            if worker and worker.saturated is not None:
                saturated += self.now - worker.saturated
            got_saturated = value("saturated_seconds_total", worker=name)
            assert got_saturated == pytest.approx(saturated, abs=1e-6)
            assert value("threads_busy", worker=name) == len(running)
            assert value("worker_requests_total", worker=name) == self.by_slot[slot]
            assert value("connections_accepted_total", worker=name) == self.accepted[slot]
            cpu = value("worker_cpu_seconds_total", worker=name, mode="user")
            assert cpu <= self.cpu[slot] + (worker.cpu_s if worker else 0.0) + 1e-9
            if worker is None:
                assert cpu == pytest.approx(self.cpu[slot])
        for reason in ("signal", "reload"):
            assert value("worker_exits_total", reason=reason) == self.exits[reason]
        for (name, labels), before in self.last.items():
            if name.endswith(("_total", "_count", "_bucket", "_sum")):
                assert got[name, labels] >= before, f"{name}{dict(labels)} went back"
        self.last = got


TestFleet = Fleet.TestCase
TestFleet.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
