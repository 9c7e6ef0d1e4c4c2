"""What operators and applications do to a server that it must stand."""

from __future__ import annotations

import os
import resource
import signal
import socket
import threading
from pathlib import Path

import pytest

from tests.bench.boot import free_port
from tests.system.conftest import Servers, bind_for
from tests.system.harness import (
    open_socket,
    process_alive,
    read_record,
    run_cli,
    wait_until,
)
from tests.system.test_signals import refused, write_app


@pytest.mark.parametrize("transport", ["tcp", "unix"])
def test_term_to_the_whole_group_serves_the_queue(serve: Servers, transport: str) -> None:
    """As service managers send it: nobody who was in the queue is reset."""
    record, go_on = serve.folder / "record", serve.folder / "go"
    server = serve(
        "behaviours:app", bind=(bind_for(transport, serve.folder),), workers=2, threads=1,
        env={"RECORD": str(record)},
    )  # fmt: skip
    server.wait_workers(2)
    connections = [server.connect() for _ in range(8)]
    for connection in connections:
        connection.request("GET", f"/hold?until={go_on}", {"Connection": "close"})
    wait_until(lambda: read_record(record).count("holding") == 2, what="both threads held")
    os.killpg(server.pid, signal.SIGTERM)
    wait_until(lambda: refused(server, server.address), what="closed to new connections")
    go_on.touch()

    assert [connection.response().status for connection in connections] == [200] * 8
    assert server.wait_exit() == 0
    for connection in connections:
        connection.close()


def test_a_worker_lost_in_the_drain_delay_is_replaced(serve: Servers) -> None:
    """Until the delay is over the server is there for everybody."""
    server = serve("behaviours:app", "--drain-delay", "20", allow_errors=True)
    [worker] = server.wait_workers(1)
    server.send_signal(signal.SIGTERM)
    server.wait_log("lingering")
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: worker not in server.worker_pids())
    server.wait_log("worker ready", 2)

    assert server.get("/hello").body == b"hello\n"
    assert server.stop(signal.SIGQUIT) == 0


def test_an_address_given_up_by_a_reload_is_free(serve: Servers) -> None:
    """No process keeps it, not the exporter either; a later reload may take it again."""
    ports = [free_port(), free_port()]
    config = serve.folder / "moving.py"

    def bind(port: int) -> None:
        config.write_text(f"bind = '127.0.0.1:{port}'\n")

    bind(ports[0])
    server = serve("behaviours:app", "--config", str(config), bind=(), metrics=True)
    server.wait_ready()
    for count, port in enumerate((ports[1], ports[0], ports[1]), 1):
        bind(port)
        server.send_signal(signal.SIGHUP)
        server.wait_log("reloaded", count)
        other = ports[0] if port == ports[1] else ports[1]
        wait_until(lambda other=other: _free(other), what=f"{other} free\n{server.report()}")
        with server.connect(f"127.0.0.1:{port}") as connection:
            assert connection.get("/hello").body == b"hello\n"


def _free(port: int) -> bool:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
            sock.listen()
        except OSError:
            return False
    return True


@pytest.mark.parametrize("theft", ["handler", "wakeup", "mask", "children"])
@pytest.mark.parametrize("preload", [(), ("--preload",)])
def test_an_application_cannot_take_the_masters_signals(
    serve: Servers, theft: str, preload: tuple[str, ...]
) -> None:
    """Neither TERM nor a child's end passes unnoticed, wherever the import ran."""
    server = serve("signal_thief:app", *preload, env={"VARIABLE": theft}, allow_errors=True)
    [worker] = server.wait_workers(1)
    os.kill(worker, signal.SIGKILL)
    server.wait_log("worker ready", 2)
    assert server.get("/").body == b"mine\n"
    with server.connect() as idle:
        assert idle.get("/").body == b"mine\n"
        assert server.stop(deadline_s=10) == 0


