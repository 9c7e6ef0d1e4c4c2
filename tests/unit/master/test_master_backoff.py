"""The wait after a failed worker."""

from __future__ import annotations

import pytest

from gthreadsrv.master.backoff import FIRST_DELAY_S, LONGEST_DELAY_S, Backoff, delay_s


def test_delays_double_up_to_a_limit() -> None:
    """No failure, no wait; then each failure doubles it; a hopeless case is tried twice a minute."""
    assert delay_s(0) == 0.0
    assert [delay_s(n) for n in (1, 2, 3, 4)] == pytest.approx([0.1, 0.2, 0.4, 0.8])
    assert delay_s(9) == pytest.approx(25.6)
    assert delay_s(10) == delay_s(10_000) == LONGEST_DELAY_S


def test_failures_in_a_row_wait_longer() -> None:
    """Each failure of a worker forked after the last one lengthens the wait."""
    backoff = Backoff()
    backoff.failed(spawned_at=0.0, now=1.0)
    assert backoff.retry_at == 1.0 + FIRST_DELAY_S
    backoff.failed(spawned_at=1.5, now=2.0)
    assert backoff.retry_at == 2.0 + 2 * FIRST_DELAY_S


def test_workers_that_fail_side_by_side_count_once() -> None:
    """Four workers that die of the same import at the same time are one failure."""
    backoff = Backoff()
    for now in (1.0, 1.1, 1.2, 1.3):
        backoff.failed(spawned_at=0.0, now=now)
    assert backoff.streak == 1
    assert backoff.retry_at == 1.0 + FIRST_DELAY_S


def test_only_a_younger_worker_ends_the_streak() -> None:
    """A worker that was there before the failure proves nothing about the next one."""
    backoff = Backoff()
    backoff.failed(spawned_at=5.0, now=6.0)
    backoff.succeeded(spawned_at=4.0)
    assert backoff.streak == 1
    backoff.succeeded(spawned_at=7.0)
    assert (backoff.streak, backoff.retry_at) == (0, float("-inf"))


def test_a_second_failure_makes_it_cautious() -> None:
    """One crash is met at full width, a series one worker at a time."""
    backoff = Backoff()
    backoff.failed(0.0, 1.0)
    assert not backoff.cautious
    backoff.failed(2.0, 3.0)
    assert backoff.cautious
