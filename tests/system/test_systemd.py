"""Under a service manager: sockets it has opened, and what it is told."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.conftest import Servers
from tests.system.harness import process_alive, wait_until
from tests.system.notify_socket import NotifySocket, notify_socket
from tests.system.test_signals import load, write_app
from tests.system.test_upgrade import end, left, new_master

EXAMPLES = Path(__file__).parents[2] / "examples"

# Puts descriptors from 3 on, and executes the rest of the command line, as systemd does: with
# LISTEN_PID of that very process.
ACTIVATE = """
import os, sys
names, *fds = sys.argv[1].split(",")
for number, fd in enumerate(map(int, fds)):
    os.dup2(fd, 3 + number, inheritable=True)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(fds)), "LISTEN_FDNAMES": names}
os.execv(sys.argv[2], sys.argv[2:])
"""

SHOW = (
    "import os, subprocess, sys\n"
    "names = ('NOTIFY_SOCKET', 'WATCHDOG_USEC', 'LISTEN_FDS', 'LISTEN_PID', 'LISTEN_FDNAMES')\n"
    "code = 'import os; print([n for n in %r if n in os.environ])' % (names,)\n"
    "ANSWER = subprocess.check_output([sys.executable, '-c', code])"
)


@pytest.fixture
def manager() -> Iterator[NotifySocket]:
    """A service manager that listens, by an abstract name."""
    with notify_socket(f"@gthreadsrv-test-{os.getpid()}") as found:
        yield found


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[list[socket.socket]]:
    """Two sockets, as a service manager would open them."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    # High numbers, so that moving them to 3 and 4 cannot hit one that is still to be moved.
    yield sockets
    for sock in sockets:
        sock.close()


def activation(names: str, sockets: list[socket.socket]) -> dict[str, object]:
    """Options for a server that is passed these sockets."""
    fds = [sock.fileno() for sock in sockets]
    words = [sys.executable, "-c", ACTIVATE, ",".join([names, *map(str, fds)])]
    return {"prefix": words, "pass_fds": fds, "bind": ()}


def test_a_life_as_the_manager_hears_it(serve: Servers, manager: NotifySocket) -> None:
    """READY, the watchdog and a status while all is well, RELOADING and READY again, STOPPING."""
    write_app(serve.folder, SHOW)
    server = serve(
        "changing:app", "--chdir", str(serve.folder), workers=2, threads=3,
        env={"NOTIFY_SOCKET": manager.name, "WATCHDOG_USEC": "600000"},
    )  # fmt: skip
    [(_, pid, ready)] = manager.wait("READY=1")
    assert pid == server.pid
    assert any(line.endswith("threads busy") for line in ready)
    pings = [when for when, _, _ in manager.wait("WATCHDOG=1", 6)]
    # Loaded machines are late; the next one is then sooner, and none comes without need.
    assert 0.15 < (pings[-1] - pings[0]) / (len(pings) - 1) < 0.6
    manager.wait("STATUS=0 of 6 threads busy")
    assert server.get("/").body == b"[]\n", "nothing of it reaches the application's children"

    server.send_signal(signal.SIGHUP)
    [(began, _, words)] = manager.wait("RELOADING=1")
    [told] = [line for line in words if line.startswith("MONOTONIC_USEC=")]
    assert 0 <= began - int(told.partition("=")[2]) / 1e6 < 10
    assert manager.wait("READY=1", 2)[-1][0] > began
    assert server.stop() == 0
    last = manager.wait("STOPPING=1")[-1][2]
    assert last in [words for _, _, words in manager.messages]


def test_a_failed_reload_is_over_too(serve: Servers, tmp_path: Path) -> None:
    """READY comes back when the new settings are refused, and when the new code cannot boot."""
    write_app(serve.folder, "ANSWER = b''")
    conf = serve.folder / "conf.py"
    conf.write_text("timeout = 10\n")
    with notify_socket(str(tmp_path / "notify")) as manager:
        server = serve(
            "changing:app", "--chdir", str(serve.folder), "-c", str(conf), allow_errors=True,
            env={"NOTIFY_SOCKET": manager.name},
        )  # fmt: skip
        manager.wait("READY=1")
        conf.write_text("timeout = 'no'\n")
        server.send_signal(signal.SIGHUP)
        manager.wait("READY=1", 2)
        conf.write_text("timeout = 10\n")
        write_app(serve.folder, "raise RuntimeError('broken on purpose')")
        server.send_signal(signal.SIGHUP)
        manager.wait("READY=1", 3)
        assert len(manager.said("RELOADING=1")) == 2


def test_the_watchdog_is_for_a_fleet_that_is_well(serve: Servers, tmp_path: Path) -> None:
    """Without a worker that can serve, the manager is left to draw its conclusion."""
    write_app(serve.folder, "ANSWER = b''")
    with notify_socket(str(tmp_path / "notify")) as manager:
        server = serve(
            "changing:app", "--chdir", str(serve.folder), allow_errors=True,
            env={"NOTIFY_SOCKET": manager.name, "WATCHDOG_USEC": "200000"},
        )  # fmt: skip
        manager.wait("WATCHDOG=1", 2)
        [worker] = server.wait_workers(1)
        write_app(serve.folder, "raise RuntimeError('broken on purpose')")
        os.kill(worker, signal.SIGKILL)
        server.wait_log("watchdog of the service manager is not served", 3)
        before = len(manager.said("WATCHDOG=1"))
        server.wait_log("watchdog of the service manager is not served", 5)
        assert len(manager.said("WATCHDOG=1")) == before
        write_app(serve.folder, "ANSWER = b''")
        manager.wait("WATCHDOG=1", before + 2)


