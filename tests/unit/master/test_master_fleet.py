"""What the master does about its workers, decided without any."""

from __future__ import annotations

import signal

import pytest

from gthreadsrv.master.backoff import FIRST_DELAY_S
from gthreadsrv.master.reload import Phase, Verdict
from tests.unit.master.simulated_fleet import KILLED, LOAD_ERROR, Simulation

CRASH = int(signal.SIGSEGV)


def test_boots_the_whole_fleet_at_once() -> None:
    """All workers are forked side by side, into the lowest slots."""
    fleet = Simulation(target=4)
    fleet.turn()
    assert [(step.vacancy.slot, step.reason) for step in fleet.spawned] == [
        (slot, "boot") for slot in range(4)
    ]
    fleet.boot()
    assert len(fleet.ready) == 4
    assert fleet.fleet.plan.phase is Phase.STEADY


def test_nothing_happens_in_a_quiet_fleet() -> None:
    """With heartbeats coming, no turn has anything to do."""
    fleet = Simulation().start()
    for _ in range(50):
        for worker in fleet.ready:
            fleet.heartbeats[worker.slot] = fleet.now
        fleet.turn(10.0)
    assert (fleet.spawned, fleet.signals, fleet.ends) == ([], [], [])


def test_a_dead_worker_is_replaced_at_once() -> None:
    """A worker that had served is replaced in its own slot, without a wait."""
    fleet = Simulation().start()
    victim = fleet.ready[2]
    assert fleet.die(victim).reason == "signal"
    [step] = fleet.spawned
    assert (step.vacancy.slot, step.vacancy.generation, step.reason) == (2, 2, "respawn")


def test_a_fleet_killed_as_a_whole_comes_back_as_a_whole() -> None:
    """After `kill -9` of everybody nobody is probed one by one."""
    fleet = Simulation().start()
    for worker in fleet.ready:
        fleet.die(worker)
    assert len(fleet.booting) == 4


def test_an_import_error_of_the_first_workers_ends_the_server() -> None:
    """Before anybody was ready, exit code 3 is for a person; any other death is retried."""
    fleet = Simulation(target=2)
    fleet.turn()
    first, second = fleet.booting
    assert fleet.die(first, CRASH).verdict is Verdict.RETRY
    assert fleet.die(second, LOAD_ERROR).verdict is Verdict.END_SERVER


def test_once_anybody_was_ready_an_import_error_is_retried() -> None:
    """The others serve on, and the wait grows."""
    fleet = Simulation(target=2).start()
    fleet.die(fleet.ready[0])
    waits = []
    for _ in range(4):
        [worker] = fleet.booting
        ended = fleet.die(worker, LOAD_ERROR)
        assert (ended.verdict, ended.reason) == (Verdict.RETRY, "boot_error")
        assert fleet.booting == [], "not before the wait is over"
        deadline = fleet.fleet.next_deadline(fleet.now)
        assert deadline is not None
        waits.append(deadline - fleet.now)
        fleet.turn(deadline - fleet.now)
    assert waits == pytest.approx([FIRST_DELAY_S * factor for factor in (1, 2, 4, 8)])
    assert len(fleet.ready) == 1


def test_a_crash_loop_is_probed_with_one_worker() -> None:
    """After failures in a row one worker tries; the rest follow when it is ready."""
    fleet = Simulation(target=4)
    fleet.turn()
    for _ in range(2):
        for worker in fleet.booting:
            fleet.die(worker, CRASH)
        fleet.turn(60.0)
    assert len(fleet.booting) == 1
    fleet.boot()
    assert len(fleet.booting) == 1
    fleet.turn(2.0)
    assert len(fleet.booting) == 3, "the first has proved stable, so the others come together"


def test_a_worker_that_stays_ends_the_streak() -> None:
    """The next crash, much later, is met without a wait again."""
    fleet = Simulation(target=1).start()
    fleet.die(fleet.ready[0])
    fleet.die(fleet.booting[0], CRASH)
    fleet.turn(1.0)
    fleet.boot()
    deadline = fleet.fleet.next_deadline(fleet.now)
    assert deadline == fleet.now + 1.0, "woken to take note of it"
    fleet.turn(1.0)
    assert fleet.fleet.backoff.streak == 0


def test_workers_that_die_just_after_boot_are_held_back() -> None:
    """Becoming ready is not enough to be forked in an endless loop."""
    fleet = Simulation(target=1).start()
    fleet.die(fleet.ready[0])
    for _ in range(6):
        if not fleet.booting:
            fleet.turn(fleet.fleet.backoff.retry_at - fleet.now)
        fleet.boot()
        fleet.die(fleet.ready[0], CRASH)
    assert fleet.fleet.backoff.retry_at - fleet.now > 1.0


