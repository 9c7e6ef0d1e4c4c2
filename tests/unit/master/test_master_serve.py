"""The master with real processes and real signals, over workers that only pretend."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.unit.master.conftest import Start, accepts
from tests.unit.master.fake_server import alive, children

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/stat").exists(), reason="only /proc tells what processes there are"
)


def test_a_graceful_life(start: Start) -> None:
    """Boots, listens, tells its workers to leave at TERM, and exits 0 with nothing left behind."""
    master = start()
    pids = master.wait_pids(2)
    address = master.address()
    assert accepts(address)
    assert master.stop() == 0
    assert sorted(master.told()) == sorted(
        [f"SIGTERM {pids[0]}", f"SIGTERM {pids[1]}", "master exits False"]
    )
    assert {line["reason"] for line in master.logged("worker left")} == {"shutdown"}
    assert not accepts(address)
    assert not any(alive(pid) for pid in pids)
    assert master.noise == []


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGQUIT])
def test_a_quick_stop(start: Start, signum: signal.Signals) -> None:
    """INT and QUIT tell workers QUIT; those that do not listen are killed within two seconds."""
    master = start("stubborn")
    pids = master.wait_pids(2)
    started = time.monotonic()
    assert master.stop(signum) == 0
    assert 1.5 < time.monotonic() - started < 6
    assert f"SIGQUIT {pids[0]}" in master.told()
    assert len(master.logged("worker killed")) == 2


def test_the_graceful_timeout_is_kept(start: Start) -> None:
    """Workers that do not leave are killed at --graceful-timeout, and the exit code is 0."""
    master = start("stubborn", graceful_timeout=0.5)
    master.wait_pids(2)
    started = time.monotonic()
    assert master.stop() == 0
    assert 0.4 < time.monotonic() - started < 5


def test_a_second_term_shortens_the_stop(start: Start) -> None:
    """Whoever asks again, and is not an echo, gets a quick stop."""
    master = start("stubborn", graceful_timeout=60.0)
    pids = master.wait_pids(2)
    master.send_signal(signal.SIGTERM)
    master.wait(lambda: f"SIGTERM {pids[0]}" in master.told())
    time.sleep(0.4)  # not synchronisation: an echo is what comes sooner
    master.send_signal(signal.SIGTERM)
    assert master.wait_exit() == 0
    assert f"SIGQUIT {pids[0]}" in master.told()


def test_the_drain_delay(start: Start) -> None:
    """Workers hear of TERM after the delay, and until then new clients get in."""
    master = start(drain_delay=0.6)
    pids = master.wait_pids(2)
    address = master.address()
    master.send_signal(signal.SIGTERM)
    began = time.monotonic()
    master.wait_log("lingering")
    assert accepts(address)
    assert master.told() == []
    master.wait(lambda: f"SIGTERM {pids[0]}" in master.told())
    assert time.monotonic() - began >= 0.5
    assert master.wait_exit() == 0


def test_unloadable_application(start: Start) -> None:
    """The first workers' import error is told once, with its traceback, and the exit code is 3."""
    master = start("unloadable", workers=4)
    assert master.wait_exit() == 3
    [line] = master.logged("worker could not boot")
    assert line["detail"] == "no such thing"
    assert "ValueError: thing" in line["exception"]
    assert line["reason"] == "boot_error"


def test_a_crashing_boot_is_retried(start: Start) -> None:
    """A crash before ready is no reason to give up: it backs off, and recovers."""
    master = start("crash", workers=1)
    lines = master.wait_log("worker could not boot", 3)
    assert {line["reason"] for line in lines} == {"crash"}
    waits = [line["retry_in_seconds"] for line in lines[:3]]
    assert waits == sorted(waits) and waits[2] > 2 * waits[0]
    master.behave("good")
    master.wait_pids(1)
    assert master.stop() == 0


def test_a_bug_in_the_worker_is_logged_and_never_reaches_the_master(start: Start) -> None:
    """An exception out of the worker's code ends that process alone, with a line."""
    master = start("raise", workers=1)
    [line, *_] = master.wait_log("process failed")
    assert "a bug of ours" in line["exception"]
    assert line["role"] == "worker"
    assert line["pid"] != master.process.pid
    master.behave("good")
    master.wait_pids(1)
    assert master.stop() == 0
    assert master.told().count("master exits False") == 1, "no child came back"


def test_a_killed_worker_is_replaced_in_its_slot(start: Start) -> None:
    """After kill -9 of everybody: the same slots, new generations, within a second."""
    master = start()
    for pid in master.wait_pids(2):
        os.kill(pid, signal.SIGKILL)
    began = time.monotonic()
    master.wait_log("worker ready", 4)
    assert time.monotonic() - began < 1.0
    seen = {(line["worker"], line["generation"]) for line in master.logged("worker ready")}
    assert seen == {(0, 1), (1, 1), (0, 2), (1, 2)}
    assert {line["reason"] for line in master.logged("worker died")} == {"signal"}
    assert master.stop() == 0


def test_a_silent_worker_is_aborted_and_replaced(start: Start) -> None:
    """No heartbeat for --timeout: ABRT, then a new worker; the exit counts as heartbeat."""
    master = start("mute", workers=1, timeout=0.5)
    [old] = master.wait_pids(1)
    master.behave("good")
    [line] = master.wait_log("worker silent")
    assert line["worker_pid"] == old
    [left] = master.wait_log("worker left", reason="heartbeat")
    assert left["status"] == "SIGABRT"
    master.wait_pids(1)
    assert master.stop() == 0


