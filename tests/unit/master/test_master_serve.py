"""The master with real processes and real signals, over workers that only pretend."""

from __future__ import annotations

import os
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.master.fake_server import Master, alive, children

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")

Start = Callable[..., Master]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start masters that are gone when the test ends."""
    masters: list[Master] = []

    def start_one(behaviour: str = "good", folder: Path = tmp_path, **settings: Any) -> Master:
        masters.append(Master(folder, behaviour, **settings))
        return masters[-1]

    yield start_one
    for master in masters:
        master.kill()


def accepts(address: tuple[str, int]) -> bool:
    """Whether a client gets through."""
    try:
        socket.create_connection(address, 0.3).close()
    except (ConnectionRefusedError, TimeoutError):
        return False
    return True


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


def test_reload(start: Start) -> None:
    """HUP: new workers, each ready before an old one leaves, with the size the file says now."""
    master = start()
    old = master.wait_pids(2)
    master.configure(workers=3)
    master.send_signal(signal.SIGHUP)
    master.wait_log("reloaded")
    master.wait(lambda: not any(alive(pid) for pid in old))
    assert len(master.wait_pids(3)) == 3
    assert master.stop() == 0


def test_reload_into_broken_code(start: Start) -> None:
    """The old workers stay, the log says why; a further HUP with good code succeeds."""
    master = start()
    old = master.wait_pids(2)
    master.behave("unloadable")
    master.send_signal(signal.SIGHUP)
    master.wait_log("reload failed")
    [line] = master.logged("worker could not boot")
    assert line["detail"] == "no such thing"
    assert master.pids() == old
    master.behave("good")
    master.send_signal(signal.SIGHUP)
    master.wait_log("reloaded")
    master.wait(lambda: not any(alive(pid) for pid in old))
    assert master.stop() == 0


@pytest.mark.parametrize("kind", ["config", "bug"])
def test_reload_with_a_broken_file(start: Start, kind: str) -> None:
    """Whatever the configuration file does, the server goes on as it was."""
    master = start()
    old = master.wait_pids(2)
    master.configure(**{"raise": kind})
    master.send_signal(signal.SIGHUP)
    [line] = master.wait_log("reload failed")
    assert "said the file" in line["detail"]
    assert master.pids() == old
    assert master.stop() == 0


def test_reload_moves_the_listeners(start: Start) -> None:
    """A new address is opened, the old one closed when its last worker has left."""
    master = start()
    master.wait_pids(2)
    old = master.address()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    master.configure(bind=[f"127.0.0.1:{port}"])
    master.send_signal(signal.SIGHUP)
    master.wait_log("reloaded")
    master.wait_log("listener closed")
    assert accepts(("127.0.0.1", port))
    assert not accepts(old)
    assert master.stop() == 0


def test_reload_onto_a_port_in_use(start: Start) -> None:
    """It is refused before anybody is touched, and names the address and the setting."""
    master = start()
    old = master.wait_pids(2)
    address = master.address()
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        master.configure(bind=[f"127.0.0.1:{port}"])
        master.send_signal(signal.SIGHUP)
        [line] = master.wait_log("reload failed")
    assert f"127.0.0.1:{port}" in line["detail"]
    assert "--bind" in line["detail"]
    assert master.pids() == old
    assert accepts(address)
    assert master.stop() == 0


@pytest.mark.parametrize("settings", [{"threads": 1000}, {"workers": 1000}])
def test_reload_beyond_the_room_there_is(start: Start, settings: dict[str, int]) -> None:
    """Shared memory was sized at the start: more than fits is refused with a line."""
    master = start()
    old = master.wait_pids(2)
    master.configure(**settings)
    master.send_signal(signal.SIGHUP)
    [line] = master.wait_log("reload failed")
    assert "restart it to go beyond" in line["detail"]
    assert master.pids() == old
    assert master.stop() == 0


def test_a_reload_restores_what_it_had_changed(start: Start, tmp_path: Path) -> None:
    """After a try that fails the log goes where it went before."""
    master = start()
    master.wait_pids(2)
    master.behave("unloadable")
    master.configure(errorlog=str(tmp_path / "other.log"))
    master.send_signal(signal.SIGHUP)
    master.wait_log("reload failed")
    assert "could not boot" in (tmp_path / "other.log").read_text()
    assert master.stop() == 0


def test_a_reload_that_fails_gives_its_new_listeners_back(start: Start) -> None:
    """What was opened for code that does not boot is closed again."""
    master = start()
    master.wait_pids(2)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    master.behave("unloadable")
    master.configure(bind=[*master.settings["bind"], f"127.0.0.1:{port}"])
    master.send_signal(signal.SIGHUP)
    master.wait_log("reload failed")
    master.wait_log("listener closed", listener=f"127.0.0.1:{port}")
    assert not accepts(("127.0.0.1", port))
    assert accepts(master.address())
    assert master.stop() == 0


def test_a_second_reload_restarts_the_first(start: Start) -> None:
    """The worker of the superseded try is dropped; the newest revision is the one that counts."""
    master = start()
    old = master.wait_pids(2)
    master.behave("hang")
    master.send_signal(signal.SIGHUP)
    master.wait_log("worker spawned", 3)
    master.behave("good")
    master.send_signal(signal.SIGHUP)
    [line] = master.wait_log("reloaded")
    assert line["revision"] == 2
    master.wait(lambda: not any(alive(pid) for pid in old))
    assert len(master.wait_pids(2)) == 2
    assert master.stop() == 0


def test_reload_before_the_first_boot(start: Start) -> None:
    """Imports that hang at the start make way for the mended code."""
    master = start("hang")
    master.wait_log("worker spawned", 2)
    master.behave("good")
    master.send_signal(signal.SIGHUP)
    pids = master.wait_pids(2)
    master.wait_log("worker left", 2, reason="reload")
    master.send_signal(signal.SIGHUP)
    master.wait_log("reloaded")
    master.wait(lambda: not any(alive(pid) for pid in pids))
    assert master.stop() == 0


def test_the_title_shows_the_state(start: Start) -> None:
    """Role, application and state of the master, as ps shows them."""
    master = start("hang", proc_name="shop")

    def title() -> str:
        raw = Path(f"/proc/{master.process.pid}/cmdline").read_bytes()
        return raw.rstrip(b"\0").decode()

    master.wait(lambda: title() == "gthreadsrv: master [shop] booting")
    master.behave("good")
    master.send_signal(signal.SIGHUP)
    master.wait(lambda: title() == "gthreadsrv: master [shop] ready")
    master.behave("hang")
    master.send_signal(signal.SIGHUP)
    master.wait(lambda: title() == "gthreadsrv: master [shop] reloading")
    assert master.stop() == 0


def test_term_during_a_reload(start: Start) -> None:
    """A reload that hangs does not hold the stop up."""
    master = start()
    master.wait_pids(2)
    master.behave("hang")
    master.send_signal(signal.SIGHUP)
    master.wait_log("worker spawned", 3)
    began = time.monotonic()
    assert master.stop() == 0
    assert time.monotonic() - began < 5


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


def test_the_pid_file(start: Start, tmp_path: Path) -> None:
    """It holds the master's pid while it runs; a second server is refused in one line."""
    path = tmp_path / "server.pid"
    master = start(pidfile=str(path))
    master.wait_pids(2)
    assert path.read_text() == f"{master.process.pid}\n"
    second = start(pidfile=str(path))
    assert second.wait_exit() == 1
    assert "".join(second.noise) == (
        f"refused: pidfile: {path} names process {master.process.pid}, which is running (set by "
        "--pid); stop that server first, or remove the file if it is another program\n"
    )
    moved = tmp_path / "moved.pid"
    master.configure(pidfile=str(moved))
    master.send_signal(signal.SIGHUP)
    master.wait_log("reloaded")
    assert moved.read_text() == f"{master.process.pid}\n"
    assert not path.exists()
    assert master.stop() == 0
    assert not moved.exists()


