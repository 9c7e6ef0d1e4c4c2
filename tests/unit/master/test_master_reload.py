"""A reload step by step, without a process."""

from __future__ import annotations

import itertools

import pytest

from gthreadsrv.master.reload import TRANSITIONS, Event, Phase, ReloadPlan, Verdict


def steady() -> ReloadPlan:
    """A plan whose first revision has booted."""
    plan = ReloadPlan()
    plan.booted(0)
    return plan


def test_the_table_has_no_dead_ends() -> None:
    """From every phase a reload can be asked for, and STEADY can be reached."""
    for phase in Phase:
        assert (phase, Event.REQUESTED) in TRANSITIONS
        reached = {phase}
        for _ in Phase:
            reached |= {after for (before, _), after in TRANSITIONS.items() if before in reached}
        assert Phase.STEADY in reached


def test_a_good_reload() -> None:
    """One worker tries; once it is ready the revision is the one; settled, it has succeeded."""
    plan = steady()
    assert plan.requested() == 1
    assert (plan.phase, plan.desired, plan.committed) == (Phase.TRYING, 1, 0)
    assert plan.settled() is None
    assert plan.booted(1)
    assert (plan.phase, plan.committed) == (Phase.ROLLING, 1)
    assert not plan.booted(1), "the next workers decide nothing"
    assert plan.settled() == 1
    assert plan.phase is Phase.STEADY
    assert plan.settled() is None, "told once"


@pytest.mark.parametrize("load_error", [True, False])
def test_a_revision_that_does_not_boot_is_given_up(load_error: bool) -> None:
    """The old revision is wanted again, and nothing is reported as a success."""
    plan = steady()
    plan.requested()
    assert plan.boot_failed(1, load_error=load_error) is Verdict.GIVE_UP_REVISION
    assert plan.desired == 0
    assert plan.settled() is None
    assert plan.phase is Phase.STEADY


def test_numbers_are_never_used_again() -> None:
    """A worker of a revision given up cannot be taken for one of the next."""
    plan = steady()
    plan.requested()
    plan.boot_failed(1, load_error=True)
    assert plan.requested() == 2


def test_a_failure_while_rolling_is_retried() -> None:
    """The code has booted before: what fails now is the surroundings' fault."""
    plan = steady()
    plan.requested()
    plan.booted(1)
    assert plan.boot_failed(1, load_error=True) is Verdict.RETRY
    assert plan.desired == 1


def test_a_failure_when_steady_is_retried() -> None:
    """A respawn that cannot import the application never ends the server."""
    assert steady().boot_failed(0, load_error=True) is Verdict.RETRY


def test_a_second_request_supersedes_the_first() -> None:
    """The newest revision counts; a worker of the superseded one neither commits nor fails it."""
    plan = steady()
    plan.requested()
    assert plan.requested() == 2
    assert not plan.booted(1)
    assert plan.boot_failed(1, load_error=True) is Verdict.RETRY
    assert (plan.phase, plan.desired) == (Phase.TRYING, 2)
    plan.booted(2)
    assert plan.settled() == 2


def test_a_bad_request_while_rolling_falls_back_on_the_newest_good_one() -> None:
    """What had booted before the bad request is rolled on to its end."""
    plan = steady()
    plan.requested()
    plan.booted(1)
    plan.requested()
    plan.boot_failed(2, load_error=True)
    assert (plan.phase, plan.desired) == (Phase.ROLLING, 1)


def test_the_first_boot_ends_the_server_only_for_the_applications_error() -> None:
    """What cannot be imported is for a person; a crash may be chance."""
    plan = ReloadPlan()
    assert plan.boot_failed(0, load_error=False) is Verdict.RETRY
    assert plan.boot_failed(0, load_error=True) is Verdict.END_SERVER


def test_a_request_before_anybody_was_ready() -> None:
    """It is still the first boot, of the newer revision."""
    plan = ReloadPlan()
    plan.requested()
    assert plan.phase is Phase.FIRST_BOOT
    assert plan.boot_failed(0, load_error=True) is Verdict.RETRY
    assert plan.boot_failed(1, load_error=True) is Verdict.END_SERVER
    assert plan.booted(1)
    assert (plan.phase, plan.committed, plan.desired) == (Phase.ROLLING, 1, 1)


def test_an_older_revision_that_boots_first_starts_the_server() -> None:
    """The request on its way is an ordinary reload from then on."""
    plan = ReloadPlan()
    plan.requested()
    assert plan.booted(0)
    assert (plan.phase, plan.committed, plan.desired) == (Phase.TRYING, 0, 1)
    assert plan.boot_failed(1, load_error=True) is Verdict.GIVE_UP_REVISION


def test_no_sequence_of_events_breaks_the_plan() -> None:
    """Whatever happens in whatever order, the revision wanted is the committed or the newest."""

    def apply(plan: ReloadPlan, event: str) -> None:
        match event:
            case "request":
                plan.requested()
            case "boot newest":
                plan.booted(plan.newest)
            case "boot old":
                plan.booted(0)
            case "fail newest":
                plan.boot_failed(plan.newest, load_error=True)
            case "fail old":
                plan.boot_failed(0, load_error=False)
            case "settle":
                plan.settled()

    events = ("request", "boot newest", "boot old", "fail newest", "fail old", "settle")
    for sequence in itertools.product(events, repeat=5):
        plan = ReloadPlan()
        for event in sequence:
            apply(plan, event)
            assert plan.desired in {plan.committed, plan.newest}
            if plan.phase in {Phase.STEADY, Phase.ROLLING}:
                assert plan.desired == plan.committed


def test_a_reload_during_the_first_boot_is_reported_like_any_other() -> None:
    """Whoever asked for it hears that it is done, once."""
    plan = ReloadPlan()
    plan.requested()
    assert plan.booted(1)
    assert (plan.phase, plan.committed) == (Phase.ROLLING, 1)
    assert plan.settled() == 1
    assert plan.settled() is None
    assert plan.phase is Phase.STEADY
