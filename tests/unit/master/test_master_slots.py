"""Slots, generations and the table of a worker's states."""

from __future__ import annotations

import itertools

import pytest

from gthreadsrv.master.slots import (
    TRANSITIONS,
    IllegalTransitionError,
    Registry,
    Vacancy,
    Worker,
    WorkerState,
)
from gthreadsrv_metrics import labels


def test_states_are_the_scoreboards() -> None:
    """The scoreboard has a name for each state."""
    assert {state.value for state in WorkerState} == set(labels.STATES)


@pytest.mark.parametrize(("before", "after"), list(itertools.product(WorkerState, WorkerState)))
def test_every_move_is_legal_or_refused(before: WorkerState, after: WorkerState) -> None:
    """A worker goes where the table has a way; anything else raises and changes nothing."""
    moves: list[WorkerState] = []
    registry = Registry(4, lambda worker: moves.append(worker.state))
    worker = Worker(0, 1, 100, 0, 0.0, state=before)
    if after in TRANSITIONS[before]:
        registry.move(worker, after)
        assert (worker.state, moves) == (after, [after])
    else:
        with pytest.raises(IllegalTransitionError, match="BUG"):
            registry.move(worker, after)
        assert (worker.state, moves) == (before, [])


def test_every_state_leads_back_to_free() -> None:
    """A process may die in any state, so its slot can always be freed."""
    for state in set(WorkerState) - {WorkerState.FREE}:
        assert WorkerState.FREE in TRANSITIONS[state]


def test_vacancies_are_the_lowest_free_slots() -> None:
    """Slots are filled from below, so that the labels in use stay few."""
    registry = Registry(4)
    for pid, vacancy in enumerate(registry.vacancies(3, limit=4), start=100):
        registry.occupy(vacancy, pid, 0, 0.0)
    first = registry.by_pid(100)
    assert first is not None
    registry.release(first)
    assert [vacancy.slot for vacancy in registry.vacancies(9, limit=4)] == [0, 3]
    assert registry.vacancies(9, limit=1) == [Vacancy(0, 2)]
    assert registry.vacancies(9, limit=99)[-1].slot == 3, "never beyond the capacity"


def test_generations_count_processes_of_a_slot() -> None:
    """Each process of a slot is told from the ones before."""
    registry = Registry(1)
    seen = []
    for pid in (7, 8, 9):
        [vacancy] = registry.vacancies(1, limit=1)
        worker = registry.occupy(vacancy, pid, 0, 0.0)
        seen.append((worker.slot, worker.generation, worker.pid))
        registry.release(worker)
    assert seen == [(0, 1, 7), (0, 2, 8), (0, 3, 9)]


def test_a_slot_is_leased_once() -> None:
    """A slot whose process has not been reaped cannot be given away."""
    registry = Registry(2)
    registry.occupy(Vacancy(0, 1), 7, 0, 0.0)
    for vacancy, pid in ((Vacancy(0, 2), 8), (Vacancy(1, 1), 7)):
        with pytest.raises(IllegalTransitionError):
            registry.occupy(vacancy, pid, 0, 0.0)


def test_lookups() -> None:
    """Workers are found by pid and by state, in the order of their slots."""
    registry = Registry(3)
    workers = [
        registry.occupy(vacancy, 10 - vacancy.slot, 0, 0.0)
        for vacancy in registry.vacancies(3, limit=3)
    ]
    registry.move(workers[2], WorkerState.READY)
    registry.move(workers[0], WorkerState.DRAINING)
    assert list(registry) == workers
    assert len(registry) == 3
    assert registry.active() == workers[1:]
    assert registry.in_state(WorkerState.READY) == [workers[2]]
    assert registry.by_pid(9) is workers[1]
    assert registry.by_pid(99) is None
