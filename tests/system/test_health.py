"""`gthreadsrvctl health`, /readyz under saturation, and the page on the main listener."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from gthreadsrv.ctl import asking
from gthreadsrv.ctl.asking import NoAnswerError
from gthreadsrv.net.address import TcpAddress
from tests.system.conftest import Servers
from tests.system.harness import Server, read_record, run_cli, wait_until


def ask(
    *args: str, cwd: Path, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run gthreadsrvctl health."""
    return run_cli("health", *args, cwd=cwd, env=env, module="gthreadsrv.ctl")


def port(server: Server) -> str:
    """The metrics port as a setting."""
    return server.metrics_url.removeprefix("http://")


def test_health_of_a_server_that_is_well(serve: Servers) -> None:
    """0 and a word; the place comes from a flag, the environment or the configuration file."""
    server = serve("behaviours:app", metrics=True)
    server.wait_ready()
    bind = port(server)
    (serve.folder / "named.py").write_text(f"metrics_bind = {bind!r}\n")
    for args, env in (
        (("--metrics-bind", bind), {}),
        (("--ready",), {"GTHREADSRV_METRICS_BIND": bind}),
        ((), {"GTHREADSRV_CMD_ARGS": f"--metrics-bind {bind} behaviours:app"}),
        (("--config", "named.py", "--ready"), {}),
    ):
        done = ask(*args, cwd=serve.folder, env=env)
        assert (done.returncode, done.stdout, done.stderr) == (0, "ok\n", ""), args


def test_health_over_a_unix_socket(serve: Servers) -> None:
    """A metrics port may be a socket file."""
    where = f"unix:{serve.folder}/metrics.sock"
    server = serve("behaviours:app", "--metrics-bind", where)
    server.wait_workers(1)
    wait_until(
        lambda: ask("--ready", "--metrics-bind", where, cwd=serve.folder).returncode == 0,
        what=server.report(),
    )


def test_health_tells_why_not(serve: Servers) -> None:
    """1 and the reason: it boots, it drains, it is gone."""
    go_on = serve.folder / "go"
    server = serve(
        "slow_import:app", "--drain-delay", "20", metrics=True, env={"VARIABLE": str(go_on)}
    )
    wait_until(lambda: server.probe("/livez").status_code == 200)
    where = ("--metrics-bind", port(server))
    booting = ask("--ready", *where, cwd=serve.folder)
    assert (booting.returncode, booting.stdout) == (1, "no worker is ready (booting)\n")
    assert ask(*where, cwd=serve.folder).returncode == 0

    go_on.touch()
    server.wait_ready()
    server.send_signal(signal.SIGTERM)
    server.wait_log("lingering")
    draining = ask("--ready", *where, cwd=serve.folder)
    assert (draining.returncode, draining.stdout) == (1, "shutting down\n")
    assert ask(*where, cwd=serve.folder).returncode == 0

    server.send_signal(signal.SIGQUIT)
    assert server.wait_exit() == 0
    gone = ask(*where, cwd=serve.folder)
    assert (gone.returncode, gone.stdout) == (1, "")
    assert "does not answer: Connection refused" in gone.stderr
    assert gone.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("--metrics-bind", "off"), "metrics_bind: off"),
        (("--metrics-bind", "127.0.0.1:0"), "does not tell where the server listens"),
        (("--metrics-bind", "fd://3"), "does not tell where the server listens"),
        (("--metrics-bind", "::x"), "set by --metrics-bind"),
        (("--config", "nowhere.py"), "nowhere.py"),
        (("--timeout", "soon"), "'soon' is not a number of seconds above 0"),
        (("--timeout=-1",), "'-1' is not a number"),
        (("--timeout", "nan"), "'nan' is not a number"),
        (("--timeout", "1e300"), "3600 at most"),
        (("--what",), "--what"),
    ],
)
def test_a_wrong_question_is_told_apart_from_a_wrong_answer(
    tmp_path: Path, args: tuple[str, ...], says: str
) -> None:
    """Exit code 2, as for the server's own settings."""
    done = ask(*args, cwd=tmp_path)

    assert done.returncode == 2
    assert says in done.stderr


def test_not_ready_when_too_many_threads_are_busy(serve: Servers) -> None:
    """--ready-max-saturation sends new clients elsewhere while it lasts."""
    record, go_on = serve.folder / "record", serve.folder / "go"
    server = serve(
        "behaviours:app",
        "--ready-max-saturation",
        "0.5",
        metrics=True,
        threads=2,
        env={"RECORD": str(record)},
    )
    server.wait_ready()
    with server.connect() as connection:
        connection.request("GET", f"/hold?until={go_on}")
        wait_until(lambda: read_record(record).count("holding") == 1)
        refused = server.probe("/readyz")
        assert refused.status_code == 503
        assert refused.text == "1 of 2 threads are busy, the limit is 50%\n"
        go_on.touch()
        assert connection.response().status == 200
    server.wait_ready()


@pytest.mark.parametrize("metrics", [True, False])
@pytest.mark.parametrize("preload", [(), ("--preload",)])
def test_the_page_on_the_main_listener(
    serve: Servers, metrics: bool, preload: tuple[str, ...]
) -> None:
    """--metrics-path serves it there too, and only there; the application sees the rest."""
    server = serve("behaviours:app", "--metrics-path", "/stats", *preload, metrics=metrics)
    server.wait_workers(1)
    assert server.get("/hello").body == b"hello\n"
    page = server.get("/stats", Host="a")

    assert page.header("Content-Type").startswith("text/plain; version=0.0.4")
    assert b"gthreadsrv_requests_total{" in page.body
    assert b"gthreadsrv_listener_backlog{" in page.body
    assert server.get("/stats/").status == 404
    assert server.get("/metrics").status == 404


def test_what_came_too_late_is_called_that(monkeypatch: pytest.MonkeyPatch) -> None:
    """By what ended the wait: two clocks may differ on whether it was long enough."""
    monkeypatch.setattr(asking, "time", SimpleNamespace(monotonic=lambda: 0.0), raising=False)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        where = TcpAddress("127.0.0.1", listener.getsockname()[1])
        done = threading.Event()

        def drip() -> None:
            sock, _ = listener.accept()
            with sock, contextlib.suppress(OSError):
                while not done.wait(0.02):
                    sock.sendall(b"H")

        dripping = threading.Thread(target=drip)
        dripping.start()
        with pytest.raises(NoAnswerError, match="does not answer within 0.3 s"):
            asking.ask(where, "/livez", 0.3)
        done.set()
        dripping.join()


def test_health_waits_no_longer_than_it_was_told(tmp_path: Path) -> None:
    """Also for a server that sends a byte now and then."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        done = threading.Event()

        def drip() -> None:
            sock, _ = listener.accept()
            with sock, contextlib.suppress(OSError):
                while not done.wait(0.05):
                    sock.sendall(b"H")

        dripping = threading.Thread(target=drip)
        dripping.start()
        found = ask("--metrics-bind", address, "--timeout", "0.5", cwd=tmp_path)
        done.set()
        dripping.join()

    assert found.returncode == 1
    assert found.stderr == f"gthreadsrvctl: error: {address} does not answer within 0.5 s\n"


def test_health_of_a_name_that_is_none(tmp_path: Path) -> None:
    """One line, no traceback."""
    found = ask("--metrics-bind", "a..b:80", cwd=tmp_path)

    assert found.returncode in (1, 2)
    assert "Traceback" not in found.stderr