def test_a_configuration_file_cannot_take_them_either(serve: Servers) -> None:
    """Nor end the master, whatever it raises, when it is read again."""
    config = serve.folder / "thief.py"
    config.write_text("")
    server = serve("behaviours:app", "--config", str(config), allow_errors=True)
    server.wait_workers(1)
    for count, text in enumerate(
        (
            "import asyncio\nraise asyncio.CancelledError",
            "raise KeyboardInterrupt",
            "raise GeneratorExit",
        ),
        1,
    ):
        config.write_text(text)
        server.send_signal(signal.SIGHUP)
        server.wait_log("reload failed", count)
    config.write_text("import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n")
    server.send_signal(signal.SIGHUP)
    server.wait_log("reloaded")

    assert server.get("/hello").body == b"hello\n"
    assert server.stop() == 0


@pytest.mark.parametrize("preload", [(), ("--preload",)])
def test_an_import_that_raises_what_is_no_exception(
    tmp_path: Path, preload: tuple[str, ...]
) -> None:
    """It cannot be loaded, and the reason is told: exit code 3."""
    (tmp_path / "cancelled.py").write_text("import asyncio\nraise asyncio.CancelledError('why')\n")
    done = run_cli(
        *preload, "--bind", "127.0.0.1:0", "--metrics-bind", "off", "cancelled:app", cwd=tmp_path
    )

    assert done.returncode == 3
    assert "CancelledError: why" in done.stderr


def test_a_reload_that_repairs_the_application_does_not_wait(serve: Servers) -> None:
    """What held back the crashing code does not hold back the new one."""
    write_app(serve.folder, "ANSWER = b'old'")
    server = serve("changing:app", allow_errors=True)
    [worker] = server.wait_workers(1)
    (serve.folder / "changing.py").write_text("raise SystemExit(1)\n")
    os.kill(worker, signal.SIGKILL)
    # By then the next try is more than six seconds away.
    wait_until(
        lambda: any(
            line.get("retry_in_seconds", 0) > 3 for line in server.logged("worker could not boot")
        ),
        what=server.report(),
    )
    write_app(serve.folder, "ANSWER = b'new'")
    server.send_signal(signal.SIGHUP)
    server.wait_log("worker ready", 2, deadline_s=2.5)

    assert server.get("/").body == b"new"


