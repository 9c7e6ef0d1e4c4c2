"""The autoscaling policy: what it wants of any load, and what it never does."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gthreadsrv.master.autoscale import (
    SAMPLE_S,
    UP_WINDOW_S,
    Bounds,
    Decision,
    Reading,
    decide,
    kept_s,
)

GIB = 2.0**30
THREADS = 4
Load = Callable[[float], float]  # seconds -> requests under way that want a thread


class Fleet:
    """Workers of four threads under a made-up load, and the policy in charge of them."""

    def __init__(self, bounds: Bounds, **limits: float | None) -> None:
        self.bounds = bounds
        self.boot_s = limits.pop("boot_s", 0.0) or 0.0
        self.cpu_wait = limits.pop("cpu_wait", 0.0) or 0.0
        self.cpu_each = limits.pop("cpu_each", 0.0) or 0.0  # cores of a busy thread
        # Where given, threads of a worker compute in turns, and who is due is so late (seconds).
        self.turn_s = limits.pop("turn_s", None)
        self.reading = Reading(
            at=1000.0, target=bounds.least, ready=bounds.least, threads=bounds.least * THREADS,
            busy_s=0.0, wait_s=0.0, started=0.0, cpu_s=0.0, cpu_wait_s=0.0, cores=64.0, throttled_s=0.0,
            memory_left=None, worker_memory=0.0,
        )  # fmt: skip
        self.reading = dataclasses.replace(self.reading, **limits)  # type: ignore[arg-type]
        self.window = [self.reading]
        self.booted_at = 0.0
        self.decisions: list[tuple[float, Decision]] = []

    def step(self, load: float, throttled: float = 0.0, seconds: float = SAMPLE_S) -> Decision:
        """Half a second of this load, then a look."""
        now = self.reading
        busy = min(load, now.threads)
        at = now.at + seconds
        ready = now.target if at >= self.booted_at else now.ready
        self.reading = dataclasses.replace(
            now, at=at, ready=ready, threads=ready * THREADS, busy_s=now.busy_s + busy * seconds,
            wait_s=now.wait_s + max(load - now.threads, 0.0) * seconds,
            started=now.started + busy * seconds / 0.1,
            cpu_s=now.cpu_s + self.cores(busy) * seconds,
            interpreter_wait_s=now.interpreter_wait_s + (self.turn_s or 0.0) * ready * seconds,
            throttled_s=now.throttled_s + throttled * seconds,
            cpu_wait_s=now.cpu_wait_s + self.cpu_wait * seconds,
        )  # fmt: skip
        self.window.append(self.reading)
        while len(self.window) > 1 and at - self.window[1].at >= kept_s(self.bounds):
            self.window.pop(0)
        decision = decide(self.window, self.bounds)
        if decision.target != self.reading.target:
            if decision.target > self.reading.target:
                self.booted_at = at + self.boot_s
            ready = min(self.reading.ready, decision.target)
            if not self.boot_s:
                ready = decision.target
            # What is wanted now is what the next reading says; this one stays as it was read.
            self.reading = dataclasses.replace(
                self.reading, target=decision.target, ready=ready, threads=ready * THREADS
            )
        self.decisions.append((at, decision))
        return decision

    def cores(self, busy: float) -> float:
        """What so many busy threads use."""
        interpreters = self.reading.ready if self.turn_s is not None else float("inf")
        return min(busy * self.cpu_each, self.reading.cores, interpreters)

    def run(self, seconds: float, load: Load) -> list[int]:
        """What was wanted at each look."""
        start = self.reading.at
        while self.reading.at - start < seconds:
            self.step(load(self.reading.at - start))
        return [decision.target for _, decision in self.decisions]

    @property
    def moves(self) -> list[tuple[float, int]]:
        """When what is wanted moved, and by how much."""
        before, found = self.bounds.least, []
        for at, decision in self.decisions:
            if decision.target != before:
                found.append((at, decision.target - before))
            before = decision.target
        return found


BOUNDS = Bounds(2, 8, 60.0)


def test_a_steady_load_moves_nothing() -> None:
    assert set(Fleet(BOUNDS).run(300, lambda _: 5.0)) == {2}


def test_it_grows_within_two_seconds_of_saturation() -> None:
    """Wherever between two readings the saturation begins."""
    for offset in (0.0, 0.1, 0.25, 0.49):
        fleet = Fleet(BOUNDS)
        for _ in range(20):
            fleet.step(1.0)
        began = fleet.reading.at + offset
        while not fleet.moves:
            now = fleet.reading.at
            # The share of the coming half second that is saturated.
            share = min(max((now + SAMPLE_S - began) / SAMPLE_S, 0.0), 1.0)
            fleet.step(1.0 + share * 15.0)
            assert fleet.reading.at - began <= 2.0
        assert fleet.moves[0][1] > 0


def test_it_grows_to_what_the_load_needs_at_most_twofold_at_a_time() -> None:
    """Ten requests at once keep four workers of four threads 62 % busy."""
    wanted = Fleet(BOUNDS).run(30, lambda _: 10.0)
    assert wanted[-1] == 4
    fleet = Fleet(Bounds(1, 16, 60.0))
    assert fleet.run(30, lambda _: 44.0)[-1] == 16
    sizes = [1]
    for _, change in fleet.moves:
        sizes.append(sizes[-1] + change)
    assert sizes == [1, 2, 4, 8, 16]


def test_waits_count_where_some_threads_are_free_at_times() -> None:
    """As when the interpreter or an uneven spread is what holds requests up."""
    fleet = Fleet(BOUNDS)
    for _ in range(10):
        now = fleet.reading
        fleet.reading = dataclasses.replace(now, wait_s=now.wait_s + 1.0)
        fleet.step(5.5)
    assert fleet.moves[0][1] > 0


TURNS = {"cpu_each": 1.0, "turn_s": 0.005}


def test_requests_that_compute_in_turns_get_an_interpreter_each() -> None:
    """Three at once, though threads are free: two workers would have one and a half each."""
    fleet = Fleet(Bounds(1, 8, 60.0), **TURNS)
    assert fleet.run(300, lambda _: 3.1)[-1] == 3
    assert [change for _, change in fleet.moves] == [1, 1]
    # And they go when one would do, as it would not as long as two compute.
    fleet.run(300, lambda _: 1.7)
    assert fleet.reading.target == 3
    fleet.run(300, lambda _: 0.5)
    assert fleet.reading.target == 1


def test_computing_without_the_interpreter_is_no_reason_to_grow() -> None:
    """Threads of one worker use three cores, and nobody who is due is late."""
    fleet = Fleet(Bounds(1, 8, 60.0), cpu_each=1.0)
    assert set(fleet.run(300, lambda _: 3.0)) == {1}


def test_full_interpreters_do_not_grow_into_a_full_cpu() -> None:
    fleet = Fleet(Bounds(1, 8, 60.0), **TURNS, cores=1.1)
    assert set(fleet.run(60, lambda _: 3.0)) == {1}
    assert fleet.decisions[-1][1] == Decision(1, "saturated", "cpu")


def test_it_waits_for_workers_that_boot() -> None:
    """Slow imports do not make it ask for more and more."""
    fleet = Fleet(BOUNDS, boot_s=20.0)
    fleet.run(19, lambda _: 100.0)
    assert [change for _, change in fleet.moves] == [2]
    assert fleet.decisions[-1][1].reason == "waiting for workers"


def test_workers_that_never_boot_are_given_up_when_they_are_not_needed() -> None:
    """As where there is no memory for them: without load they would be tried for ever."""
    fleet = Fleet(BOUNDS, boot_s=float("inf"))
    fleet.run(20, lambda _: 20.0)
    assert (fleet.reading.target, fleet.reading.ready) == (4, 2)
    fleet.run(50, lambda _: 0.5)
    assert fleet.reading.target == 4, "not before a whole calm spell"
    fleet.run(100, lambda _: 0.5)
    assert fleet.reading.target == 2


def test_it_shrinks_slowly_one_at_a_time() -> None:
    """After a whole calm spell, and a sixth of it between two workers."""
    fleet = Fleet(BOUNDS)
    fleet.run(20, lambda _: 20.0)
    assert fleet.reading.target == 8
    calm_from = fleet.reading.at
    fleet.run(200, lambda _: 0.5)
    downs = [(at - calm_from, change) for at, change in fleet.moves if change < 0]
    assert [change for _, change in downs] == [-1] * 6
    assert downs[0][0] > BOUNDS.calm_s - UP_WINDOW_S
    gaps = [later - earlier for (earlier, _), (later, _) in zip(downs, downs[1:], strict=False)]
    assert all(gap >= BOUNDS.calm_s / 6 for gap in gaps)
    assert fleet.reading.target == 2


def test_one_busy_moment_in_a_spell_keeps_the_workers() -> None:
    """A burst a minute is what the workers are there for."""
    fleet = Fleet(BOUNDS)
    fleet.run(20, lambda _: 20.0)
    fleet.run(600, lambda s: 20.0 if s % 50 < 2 else 0.5)
    assert fleet.reading.target == 8


@pytest.mark.parametrize(
    ("limits", "throttled", "refusal"),
    [
        ({"cpu_each": 0.25, "cores": 2.0}, 0.0, "cpu"),
        ({"cpu_each": 0.05, "cores": 1.0}, 0.2, "cpu"),
        ({"cpu_each": 0.05, "cpu_wait": 2.5}, 0.0, "cpu"),
        ({"memory_left": 0.2 * GIB, "worker_memory": 0.19 * GIB}, 0.0, "memory"),
        ({"memory_left": 0.4 * GIB, "worker_memory": 0.19 * GIB}, 0.0, "memory"),
    ],
)
def test_it_never_grows_into_what_is_full(
    limits: dict[str, float], throttled: float, refusal: str
) -> None:
    fleet = Fleet(BOUNDS, **limits)
    for _ in range(100):
        fleet.step(50.0, throttled)
    assert fleet.moves == []
    assert fleet.decisions[-1][1] == Decision(2, "saturated", refusal)  # type: ignore[arg-type]


def test_it_grows_by_what_fits() -> None:
    """Three more workers and one that replaces another into the memory, two into the CPU."""
    fleet = Fleet(Bounds(4, 16, 60.0), memory_left=1.4 * GIB, worker_memory=0.3 * GIB)
    fleet.run(1.5, lambda _: 100.0)
    assert fleet.moves[0][1] == 3
    fleet = Fleet(Bounds(4, 16, 60.0), cpu_each=0.25, cores=7.1)
    fleet.run(1.5, lambda _: 100.0)
    assert fleet.moves[0][1] == 2


def test_at_its_bound_it_says_so() -> None:
    fleet = Fleet(BOUNDS)
    fleet.run(60, lambda _: 100.0)
    assert fleet.decisions[-1][1] == Decision(8, "saturated", "limit")


def test_a_target_outside_the_bounds_comes_back_at_once() -> None:
    """As after a reload with others."""
    reading = dataclasses.replace(Fleet(BOUNDS).reading, target=12, ready=12, threads=48)
    assert decide([reading], BOUNDS) == Decision(8, "bounds")


readings = st.builds(
    Reading,
    at=st.floats(0.05, 30.0),  # since the one before, see below
    target=st.integers(1, 12),
    ready=st.integers(0, 14),
    threads=st.integers(0, 200),
    busy_s=st.floats(0, 1e6),
    wait_s=st.floats(0, 1e6),
    started=st.floats(0, 1e6),
    cpu_s=st.floats(0, 1e6),
    cpu_wait_s=st.floats(0, 1e6),
    interpreter_wait_s=st.floats(0, 1e6),
    cores=st.floats(0.1, 256),
    throttled_s=st.floats(0, 1e4),
    memory_left=st.none() | st.floats(0, 1e12),
    worker_memory=st.floats(0, 1e11),
)


@given(st.lists(readings, min_size=1, max_size=40), st.integers(1, 12), st.integers(0, 12))
def test_any_readings_have_an_answer_within_the_bounds(
    made: list[Reading], least: int, more: int
) -> None:
    """However wild; and what is full is never grown into."""
    at = 0.0
    window = []
    for reading in made:
        at += reading.at
        window.append(dataclasses.replace(reading, at=at))
    bounds = Bounds(least, least + more, 60.0)
    last = window[-1]
    decision = decide(window, bounds)
    assert bounds.least <= decision.target <= bounds.most
    if decision.refusal is not None:
        assert decision.target == last.target
    if decision.target > last.target and decision.reason != "bounds":
        assert decision.reason == "saturated"
        assert last.ready >= last.target
        assert decision.target <= 2 * last.target
        if last.memory_left is not None and last.worker_memory > 0:
            assert (decision.target - last.target + 1) * last.worker_memory <= last.memory_left


loads = st.lists(
    st.tuples(st.floats(0.0, 60.0), st.floats(0.5, 90.0)), min_size=1, max_size=12
)  # level, seconds


@given(loads, st.integers(1, 4), st.integers(0, 8), st.floats(0, 5), st.booleans())
@settings(max_examples=60, deadline=None)
def test_down_never_follows_up_within_a_calm_spell(
    parts: list[tuple[float, float]], least: int, more: int, boot_s: float, turns: bool
) -> None:
    """Whatever the load does: up may come at any time, down only after a whole spell of calm."""
    bounds = Bounds(least, least + more, 30.0)
    fleet = Fleet(bounds, boot_s=boot_s, **(TURNS if turns else {}))
    for level, seconds in parts:
        fleet.run(seconds, lambda _, level=level: level)  # type: ignore[misc]
    last_up = float("-inf")
    last_down = float("-inf")
    for at, change in fleet.moves:
        if change > 0:
            last_up = at
            continue
        assert change == -1
        assert at - last_up >= bounds.calm_s
        assert at - last_down >= bounds.calm_s / 6 - 1e-6
        last_down = at


@given(st.floats(0.5, 30.0), st.floats(0.0, 0.5), st.integers(0, 2**32), st.booleans())
@settings(max_examples=80, deadline=None)
def test_noise_around_a_level_does_not_make_it_flap(
    level: float, noise: float, seed: int, turns: bool
) -> None:
    """It finds its size and keeps it: not one up after a down, in ten minutes of noise."""
    chance = random.Random(seed)
    fleet = Fleet(BOUNDS, **(TURNS if turns else {}))
    fleet.run(600, lambda _: level * (1.0 + noise * (2.0 * chance.random() - 1.0)))
    changes = [change for _, change in fleet.moves]
    downs = [number for number, change in enumerate(changes) if change < 0]
    assert not downs or all(change < 0 for change in changes[downs[0] :])


@given(st.floats(9.0, 200.0), st.floats(0.0, 100.0))
@settings(max_examples=60, deadline=None)
def test_saturation_is_answered_within_two_seconds(load: float, quiet_s: float) -> None:
    """With nothing full, from any calm before."""
    fleet = Fleet(BOUNDS)
    fleet.run(quiet_s, lambda _: 0.5)
    began = fleet.reading.at
    fleet.run(2.0, lambda _: load)
    assert fleet.moves
    assert fleet.moves[0][0] - began <= UP_WINDOW_S + 2 * SAMPLE_S
