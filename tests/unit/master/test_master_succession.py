"""Two masters: every event in every standing, and the line between them."""

from __future__ import annotations

import itertools
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gthreadsrv.errors import ConfigError, GthreadsrvError
from gthreadsrv.master import inheritance
from gthreadsrv.master.handover import Handover
from gthreadsrv.master.inheritance import Inheritance
from gthreadsrv.master.pidfile import PidFile
from gthreadsrv.master.signals import SignalInbox
from gthreadsrv.master.succession import TRANSITIONS, Event, Standing, Succession
from gthreadsrv.master.switchboard import Switchboard
from gthreadsrv.net.address import parse_bind
from gthreadsrv.net.listeners import bind


@pytest.fixture
def switchboard() -> Iterator[Switchboard]:
    """A master's own, with its signals."""
    signals = SignalInbox()
    yield Switchboard(signals)
    signals.close()


@contextmanager
def master(
    switchboard: Switchboard, standing: Standing
) -> Iterator[tuple[Succession, socket.socket]]:
    """A master in this standing, and the other one's end of the line."""
    ours, theirs = socket.socketpair()
    if standing in {Standing.HEIR, Standing.ENTHRONED}:
        succession = Succession(switchboard, Inheritance(77, ours, {}, 1))
    else:
        succession = Succession(switchboard, None)
        succession.forked(77, ours)
    succession.standing = standing
    with ours, theirs:
        yield succession, theirs


HEARD = [event for event in Event if event is not Event.FORKED]
TWO = [standing for standing in Standing if standing is not Standing.ALONE]


@pytest.mark.parametrize(("standing", "event"), list(itertools.product(TWO, HEARD)))
def test_every_event_in_every_standing(
    switchboard: Switchboard, standing: Standing, event: Event
) -> None:
    """What the table has happens; all else is a bug of the other master's, and no silent move."""
    with master(switchboard, standing) as (succession, other):
        if event is Event.GONE:
            other.close()
        else:
            other.send(event.value)
        if (standing, event) not in TRANSITIONS:
            with pytest.raises(KeyError):
                succession.hear()
            return
        assert succession.hear() == [event]
        assert succession.standing is TRANSITIONS[standing, event]


def test_one_master_at_a_time_answers_on_the_metrics_port() -> None:
    """Whichever bytes are still on their way, never both; and nobody only while it changes."""

    def answers(standing: Standing) -> bool:
        return standing in {Standing.ALONE, Standing.EXPECTING, Standing.ENTHRONED}

    pairs = {
        (Standing.EXPECTING, Standing.HEIR),  # at first
        (Standing.SUCCEEDED, Standing.HEIR),  # ready was heard, yielded is on its way
        (Standing.SUCCEEDED, Standing.ENTHRONED),
    }
    assert [answers(old) + answers(new) for old, new in sorted(pairs, key=str)] == [1, 1, 0]


def test_the_line(switchboard: Switchboard) -> None:
    """What one says the other hears, in order; nothing blocks; the end is heard once."""
    left, right = socket.socketpair()
    old = Succession(switchboard, None)
    old.forked(2, left)
    new = Succession(switchboard, Inheritance(1, right, {}, 1))
    assert (old.shares_sockets, new.shares_sockets) == (True, True)
    assert (old.answers_metrics, new.answers_metrics) == (True, False)
    assert old.hear() == new.hear() == []
    new.say(Event.READY)
    assert switchboard.wait(5) == [], "a line that is no child's"
    assert old.hear() == [Event.READY]
    old.say(Event.YIELDED)
    old.say(Event.LEAVING)
    assert new.hear() == [Event.YIELDED, Event.LEAVING]
    assert (old.answers_metrics, new.answers_metrics) == (False, True)
    left.close()
    assert new.hear() == [Event.GONE]
    assert new.hear() == []
    assert new.standing is Standing.ALONE
    new.say(Event.READY)  # nobody is there: no error


def test_what_is_handed_over_arrives(tmp_path: Path) -> None:
    """Listeners of all kinds keep key, address, file and socket; passed ones are not in it."""
    texts = ["127.0.0.1:0", f"unix:{tmp_path}/web.sock"]
    if os.uname().sysname == "Linux":
        texts.append(f"unix:@gthreadsrv-test-{os.getpid()}")
    listeners = bind([parse_bind(text) for text in texts], 16)
    [adopted] = bind([parse_bind(f"fd://{listeners[0].fileno()}")], 16)
    open_ = {("bind", one.configured): one for one in [*listeners, adopted]}
    ours, theirs = socket.socketpair()
    told, fds = inheritance.write(os.getpid(), theirs, open_, 3)
    assert sorted(fds) == sorted([theirs.fileno(), *(one.fileno() for one in listeners)])

    found = inheritance.read(told)
    assert (found.pid, found.turn) == (os.getpid(), 3)
    assert set(found.listeners) == {("bind", one.configured) for one in listeners}
    for before in listeners:
        after = found.listeners["bind", before.configured]
        assert (after.address, after.kind, after.file, after.owned) == (
            before.address, before.kind, before.file, True,
        )  # fmt: skip
        assert after.fileno() == before.fileno()
        assert not os.get_inheritable(after.fileno())
        assert after.sock.gettimeout() == 0.0
        before.sock.detach()
        after.unlink()
        after.close()
    assert not (tmp_path / "web.sock").exists()
    adopted.close()
    theirs.detach()
    found.link.close()
    ours.close()


@pytest.mark.parametrize("told", ["", "[]", "{}", '{"pid": 1, "link": 9999, "listeners": []}'])
def test_what_no_master_has_written_is_refused(told: str) -> None:
    """One line, which says who sets the variable."""
    with pytest.raises(ConfigError, match="GTHREADSRV_UPGRADE: this is no inheritance"):
        inheritance.read(told)


def test_the_pid_files_name_is_taken_over(tmp_path: Path) -> None:
    """From a predecessor that has gone or whose file is left, not from a stranger that runs."""
    name = tmp_path / "pid"
    file = PidFile(f"{name}.2")
    name.write_text(f"{os.getppid()}\n")
    with pytest.raises(GthreadsrvError, match="which is running"):
        file.move(str(name), 1)
    file.move(str(name), os.getppid())
    assert name.read_text() == f"{os.getpid()}\n"
    file.remove()
    assert list(tmp_path.iterdir()) == []


def test_process_1_is_not_upgraded(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """With it the container would end, and the new master too."""
    monkeypatch.setattr(os, "getpid", lambda: 1)
    handover: Any = cast("Any", object.__new__(Handover))
    handover._succession = SimpleNamespace(standing=Standing.ALONE)
    Handover.upgrade(handover)
    assert "no upgrade as process 1" in capfd.readouterr().err
