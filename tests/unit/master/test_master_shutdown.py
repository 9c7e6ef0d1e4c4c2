"""How a stop proceeds, by the clock and by further signals."""

from __future__ import annotations

import itertools

import pytest

from gthreadsrv.master.shutdown import TRANSITIONS, Event, Phase, Shutdown


def send(shutdown: Shutdown, event: Event, now: float, delay_s: float = 0.0) -> bool:
    """A signal, with 30 s for running requests."""
    return shutdown.signal(event, now, drain_delay_s=delay_s, graceful_timeout_s=30.0)


def tick(shutdown: Shutdown, now: float) -> bool:
    """The clock, with 30 s for running requests."""
    return shutdown.tick(now, graceful_timeout_s=30.0)


@pytest.mark.parametrize(("phase", "event"), list(itertools.product(Phase, Event)))
def test_the_table_only_goes_forward(phase: Phase, event: Event) -> None:
    """Each signal has a meaning in each phase, and none leads back."""
    order = list(Phase)
    if event is not Event.DEADLINE:
        assert (phase, event) in TRANSITIONS
    after = TRANSITIONS.get((phase, event), phase)
    assert order.index(after) >= order.index(phase)


def test_term_lingers_drains_and_kills() -> None:
    """The delay first, then the graceful time, then the end."""
    shutdown = Shutdown()
    assert not tick(shutdown, 5.0)
    assert send(shutdown, Event.TERM, 10.0, delay_s=4.0)
    assert (shutdown.phase, shutdown.deadline) == (Phase.LINGERING, 14.0)
    assert not tick(shutdown, 13.9)
    assert tick(shutdown, 14.0)
    assert (shutdown.phase, shutdown.deadline) == (Phase.DRAINING, 44.0)
    assert tick(shutdown, 44.0)
    assert (shutdown.phase, shutdown.deadline) == (Phase.KILLING, None)
    assert not tick(shutdown, 99.0)


def test_without_a_delay_term_drains_at_once() -> None:
    """Nobody waits for nothing."""
    shutdown = Shutdown()
    assert send(shutdown, Event.TERM, 10.0)
    assert (shutdown.phase, shutdown.deadline) == (Phase.DRAINING, 40.0)


def test_quit_is_quick() -> None:
    """INT and QUIT leave two seconds, or the graceful time where that is shorter."""
    shutdown = Shutdown()
    assert send(shutdown, Event.QUIT, 10.0, delay_s=4.0)
    assert (shutdown.phase, shutdown.deadline) == (Phase.QUITTING, 12.0)
    short = Shutdown()
    short.signal(Event.QUIT, 10.0, drain_delay_s=0.0, graceful_timeout_s=0.5)
    assert short.deadline == 10.5


@pytest.mark.parametrize(
    ("delay_s", "signals", "phases"),
    [
        (9.0, [Event.TERM, Event.TERM, Event.TERM], ["lingering", "draining", "quitting"]),
        (9.0, [Event.TERM, Event.QUIT], ["lingering", "quitting"]),
        (0.0, [Event.TERM, Event.QUIT, Event.QUIT], ["draining", "quitting", "killing"]),
        (0.0, [Event.QUIT, Event.TERM], ["quitting", "killing"]),
    ],
)
def test_a_further_signal_shortens_the_wait(
    delay_s: float, signals: list[Event], phases: list[str]
) -> None:
    """Whoever asks again means it."""
    shutdown = Shutdown()
    seen = []
    for number, event in enumerate(signals):
        assert send(shutdown, event, 10.0 + number, delay_s)
        seen.append(shutdown.phase.value)
    assert seen == phases


def test_an_echo_is_not_a_second_signal() -> None:
    """The same signal by two ways within a moment is one order; another signal is not."""
    shutdown = Shutdown()
    send(shutdown, Event.TERM, 10.0)
    assert not send(shutdown, Event.TERM, 10.05)
    assert shutdown.phase is Phase.DRAINING
    assert send(shutdown, Event.QUIT, 10.1)
    assert not send(shutdown, Event.QUIT, 10.2)
    assert shutdown.phase is Phase.QUITTING


def test_killing_is_the_end() -> None:
    """There is nothing left to shorten."""
    shutdown = Shutdown()
    send(shutdown, Event.QUIT, 1.0)
    send(shutdown, Event.QUIT, 2.0)
    assert not send(shutdown, Event.QUIT, 3.0)
    assert shutdown.phase is Phase.KILLING