def test_the_main_process_changes_hands(serve: Servers, tmp_path: Path) -> None:
    """In an upgrade the old master speaks until it leaves, then names the new one, which speaks."""
    with notify_socket(str(tmp_path / "notify")) as manager:
        server = serve(
            "behaviours:app", env={"NOTIFY_SOCKET": manager.name, "WATCHDOG_USEC": "200000"}
        )
        manager.wait("READY=1")
        server.send_signal(signal.SIGUSR2)
        new = new_master(server)
        seen = len(manager.said("WATCHDOG=1", server.pid))
        manager.wait("WATCHDOG=1", seen + 2, server.pid)
        assert {pid for _, pid, _ in manager.messages} == {server.pid}, "the new one is silent"
        assert left(server, signal.SIGTERM) == 0
        manager.wait(f"MAINPID={new}", pid=server.pid)
        manager.wait("READY=1", pid=new)
        manager.wait("WATCHDOG=1", 2, pid=new)
        assert manager.said("STOPPING=1") == [], "the service goes on"
        end(new)
        manager.wait("STOPPING=1", pid=new)


def test_passed_sockets_outlive_restarts(
    serve: Servers, listening: list[socket.socket], tmp_path: Path
) -> None:
    """The application and the metrics on passed sockets; who comes between two lives is served."""
    web, metrics = (f"127.0.0.1:{sock.getsockname()[1]}" for sock in listening)
    options = activation("web:metrics", listening)
    server = serve("behaviours:app", "--metrics-bind", "127.0.0.1:0", metrics=True, **options)
    assert server.listeners() == [web]
    assert server.metrics_url == f"http://{metrics}"
    server.wait_ready()
    assert server.logged("setting ignored or changed")[0]["detail"].startswith("metrics_bind: ")
    with load(server) as clients:
        server.send_signal(signal.SIGHUP)
        server.wait_log("reloaded")
    assert clients.failures == []
    assert server.stop() == 0

    with server.connect(web, timeout_s=40) as patient:
        patient.request("GET", "/hello")
        again = serve("behaviours:app", metrics=True, **options)
        assert patient.response().body == b"hello\n"
    again.wait_ready()

    again.send_signal(signal.SIGUSR2)
    new = new_master(again)
    with load(again) as clients:
        assert left(again, signal.SIGTERM) == 0
        wait_until(lambda: again.logged("exporter ready", pid=new))
        assert again.probe("/readyz").status_code == 200
    assert clients.failures == []
    end(new)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"LISTEN_FDS": "many"}, "LISTEN_FDS: 'many' is not a number of sockets"),
        ({"LISTEN_FDS": "7"}, "file descriptor 3 is not open"),
    ],
)
def test_variables_that_make_no_sense(
    tmp_path: Path, variables: dict[str, str], message: str
) -> None:
    """One line, exit code 2."""
    code = "import os, sys; os.environ['LISTEN_PID'] = str(os.getpid()); os.execv(sys.argv[1], sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", code, sys.executable, "-m", "gthreadsrv", "behaviours:app"],
        env={**os.environ, **variables}, cwd=tmp_path, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert message in done.stderr


@pytest.mark.program("systemd-socket-activate")
def test_systemds_own_activation(serve: Servers) -> None:
    """systemd-socket-activate opens the sockets and starts the server at the first client."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    unix = serve.folder / "metrics.sock"
    words = ["systemd-socket-activate", "-l", f"127.0.0.1:{port}", "-l", str(unix)]
    words += ["--fdname=web:metrics", "-E", "PYTHONPATH", "-E", "COVERAGE_PROCESS_CONFIG"]
    server = serve("behaviours:app", metrics=True, bind=(), prefix=words, allow_errors=True)

    def knock() -> bool:
        try:
            with server.connect(f"127.0.0.1:{port}", timeout_s=40) as connection:
                return connection.get("/hello").body == b"hello\n"
        except ConnectionRefusedError:
            return False

    wait_until(knock, 40)
    assert server.address == f"127.0.0.1:{port}"
    with server.connect(f"unix:{unix}") as connection:
        wait_until(lambda: connection.get("/readyz").status == 200)
    # It is the very process that was started, so its pid is the master's.
    assert process_alive(server.pid)


@pytest.mark.program("systemd-analyze")
def test_the_units_are_valid(tmp_path: Path) -> None:
    """Systemd itself finds nothing to say against the shipped units."""
    units = [tmp_path / path.name for path in sorted((EXAMPLES / "systemd").iterdir())]
    for unit in units:
        # What is not on this machine cannot be found by it: the program and the user.
        text = (EXAMPLES / "systemd" / unit.name).read_text()
        text = text.replace("/srv/shop/venv/bin/gthreadsrv", shutil.which("true") or "")
        unit.write_text(text.replace("/srv/shop", "/tmp"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *map(str, units)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert [x for x in done.stderr.splitlines() if any(unit.name in x for unit in units)] == []
    assert done.returncode == 0, done.stderr