def test_fork_failures_are_retried_later() -> None:
    """When the kernel refuses, the fleet waits instead of spinning."""
    fleet = Simulation(target=1).start()
    fleet.fleet.exited(fleet.ready[0], KILLED, 0, fleet.now)
    assert fleet.fleet.reconcile(fleet.now)
    fleet.fleet.spawn_failed(fleet.now)
    assert fleet.fleet.reconcile(fleet.now) == []
    assert fleet.fleet.next_deadline(fleet.now) == fleet.now + FIRST_DELAY_S


# Reload


def test_a_reload_keeps_what_autoscaling_wants_within_the_new_bounds() -> None:
    """Four of 2:8 stay four in 2:6, are three in 1:3 and five in 5."""
    for least, most, expected in ((2, 6, 4), (1, 3, 3), (5, 5, 5)):
        fleet = Simulation(target=2, most=8).start()
        fleet.fleet.resize(4)
        fleet.settle()
        fleet.fleet.reload(fleet.terms(least, most=most))
        fleet.settle()
        assert len(fleet.ready) == fleet.fleet.target == expected
        assert (fleet.fleet.bounds.least, fleet.fleet.bounds.most) == (least, most)


def test_a_reload_replaces_workers_one_by_one() -> None:
    """A spare slot boots first, and only then an old worker is told to leave, four times."""
    fleet = Simulation(target=4).start()
    fleet.fleet.reload(fleet.terms(4))
    fleet.turn()
    for number in range(4):
        assert len(fleet.booting) == 1
        assert len(fleet.ready) == 4
        assert len(fleet.signals) == number
        fleet.boot()
        assert len(fleet.signals) == number + 1
        assert fleet.signals[-1].signum is signal.SIGTERM
        fleet.leave()
    assert {step.reason for step in fleet.spawned} == {"reload"}
    assert [ended.reason for ended in fleet.ends] == ["reload"] * 4
    assert {worker.revision for worker in fleet.ready} == {1}
    assert fleet.reloads == [1]


def test_a_reload_that_does_not_boot_keeps_the_old_workers() -> None:
    """Its first worker fails: nobody was told to leave, and nothing waits afterwards."""
    fleet = Simulation(target=4).start()
    before = fleet.ready
    fleet.fleet.reload(fleet.terms(8))
    fleet.turn()
    assert fleet.die(fleet.booting[0], LOAD_ERROR).verdict is Verdict.GIVE_UP_REVISION
    assert fleet.ready == before
    assert (fleet.signals, fleet.booting, fleet.reloads) == ([], [], [])
    assert fleet.fleet.target == 4
    assert fleet.fleet.backoff.streak == 0
    fleet.die(before[0])
    assert fleet.booting[0].revision == 0, "a respawn is of the old revision"


def test_a_reload_changes_the_size_once_it_boots() -> None:
    """More workers come after the first new one is ready; fewer leave no earlier."""
    more = Simulation(target=2).start()
    more.fleet.reload(more.terms(4))
    more.turn()
    assert len(more.booting) == 1
    more.settle()
    assert (len(more.ready), more.reloads) == (4, [1])

    fewer = Simulation(target=4).start()
    fewer.fleet.reload(fewer.terms(2))
    fewer.turn()
    assert (len(fewer.booting), len(fewer.ready)) == (1, 4)
    fewer.settle()
    assert (len(fewer.ready), fewer.reloads) == (2, [1])


def test_a_second_reload_restarts_the_first() -> None:
    """The superseded worker that is booting is dropped, and only the newest counts."""
    fleet = Simulation(target=2).start()
    fleet.fleet.reload(fleet.terms(2))
    fleet.turn()
    [superseded] = fleet.booting
    fleet.fleet.reload(fleet.terms(2))
    fleet.turn()
    assert superseded in fleet.draining
    assert [worker.revision for worker in fleet.booting] == [2]
    assert len(fleet.ready) == 2
    fleet.settle()
    assert fleet.reloads == [2]
    assert {worker.revision for worker in fleet.ready} == {2}


def test_a_worker_lost_during_a_reload_is_replaced_too() -> None:
    """Its place is filled beside the one that is trying."""
    fleet = Simulation(target=3).start()
    fleet.fleet.reload(fleet.terms(3))
    fleet.turn()
    fleet.die(fleet.ready[0])
    assert len(fleet.ready) + len(fleet.booting) >= 3
    fleet.settle()
    assert len(fleet.ready) == 3
    assert fleet.reloads == [1]


