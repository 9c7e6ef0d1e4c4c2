"""The master's single parts that touch the process: signals, lines, pid file, identity, fork."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import signal
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gthreadsrv.errors import ConfigError, GthreadsrvError, StopRequestedError
from gthreadsrv.master.identity import Identity, resolve
from gthreadsrv.master.pidfile import PidFile
from gthreadsrv.master.reap import OomCounter, reap
from gthreadsrv.master.signals import HANDLED, SignalInbox
from gthreadsrv.master.spawn import spawn
from gthreadsrv.master.switchboard import Switchboard
from gthreadsrv.settings import Settings
from gthreadsrv.worker.channel import WorkerReady, open_channel

# Plugins of the test run have threads; the master has none when it forks.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")


@pytest.fixture
def signals() -> Iterator[SignalInbox]:
    """This process's signals, given back at the end."""
    before = {number: signal.getsignal(number) for number in HANDLED}
    inbox = SignalInbox()
    yield inbox
    inbox.close()
    # Between here and the exit a second TERM must not change how the process ends.
    for number in HANDLED:
        os.kill(os.getpid(), number)
    for number, handler in before.items():
        signal.signal(number, handler)


# Signals and lines


def test_signals_wake_the_switchboard_and_are_taken_in_order(signals: SignalInbox) -> None:
    """Handlers only take notes; the loop reads them when it wakes."""
    switchboard = Switchboard(signals)
    began = time.monotonic()
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGHUP):
        os.kill(os.getpid(), number)
    assert switchboard.wait(30.0) == []
    assert time.monotonic() - began < 5
    assert signals.take() == [signal.SIGHUP, signal.SIGTERM, signal.SIGHUP]
    assert signals.take() == []
    assert switchboard.wait(0.0) == []


def test_no_signal_is_lost_when_the_pipe_is_full(signals: SignalInbox) -> None:
    """The pipe only wakes; what came is remembered elsewhere."""
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(signals._write_fd, b"x" * 4096)
    os.kill(os.getpid(), signal.SIGTERM)
    assert signals.take() == [signal.SIGTERM]


def test_an_import_can_be_interrupted(signals: SignalInbox) -> None:
    """TERM, also one that came before, ends it; HUP waits; outside nothing is raised."""
    with signals.interruptible():
        os.kill(os.getpid(), signal.SIGHUP)
    with pytest.raises(StopRequestedError), signals.interruptible():
        os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(StopRequestedError), signals.interruptible():
        pytest.fail("not begun: it is stopped already")
    os.kill(os.getpid(), signal.SIGINT)
    assert signals.take() == [signal.SIGHUP, signal.SIGTERM, signal.SIGINT]


def test_signals_held_back_arrive_afterwards(signals: SignalInbox) -> None:
    """Around a fork nothing is delivered, and nothing is lost."""
    with signals.held_back():
        signal.raise_signal(signal.SIGUSR1)
        assert signals.take() == []
    assert signals.take() == [signal.SIGUSR1]


def test_an_ended_line_is_not_watched_any_more(signals: SignalInbox) -> None:
    """It is heard to its end, and then does not wake the loop for ever."""
    switchboard = Switchboard(signals)
    master_end, worker_end = open_channel()
    switchboard.connect(42, master_end)
    worker_end.send(WorkerReady())
    worker_end.close()
    assert switchboard.wait(1.0) == [42]
    assert switchboard.hear(42) == [WorkerReady()]
    assert switchboard.wait(0.0) == []
    assert switchboard.hear(42) == []
    switchboard.disconnect(42)
    switchboard.disconnect(42)
    assert master_end.fileno() == -1


def test_the_wait_is_not_cut_short(signals: SignalInbox) -> None:
    """A deadline half a millisecond away is not met by spinning."""
    began = time.monotonic()
    Switchboard(signals).wait(0.0005)
    assert time.monotonic() - began >= 0.0005


# Children


def test_a_child_exits_with_what_it_returns(signals: SignalInbox) -> None:
    """The status, the usage, and the handlers of the system, all as they should be."""

    def child() -> int:
        alike = all(signal.getsignal(n) is signal.SIG_DFL for n in (signal.SIGTERM, signal.SIGCHLD))
        return 7 if alike else 1

    pid = spawn(child, signals)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    [gone] = [gone for gone in reap() if gone.pid == pid]
    assert os.waitstatus_to_exitcode(gone.status) == 7
    assert gone.usage.ru_utime >= 0


@pytest.mark.parametrize(("argument", "code"), [(None, 0), (5, 5), ("a message", 1)])
def test_sys_exit_in_a_child(signals: SignalInbox, argument: object, code: int) -> None:
    """SystemExit means what it means to the interpreter."""

    def child() -> int:
        raise SystemExit(argument)

    pid = spawn(child, signals)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == code


