"""How a real master starts: pid file, ports, preloading, privileges, exporter."""

from __future__ import annotations

import os
import signal
import socket
import tempfile
from pathlib import Path

import pytest

from tests.unit.master.conftest import Start
from tests.unit.master.fake_server import alive

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")


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


def test_a_port_in_use(start: Start, tmp_path: Path) -> None:
    """One line that names the address and the setting, exit code 1, and no pid file stays."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        for setting, flag in (("bind", "--bind"), ("metrics_bind", "--metrics-bind")):
            value = [address] if setting == "bind" else address
            master = start(pidfile=str(tmp_path / "pid"), **{setting: value})
            assert master.wait_exit() == 1
            assert not (tmp_path / "pid").exists()
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
    raise AssertionError("nothing is asked of it in these tests")
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


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_preloading_as_root_is_warned_about(start: Start, tmp_path: Path) -> None:
    """With --user the import still happens before the change, which one should know."""
    (tmp_path / "fake.py").write_text("def app(environ, start_response):\n    return []\n")
    master = start(preload_app=True, user="65534")
    master.wait_log("application imported as root", level="warning")
    assert master.stop() == 0


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


def test_the_exporter_lets_the_first_worker_boot(start: Start) -> None:
    """On one core they would share it: the first response comes before the metrics do."""
    master = start(workers=1, metrics_bind="127.0.0.1:0")
    master.wait_log("exporter ready")
    events = [line["event"] for line in master.lines]

    assert events.index("worker ready") < events.index("exporter spawned")


def test_a_worker_that_boots_slowly_is_watched_meanwhile(start: Start) -> None:
    """Probes of a start that takes its time are answered."""
    master = start("hang", workers=1, metrics_bind="127.0.0.1:0")
    master.wait_log("exporter spawned")

    assert not master.logged("worker ready")


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
