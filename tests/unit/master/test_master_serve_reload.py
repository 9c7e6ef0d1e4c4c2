"""HUP on a real master, over workers that only pretend."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.unit.master.conftest import Start, accepts
from tests.unit.master.fake_server import alive

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")


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
    master.wait_log("reloaded")
    master.send_signal(signal.SIGHUP)
    master.wait_log("reloaded", 2)
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


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_while_the_file_is_read(start: Start, signum: signal.Signals) -> None:
    """It may wait for somebody who does not answer, and the server leaves all the same."""
    master = start()
    workers = master.wait_pids(2)
    master.configure(**{"raise": "hang"})
    master.send_signal(signal.SIGHUP)
    master.wait(lambda: "reads for ever" in master.told())
    assert master.stop(signum) == 0
    assert not any(alive(pid) for pid in workers)
    assert master.logged("reload failed") == []


def test_a_metrics_port_that_is_given_up_refuses(start: Start) -> None:
    """A scraper is told at once that nobody answers, and does not wait in a queue."""
    master = start(workers=1, metrics_bind="127.0.0.1:0")
    master.wait_log("exporter ready")
    [line] = [line for line in master.logged("listening") if line.get("metrics")]
    host, _, port = str(line["listener"]).rpartition(":")
    assert accepts((host, int(port)))
    master.configure(metrics_bind="off")
    master.send_signal(signal.SIGHUP)
    master.wait_log("listener closed", listener=f"{host}:{port}")
    assert not accepts((host, int(port)))
    master.configure(metrics_bind=f"{host}:{port}")
    master.send_signal(signal.SIGHUP)
    master.wait_log("exporter ready", 2)
    assert accepts((host, int(port)))
    assert master.stop() == 0


def test_a_refused_reload_leaves_the_queues_length(start: Start) -> None:
    """listen(2) of the settings that were refused is taken back."""
    master = start(workers=1, backlog=77)
    master.wait_pids(1)
    port = master.address()[1]

    def length() -> str:
        found = subprocess.run(
            ["ss", "-Hltn", f"sport = :{port}"], capture_output=True, text=True, check=True
        )
        return found.stdout.split()[2]

    if shutil.which("ss") is None:
        pytest.skip("needs ss")
    assert length() == "77"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        master.configure(backlog=5, metrics_bind=f"127.0.0.1:{taken.getsockname()[1]}")
        master.send_signal(signal.SIGHUP)
        master.wait_log("reload failed")
    master.wait(lambda: length() == "77")
    assert master.stop() == 0