def test_a_port_in_use(start: Start) -> None:
    """One line that names the address and the setting, and exit code 1."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        for setting, flag in (("bind", "--bind"), ("metrics_bind", "--metrics-bind")):
            value = [address] if setting == "bind" else address
            master = start(**{setting: value})
            assert master.wait_exit() == 1
            assert "".join(master.noise) == (
                f"refused: cannot listen on {address}: the address is already in use "
                f"(set by {flag}); choose another address or free this one\n"
            )


def test_a_unix_socket_is_gone_afterwards(start: Start, tmp_path: Path) -> None:
    """The file is removed at the end."""
    path = tmp_path / "s.sock"
    master = start(bind=[f"unix:{path}"])
    master.wait_pids(2)
    assert path.is_socket()
    assert master.stop() == 0
    assert not path.exists()


PRELOADED = """
import os
with open(os.path.join({folder!r}, "told"), "a") as file:
    file.write(f"imported {{os.getpid()}}\\n")
def app(environ, start_response):
    raise NotImplementedError
"""


def test_preload_imports_in_the_master(start: Start, tmp_path: Path) -> None:
    """Once, and not again at HUP, which says so and still replaces the workers."""
    (tmp_path / "fake.py").write_text(PRELOADED.format(folder=str(tmp_path)))
    master = start(preload_app=True)
    old = master.wait_pids(2)
    assert master.told() == [f"imported {master.process.pid}"]
    master.send_signal(signal.SIGHUP)
    master.wait_log("reloaded")
    assert master.logged("application not imported again")
    master.wait(lambda: not any(alive(pid) for pid in old))
    assert master.told().count(f"imported {master.process.pid}") == 1
    assert master.stop() == 0


def test_preloading_a_broken_application(start: Start, tmp_path: Path) -> None:
    """The server does not start, and exits 3."""
    (tmp_path / "fake.py").write_text("raise RuntimeError('broken on purpose')")
    master = start(preload_app=True)
    assert master.wait_exit() == 3
    assert "broken on purpose" in "".join(master.noise)


def test_term_during_a_preloading_import(start: Start, tmp_path: Path) -> None:
    """An import that takes for ever can be ended like any other phase, with exit code 0."""
    (tmp_path / "fake.py").write_text(
        "import pathlib, threading\n"
        f"pathlib.Path({str(tmp_path / 'importing')!r}).touch()\n"
        "try:\n    threading.Event().wait()\nexcept Exception:\n    pass\n"
    )
    master = start(preload_app=True)
    master.wait((tmp_path / "importing").exists)
    assert master.stop() == 0


def test_the_exporter_is_not_a_worker(start: Start) -> None:
    """It has a process of its own, comes back when it dies, and leaves last."""
    master = start("modules", workers=1, metrics_bind="127.0.0.1:0")
    [worker] = master.wait_pids(1)
    [line] = master.wait_log("exporter ready")
    [metrics] = master.wait_log("listening", metrics=True)
    assert metrics["listener"].startswith("127.0.0.1:")
    os.kill(line["worker_pid"], signal.SIGKILL)
    master.wait_log("exporter died")
    master.wait_log("exporter ready", 2)
    assert master.pids() == [worker]
    assert master.stop() == 0
    left = [line["event"] for line in master.lines if line["event"].endswith(" left")]
    assert left == ["worker left", "exporter left"]
    assert master.told()[-1] == "master exits False"


def test_a_reload_replaces_the_exporter_only_when_it_must(start: Start) -> None:
    """It stays for new code, and is replaced for new settings, away and back."""
    master = start(workers=1, metrics_bind="127.0.0.1:0")
    master.wait_log("exporter ready")
    master.send_signal(signal.SIGHUP)
    master.wait_log("reloaded")
    assert len(master.logged("exporter ready")) == 1
    master.configure(keepalive=3.0)
    master.send_signal(signal.SIGHUP)
    master.wait_log("reloaded", 2)
    master.wait_log("exporter ready", 2)
    master.configure(metrics_bind="off")
    master.send_signal(signal.SIGHUP)
    master.wait_log("reloaded", 3)
    master.wait_log("exporter left", 2)
    assert master.stop() == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_privileges_drop_before_anything_is_imported(start: Start) -> None:
    """Workers run as the user, with its groups only; the master stays root."""
    # pytest's own folders are closed to other users.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "told").touch()
        (folder / "told").chmod(0o666)
        master = start(folder=folder, user="65534", group="65534")
        for pid in master.wait_pids(2):
            status = Path(f"/proc/{pid}/status").read_text()
            assert "Uid:\t65534\t65534\t65534\t65534" in status
            assert "Gid:\t65534\t65534\t65534\t65534" in status
            [groups] = [line for line in status.splitlines() if line.startswith("Groups:")]
            assert groups.split()[1:] in ([], ["65534"])
        assert os.stat(f"/proc/{master.process.pid}").st_uid == 0
        assert master.stop() == 0