def test_a_child_may_be_killed_before_it_does_anything(signals: SignalInbox) -> None:
    """A signal sent right after the fork is the child's, not taken for the master's."""
    pid = spawn(lambda: time.sleep(60) or 0, signals)
    os.kill(pid, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGTERM
    assert signal.SIGTERM not in signals.take()


def test_nothing_to_reap() -> None:
    """Without children there is nothing, and no error."""
    assert list(reap()) == []


def test_oom_kills_are_counted_by_their_difference() -> None:
    """What happened before the start, or an exit before this one, is not blamed on this one."""
    readings = iter([5, 5, 7, 7, 0])
    counter = OomCounter(lambda: next(readings))
    assert [counter.moved() for _ in range(4)] == [0, 2, 0, 0]


# The pid file


def test_a_stale_pid_file_is_replaced(tmp_path: Path, signals: SignalInbox) -> None:
    """A dead process's file, an empty one or nonsense does not stand in the way."""
    dead = spawn(lambda: 0, signals)
    os.waitpid(dead, 0)
    path = tmp_path / "pid"
    for content in (f"{dead}\n", "", "nonsense", "-1", "99999999999999999999"):
        path.write_text(content)
        pidfile = PidFile(str(path))
        assert path.read_text() == f"{os.getpid()}\n"
        assert stat.S_IMODE(path.stat().st_mode) & 0o133 == 0
        pidfile.remove()
        assert not path.exists()
    assert list(tmp_path.iterdir()) == [], "no draft stays"


def test_a_live_pid_file_is_refused(tmp_path: Path) -> None:
    """Another server's file is not taken; our own, left by an earlier start as pid 1, is."""
    path = tmp_path / "pid"
    path.write_text(str(os.getppid()))
    with pytest.raises(GthreadsrvError, match=f"names process {os.getppid()}"):
        PidFile(str(path))
    assert path.read_text() == str(os.getppid())
    path.write_text(str(os.getpid()))
    PidFile(str(path))


def test_a_pid_file_taken_over_is_left_alone(tmp_path: Path) -> None:
    """At the end only our own is removed."""
    path = tmp_path / "pid"
    pidfile = PidFile(str(path))
    path.write_text("1\n")
    pidfile.remove()
    assert path.read_text() == "1\n"


def test_a_pid_file_that_cannot_be_written(tmp_path: Path) -> None:
    """One line with the path, the reason and the setting."""
    with pytest.raises(GthreadsrvError, match=r"cannot write .*No such file.*--pid"):
        PidFile(str(tmp_path / "missing" / "pid"))


# Identity

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


def as_user(user: str | None = None, group: str | None = None) -> Identity | None:
    """What the settings resolve to."""
    return resolve(Settings()._replace(user=user, group=group))


def test_nothing_set_changes_nothing() -> None:
    """No user and no group, or those we have already."""
    assert as_user() is None
    assert as_user(str(os.geteuid()), str(os.getegid())) is None


@ROOT_ONLY
def test_users_by_name_and_number() -> None:
    """A user without a group gets its own group, not root's."""
    nobody = pwd.getpwnam("nobody")
    expected = Identity(nobody.pw_uid, nobody.pw_gid, "nobody")
    assert as_user("nobody") == expected
    assert as_user(str(nobody.pw_uid)) == expected
    assert as_user("54321", "54322") == Identity(54321, 54322, None)
    named = grp.getgrgid(nobody.pw_gid).gr_name
    assert as_user(None, named) == Identity(0, nobody.pw_gid, None)


@pytest.mark.parametrize(("user", "group"), [("no-such-user", None), (None, "no-such-group")])
def test_unknown_names(user: str | None, group: str | None) -> None:
    """A name that has gone since the settings were read is told, not guessed."""
    with pytest.raises(ConfigError, match="there is no"):
        as_user(user, group)


def test_only_root_may_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """Anybody else is told before a worker fails at it."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "getegid", lambda: 1000)
    with pytest.raises(ConfigError, match="user: only root can change to 54321, this is uid 1000"):
        as_user("54321")
    with pytest.raises(ConfigError, match="group: only root can change to 54322"):
        as_user(None, "54322")


@ROOT_ONLY
@pytest.mark.parametrize("name", ["nobody", None])
def test_assuming_an_identity_is_for_good(signals: SignalInbox, name: str | None) -> None:
    """User, group and all other groups change, and there is no way back."""

    def child() -> int:
        os.setgroups([0, 4])
        Identity(65534, 65534, name).assume()
        if os.getresuid() != (65534,) * 3 or os.getresgid() != (65534,) * 3:
            return 1
        if set(os.getgroups()) - {65534}:
            return 2
        with contextlib.suppress(PermissionError):
            os.setuid(0)
            return 3
        return 0

    pid = spawn(child, signals)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@ROOT_ONLY
@pytest.mark.skipif(
    not Path("/proc/self/smaps_rollup").exists(), reason="only /proc tells a worker's memory"
)
def test_a_worker_can_be_looked_at_by_its_own_user(signals: SignalInbox) -> None:
    """The exporter, which runs as the same user, sees a worker's memory."""
    nobody = Identity(65534, 65534, None)
    ready_read, ready_write = os.pipe()

    def worker() -> int:
        nobody.assume()
        os.write(ready_write, b".")
        time.sleep(60)
        return 0

    pid = spawn(worker, signals)

    def exporter() -> int:
        nobody.assume()
        return 0 if "Pss:" in Path(f"/proc/{pid}/smaps_rollup").read_text() else 1

    os.read(ready_read, 1)
    seen = spawn(exporter, signals)
    try:
        assert os.waitstatus_to_exitcode(os.waitpid(seen, 0)[1]) == 0
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(ready_read)
        os.close(ready_write)