def test_long_drains_do_not_pile_up() -> None:
    """Old workers with long requests use up the spare slots, and the reload waits for them."""
    fleet = Simulation(target=4).start()
    for _ in range(3):
        fleet.fleet.reload(fleet.terms(4))
        for _ in range(12):
            fleet.turn(0.1)
            fleet.boot()
    assert len(fleet.fleet.registry) <= 4 + 1 + 2
    assert len(fleet.ready) >= 4
    fleet.settle()
    assert {worker.revision for worker in fleet.ready} == {3}


def test_a_reload_before_the_first_boot() -> None:
    """Workers that are booting, or hang, make way: somebody has mended something."""
    fleet = Simulation(target=2)
    fleet.turn()
    hanging = fleet.booting
    fleet.fleet.reload(fleet.terms(3))
    fleet.turn()
    assert fleet.draining == hanging
    assert [worker.revision for worker in fleet.booting] == [1, 1, 1]
    fleet.settle()
    assert len(fleet.ready) == 3


def test_an_old_worker_that_boots_just_before_the_reload_reaches_it() -> None:
    """It starts the server, and the newer revision follows as in any reload."""
    fleet = Simulation(target=1)
    fleet.turn()
    [worker] = fleet.booting
    fleet.fleet.reload(fleet.terms(1))
    fleet.boot(worker)
    assert (fleet.ready, [new.revision for new in fleet.booting]) == ([worker], [1])
    fleet.settle()
    assert fleet.reloads == [1]


# Recycling and size


def test_a_worker_that_asks_is_replaced_first() -> None:
    """With one worker there is never none: the new one is ready before the old one leaves."""
    fleet = Simulation(target=1).start()
    [old] = fleet.ready
    fleet.fleet.retire(old, "max_requests")
    fleet.turn()
    assert (fleet.ready, fleet.signals) == ([old], [])
    assert fleet.spawned[0].reason == "recycle"
    fleet.boot()
    assert fleet.draining == [old]
    assert fleet.die(old, 0).reason == "max_requests"


def test_workers_that_ask_together_go_one_at_a_time() -> None:
    """However many ask, one replacement boots at a time."""
    fleet = Simulation(target=4).start()
    for worker in fleet.ready:
        fleet.fleet.retire(worker, "max_requests")
    for _ in range(4):
        fleet.turn()
        assert len(fleet.booting) == 1
        assert len(fleet.ready) == 4
        fleet.boot()
        fleet.leave()
    fleet.turn()
    assert len(fleet.ready) == 4
    assert fleet.booting == []
    assert [ended.reason for ended in fleet.ends] == ["max_requests"] * 4


def test_a_failing_replacement_leaves_the_old_worker_alone() -> None:
    """It goes on serving until a replacement is ready."""
    fleet = Simulation(target=1).start()
    [old] = fleet.ready
    fleet.fleet.retire(old, "max_rss")
    fleet.turn()
    for _ in range(5):
        fleet.die(fleet.booting[0], LOAD_ERROR)
        fleet.heartbeats[old.slot] = fleet.now + 60.0
        fleet.turn(60.0)
    assert fleet.ready == [old]


def test_more_workers() -> None:
    """TTIN's worker is counted as scaled up."""
    fleet = Simulation(target=2).start()
    fleet.fleet.resize(3)
    fleet.turn()
    assert [step.reason for step in fleet.spawned] == ["scale_up"]
    assert fleet.booting[0].slot == 2


def test_fewer_workers_free_the_highest_slot() -> None:
    """The labels that stay are the lowest; a worker that is still booting goes first."""
    fleet = Simulation(target=3).start()
    fleet.fleet.resize(2)
    fleet.turn()
    assert [worker.slot for worker in fleet.draining] == [2]
    assert fleet.die(fleet.draining[0], 0).reason == "scale_down"

    fleet.fleet.resize(3)
    fleet.turn()
    [young] = fleet.booting
    fleet.fleet.resize(2)
    fleet.turn()
    assert fleet.draining == [young]
    assert len(fleet.ready) == 2


def test_a_worker_that_asked_to_leave_is_the_one_given_up() -> None:
    """Scaling down takes who is due to be replaced anyway."""
    fleet = Simulation(target=3).start()
    fleet.fleet.retire(fleet.ready[0], "max_lifetime")
    fleet.fleet.resize(2)
    fleet.turn()
    assert [worker.slot for worker in fleet.draining] == [0]
    assert fleet.booting == []


# Silence and deadlines