def test_out_of_descriptors_the_master_goes_on(serve: Servers) -> None:
    """A worker that cannot be forked is a line in the log; the others serve."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    server = serve(
        "behaviours:app",
        threads=1,
        allow_errors=True,
        prefix=("sh", "-c", 'ulimit -n 24; exec "$@"', "sh"),
    )
    assert hard > 24
    server.wait_workers(1)
    for wanted in range(2, 22):
        server.send_signal(signal.SIGTTIN)
        server.wait_log("workers wanted", workers=wanted)
        if server.logged("worker cannot be forked"):
            break
    server.wait_log("worker cannot be forked")

    assert server.get("/hello").body == b"hello\n"
    assert server.stop() == 0


def test_another_servers_socket_file_is_left_alone(serve: Servers) -> None:
    """Whoever finds the file gone may bind there; our end is then not theirs."""
    path = serve.folder / "shared.sock"
    first = serve("behaviours:app", bind=(f"unix:{path}",))
    first.wait_workers(1)
    path.unlink()
    second = serve("behaviours:app", bind=(f"unix:{path}",))
    second.wait_workers(1)

    assert first.stop() == 0
    assert second.get("/hello").body == b"hello\n"


def test_lingering_connections_make_room_at_the_limit(serve: Servers) -> None:
    """A client that was told to go, and does not, keeps nobody out."""
    server = serve("behaviours:app", "--worker-connections", "2", threads=1, allow_errors=True)
    server.wait_workers(1)
    lingering = [server.connect() for _ in range(2)]
    for connection in lingering:
        connection.send(b"NONSENSE\r\n\r\n")
        assert connection.response().status == 400
    done = threading.Event()

    def ask() -> None:
        with open_socket(server.address) as sock:
            sock.sendall(b"GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            if sock.recv(100).startswith(b"HTTP/1.1 200"):
                done.set()

    asking = threading.Thread(target=ask)
    asking.start()
    # A lingering close lasts two seconds, so nothing but making room is as quick.
    assert done.wait(1.5)
    asking.join()
    for connection in lingering:
        connection.close()


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--threads", "10000000000000"), "no memory for"),
        (("--workers", "100000000000", "--threads", "1"), "no memory for"),
        (("--user", "99999999999"), "user: 99999999999 is out of range"),
        (("--group", "4294967295"), "group: 4294967295 is out of range"),
    ],
)
def test_numbers_beyond_the_machine(tmp_path: Path, flags: tuple[str, ...], says: str) -> None:
    """One line and exit code 2."""
    done = run_cli(
        *flags, "--bind", "127.0.0.1:0", "--metrics-bind", "off", "behaviours:app", cwd=tmp_path
    )

    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_processes_that_a_stop_leaves(serve: Servers) -> None:
    """None, also when TERM comes twice in a row and goes to everybody."""
    server = serve("behaviours:app", workers=2, metrics=True)
    server.wait_ready()
    pids = [server.pid, *server.worker_pids()]
    for _ in range(2):
        os.killpg(server.pid, signal.SIGTERM)

    assert server.wait_exit() == 0
    wait_until(lambda: not any(process_alive(pid) for pid in pids))
    assert not server.logged("exporter died")


def test_a_worker_that_is_stopped_is_replaced(serve: Servers) -> None:
    """As a debugger or a frozen container does it: no heartbeat, no answer to ABRT, so KILL."""
    server = serve(
        "behaviours:app", "--timeout", "3", workers=2, threads=2, metrics=True, allow_errors=True
    )
    stopped, other = server.wait_workers(2)
    os.kill(stopped, signal.SIGSTOP)
    server.wait_log("worker ready", 3)
    wait_until(lambda: not process_alive(stopped), what="the stopped worker is gone")

    for _ in range(20):
        assert server.get("/hello").body == b"hello\n"
    assert other in server.wait_workers(2)
    assert server.sample("gthreadsrv_worker_exits_total", reason="heartbeat") == 1


def test_an_application_that_writes_to_the_servers_descriptors(serve: Servers) -> None:
    """By a number that was its own once: the master reads nonsense, says so, and goes on."""
    server = serve("behaviours:app", "--max-requests", "4", allow_errors=True)
    [worker] = server.wait_workers(1)
    assert int(server.get("/astray").body) >= 1
    server.wait_log("worker has sent nonsense", worker_pid=worker)
    for _ in range(3):
        assert server.get("/hello").status == 200
    # What the worker itself says behind it is understood.
    server.wait_log("worker asks to be replaced", worker_pid=worker)
    server.wait_log("worker ready", 2)
    assert server.get("/hello").status == 200
    assert server.stop() == 0


@pytest.mark.parametrize("hook", ["on_reload(server)", "pre_fork(server, worker)"])
def test_a_stop_is_heard_while_a_hook_waits(serve: Servers, hook: str) -> None:
    """For somebody who does not answer: it runs in the master, which nothing else would end."""
    config, waits = serve.folder / "waiting.py", serve.folder / "waits"
    config.write_text("")
    server = serve("behaviours:app", "--config", str(config), allow_errors=True)
    server.wait_workers(1)
    config.write_text(
        f"import pathlib, time\n\ndef {hook}:\n    pathlib.Path({str(waits)!r}).touch()\n"
        "    while True:\n        time.sleep(1)\n"
    )
    server.send_signal(signal.SIGHUP)
    wait_until(waits.exists, what="the hook runs")

    assert server.stop(deadline_s=10) == 0


def test_hooks_that_raise_what_is_no_exception(serve: Servers) -> None:
    """A task that was cancelled, an exit: the line in the log is all that comes of it."""
    config = serve.folder / "raising.py"
    config.write_text(
        "import asyncio\n\n"
        "def post_request(worker, req, environ, resp):\n    raise asyncio.CancelledError\n\n"
        "def child_exit(server, worker):\n    raise KeyboardInterrupt\n\n"
        "def nworkers_changed(server, new, old):\n    raise GeneratorExit\n"
    )
    server = serve("behaviours:app", "--config", str(config), allow_errors=True)
    [worker] = server.wait_workers(1)
    with server.connect() as client:
        for _ in range(3):
            assert client.get("/hello").status == 200
    assert server.wait_workers(1) == [worker]
    os.kill(worker, signal.SIGKILL)
    server.wait_log("worker ready", 2)

    assert server.get("/hello").status == 200
    for hook in ("post_request", "child_exit", "nworkers_changed"):
        assert server.logged("hook failed", hook=hook)
    assert server.stop() == 0