def test_a_stopped_worker_is_killed(start: Start) -> None:
    """SIGSTOP leaves ABRT pending, so KILL comes a second later."""
    master = start(workers=1, timeout=0.5)
    [old] = master.wait_pids(1)
    os.kill(old, signal.SIGSTOP)
    [left] = master.wait_log("worker left", reason="heartbeat")
    assert left["status"] == "SIGKILL"
    assert master.wait_pids(1) != [old]
    assert master.stop() == 0


def test_a_boot_that_hangs(start: Start) -> None:
    """--boot-timeout ends an import that never comes back, and it is tried again."""
    master = start("hang", workers=1, boot_timeout=0.5)
    master.wait_log("worker silent", reason="boot_error")
    master.behave("good")
    master.wait_pids(1)
    assert master.stop() == 0


def test_recycling(start: Start) -> None:
    """A worker that asks is replaced first, then told to leave, and counted by its reason."""
    master = start("retire", workers=2)
    master.wait_log("worker left", 2, reason="max_requests")
    master.wait_pids(2)
    events = [
        line["event"]
        for line in master.lines
        if line["event"] in {"worker ready", "worker told to leave"}
    ]
    assert events == [
        "worker ready", "worker ready",
        "worker ready", "worker told to leave",
        "worker ready", "worker told to leave",
    ]  # fmt: skip
    assert master.stop() == 0


def test_size_by_signal(start: Start) -> None:
    """TTIN adds one, TTOU takes one away, the last one stays, and HUP goes back to the file."""
    master = start(workers=1)
    master.wait_pids(1)
    master.send_signal(signal.SIGTTIN)
    master.wait_pids(2)
    master.send_signal(signal.SIGTTOU)
    master.wait_pids(1)
    master.send_signal(signal.SIGTTOU)
    master.wait_log("the last worker stays")
    master.send_signal(signal.SIGTTIN)
    master.wait_pids(2)
    master.send_signal(signal.SIGHUP)
    master.wait_log("reloaded")
    master.wait_pids(1)
    assert master.stop() == 0


def test_usr1_reaches_workers(start: Start) -> None:
    """USR1 is passed on, and harms neither ready workers nor one that is still booting."""
    master = start()
    pids = master.wait_pids(2)
    master.behave("hang")
    master.send_signal(signal.SIGTTIN)
    [_, _, young] = master.wait_log("worker spawned", 3)
    master.send_signal(signal.SIGUSR1)
    master.wait(lambda: {f"SIGUSR1 {pid}" for pid in pids} <= set(master.told()))
    assert alive(young["worker_pid"])
    assert master.stop() == 0


def test_a_lost_master_is_noticed_by_everybody(start: Start) -> None:
    """Each worker's line ends when the master dies: no sibling holds a copy of it."""
    master = start(workers=4)
    pids = master.wait_pids(4)
    master.process.kill()
    master.process.wait()
    master.wait(lambda: not any(alive(pid) for pid in pids))
    assert sorted(master.told()) == sorted(f"orphaned {pid}" for pid in pids)


def test_children_hold_nothing_of_the_masters(start: Start) -> None:
    """A worker forked last has no more descriptors open than the one forked first."""
    master = start("fds", workers=6)
    master.wait_pids(6)
    master.wait(lambda: len(master.told()) == 6)
    assert len({line.split()[2] for line in master.told()}) == 1
    assert master.stop() == 0


def test_children_draw_different_random_numbers(start: Start) -> None:
    """Forked from one master, workers do not share a random sequence."""
    master = start("random", workers=4)
    master.wait(lambda: len(master.told()) == 4)
    assert len(set(master.told())) == 4
    assert master.stop() == 0


def test_atexit_handlers_of_workers_run(start: Start) -> None:
    """What the application registers is run when a worker leaves."""
    master = start("atexit", workers=1)
    [pid] = master.wait_pids(1)
    assert master.stop() == 0
    assert f"atexit {pid}" in master.told()


def test_unknown_children_are_reaped_silently(start: Start) -> None:
    """As PID 1 would inherit them: no zombie stays, and no line is written."""
    master = start()
    master.wait_pids(2)
    master.configure(orphan=True)
    master.send_signal(signal.SIGHUP)
    master.wait_log("reloaded")
    master.wait(lambda: len(children(master.process.pid)) == 2)
    assert master.stop() == 0
    known = {line["worker_pid"] for line in master.lines if "worker_pid" in line}
    assert known == {line["worker_pid"] for line in master.logged("worker ready")}


def test_an_idle_master_sleeps(start: Start) -> None:
    """Nothing happens, nothing wakes it."""
    master = start(workers=2)
    master.wait_pids(2)

    def wake_ups() -> int:
        text = Path(f"/proc/{master.process.pid}/status").read_text()
        [line] = [line for line in text.splitlines() if line.startswith("voluntary_ctxt")]
        return int(line.split()[1])

    time.sleep(0.2)  # not synchronisation: what boot left to do is over by then
    before = wake_ups()
    time.sleep(1.0)  # the measured time
    assert wake_ups() == before
    assert master.stop() == 0