def test_a_silent_worker_is_aborted_then_killed() -> None:
    """ABRT for its stacks at the timeout, KILL a second later; its replacement does not wait."""
    fleet = Simulation(target=2, timeout_s=30.0).start()
    silent, well = fleet.ready
    start = fleet.now
    fleet.heartbeats = {silent.slot: start, well.slot: start}
    assert fleet.fleet.next_deadline(fleet.now) == start + 30.0
    fleet.heartbeats[well.slot] = start + 29.5
    fleet.turn(30.0)
    assert [(step.worker, step.signum) for step in fleet.signals] == [(silent, signal.SIGABRT)]
    assert len(fleet.booting) == 1
    fleet.turn(0.9)
    assert len(fleet.signals) == 1
    fleet.turn(0.1)
    assert fleet.signals[-1].signum is signal.SIGKILL
    fleet.turn(5.0)
    assert len(fleet.signals) == 2, "killed once"
    assert fleet.die(silent).reason == "heartbeat"


def test_timeout_zero_watches_nobody() -> None:
    """0 is never."""
    fleet = Simulation(target=1, timeout_s=0.0).start()
    assert fleet.fleet.next_deadline(fleet.now) is None
    fleet.turn(1e6)
    assert fleet.signals == []


def test_a_standstill_of_the_machine_is_forgiven() -> None:
    """After a suspend everybody looks silent; the time counts from the wake-up."""
    fleet = Simulation(target=1, timeout_s=30.0).start()
    fleet.now += 3600.0
    fleet.fleet.forgive(fleet.now)
    fleet.turn()
    assert fleet.signals == []
    fleet.turn(30.0)
    assert len(fleet.signals) == 1


def test_a_boot_is_not_judged_by_heartbeats() -> None:
    """An import may take as long as it likes, unless --boot-timeout says otherwise."""
    patient = Simulation(target=1, timeout_s=3.0)
    patient.turn()
    patient.turn(600.0)
    assert patient.signals == []

    strict = Simulation(target=1, boot_timeout_s=5.0)
    strict.turn()
    assert strict.fleet.next_deadline(strict.now) == strict.now + 5.0
    strict.turn(5.0)
    assert [step.signum for step in strict.signals] == [signal.SIGABRT]
    [late] = strict.draining
    ended = strict.die(late, int(signal.SIGABRT))
    assert (ended.reason, ended.verdict) == ("boot_error", Verdict.RETRY)
    assert strict.fleet.backoff.streak == 1


def test_a_reload_that_hangs_in_its_import_is_given_up() -> None:
    """--boot-timeout ends the try, and the old workers go on."""
    fleet = Simulation(target=2, boot_timeout_s=5.0).start()
    fleet.fleet.reload(fleet.terms(2, boot_timeout_s=5.0))
    fleet.turn()
    fleet.turn(5.0)
    assert fleet.die(fleet.draining[0], int(signal.SIGABRT)).verdict is Verdict.GIVE_UP_REVISION
    assert len(fleet.ready) == 2


def test_a_drain_ends_by_force_at_its_deadline() -> None:
    """Past --graceful-timeout the worker is killed, for the same reason it was told to leave."""
    fleet = Simulation(target=1, graceful_timeout_s=7.0).start()
    fleet.fleet.reload(fleet.terms(1))
    fleet.turn()
    fleet.boot()
    [old] = fleet.draining
    fleet.turn(6.9)
    assert [step.signum for step in fleet.signals] == [signal.SIGTERM]
    fleet.turn(0.1)
    assert [step.signum for step in fleet.signals] == [signal.SIGTERM, signal.SIGKILL]
    assert fleet.die(old).reason == "reload"


def test_a_word_that_comes_too_late() -> None:
    """A worker told to leave while booting stays told."""
    fleet = Simulation(target=1)
    fleet.turn()
    [worker] = fleet.booting
    fleet.fleet.stop(fleet.now, 10.0, quick=False)
    fleet.fleet.ready(worker, fleet.now)
    assert fleet.draining == [worker]


# Stopping


def test_a_graceful_stop() -> None:
    """Ready workers get TERM and the time there is, booting ones end at once; nobody comes back."""
    fleet = Simulation(target=3).start()
    fleet.fleet.resize(4)
    fleet.turn()
    [booting] = fleet.booting
    steps = fleet.fleet.stop(fleet.now, 20.0, quick=False)
    assert {step.signum for step in steps} == {signal.SIGTERM}
    assert len(steps) == 4
    assert booting.departure is not None
    assert booting.departure.kill_at <= fleet.now + 2.0
    fleet.leave()
    fleet.turn(60.0)
    assert len(fleet.fleet.registry) == 0
    assert {ended.reason for ended in fleet.ends} == {"shutdown"}
    assert fleet.fleet.next_deadline(fleet.now) is None


def test_a_quick_stop_after_a_graceful_one() -> None:
    """Those told already are told again, and get no more time than the shorter of the two."""
    fleet = Simulation(target=2, graceful_timeout_s=30.0).start()
    fleet.fleet.stop(fleet.now, 30.0, quick=False)
    steps = fleet.fleet.stop(fleet.now, 2.0, quick=True)
    assert [step.signum for step in steps] == [signal.SIGQUIT] * 2
    fleet.turn(1.9)
    assert fleet.signals == []
    fleet.turn(0.1)
    assert [step.signum for step in fleet.signals] == [signal.SIGKILL] * 2


def test_a_quick_stop_spares_booting_workers_the_core_file() -> None:
    """QUIT still has its default action there, so TERM is sent."""
    fleet = Simulation(target=1)
    fleet.turn()
    [step] = fleet.fleet.stop(fleet.now, 2.0, quick=True)
    assert step.signum is signal.SIGTERM


def test_a_stop_during_a_reload() -> None:
    """Old and new workers leave alike; the one that was leaving keeps its reason."""
    fleet = Simulation(target=2).start()
    fleet.fleet.reload(fleet.terms(2))
    fleet.turn()
    fleet.boot()
    assert len(fleet.draining) == 1
    fleet.fleet.stop(fleet.now, 20.0, quick=False)
    fleet.turn()
    fleet.leave()
    assert sorted(ended.reason for ended in fleet.ends) == [
        "reload", "shutdown", "shutdown", "shutdown"
    ]  # fmt: skip
    assert fleet.reloads == []


def test_an_empty_fleet_is_possible() -> None:
    """No exporter is wanted when metrics are off, and a reload may want one, or none again."""
    fleet = Simulation(target=0, capacity=3)
    fleet.turn()
    assert fleet.spawned == []
    fleet.fleet.reload(fleet.terms(1))
    fleet.turn()
    fleet.boot()
    assert len(fleet.ready) == 1
    fleet.fleet.reload(fleet.terms(0))
    fleet.settle()
    assert len(fleet.fleet.registry) == 0


def test_a_fleet_called_back_does_not_wait_for_those_sent_away() -> None:
    """Eight that finish long requests hold their slots; the two wanted now get others at once."""
    fleet = Simulation(target=2, most=8).start()
    fleet.fleet.resize(8)
    fleet.turn()
    fleet.boot()
    fleet.fleet.resize(0)
    fleet.turn()
    assert len(fleet.draining) == 8
    fleet.fleet.resize(2)
    fleet.turn()
    assert [worker.slot for worker in fleet.booting] == [8, 9]
    fleet.boot()
    for _ in range(5):  # back and forth is bounded all the same
        fleet.fleet.resize(0)
        fleet.turn()
        fleet.fleet.resize(2)
        fleet.turn()
    assert len(fleet.fleet.registry) <= 8 + 1 + 4
    fleet.leave()
    fleet.settle()
    assert len(fleet.ready) == 2


def test_a_revision_that_wants_nobody_is_in_force_at_once() -> None:
    """There is no worker to try it with; nothing of the old one is kept for a way back."""
    fleet = Simulation(target=1).start()
    revision = fleet.fleet.reload(fleet.terms(0))
    fleet.turn()
    assert fleet.fleet.plan.committed == revision
    assert (fleet.fleet.target, fleet.ready, fleet.booting) == (0, [], [])
    assert fleet.reloads == [revision]
    again = fleet.fleet.reload(fleet.terms(1))
    fleet.fleet.resize(1)
    fleet.turn()
    fleet.boot()
    assert [worker.revision for worker in fleet.ready] == [again]


def test_workers_no_longer_wanted_leave_no_reason_behind() -> None:
    """A crash long after a growth that was called off is not another step up."""
    fleet = Simulation(target=1, most=8).start()
    fleet.fleet.resize(6)
    fleet.fleet.resize(1)
    fleet.die(fleet.ready[0])
    assert [step.reason for step in fleet.spawned] == ["respawn"]


def test_a_size_asked_for_before_the_first_boot_stays() -> None:
    """TTIN while the first worker boots is no less an order than afterwards."""
    fleet = Simulation(target=1)
    fleet.turn()
    fleet.fleet.resize(2)
    fleet.turn()
    first, second = fleet.booting
    fleet.boot(first)
    fleet.boot(second)
    assert len(fleet.ready) == 2
