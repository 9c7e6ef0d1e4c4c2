"""A new master takes over the sockets of the old one, under load, forwards and backwards."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from tests.system.conftest import Servers, bind_for
from tests.system.harness import Server, process_alive, title, wait_until
from tests.system.test_signals import held, load, write_app

DEADLINE_S = 40.0


def new_master(server: Server, count: int = 1) -> int:
    """Wait for the next successor to serve; its pid."""
    return int(server.wait_log("upgrade ready", count, DEADLINE_S)[-1]["new_pid"])


def upgrade(server: Server) -> int:
    """USR2 to the first master; the pid of the new one, which serves."""
    server.send_signal(signal.SIGUSR2)
    return new_master(server)


def left(server: Server, number: signal.Signals | None = None) -> int:
    """The first master's exit code, after a signal; its log goes on with the new master."""
    if number is not None:
        server.send_signal(number)
    return server.process.wait(DEADLINE_S)


def end(pid: int, number: signal.Signals = signal.SIGTERM) -> None:
    """End a master that is not the harness's own child."""
    os.kill(pid, number)
    wait_until(lambda: not process_alive(pid), DEADLINE_S, f"{pid} gone")


def workers_of(server: Server, master: int) -> list[int]:
    """The ready workers that one master has told of, and that live."""
    told = server.logged("worker ready", pid=master)
    return [int(line["worker_pid"]) for line in told if process_alive(int(line["worker_pid"]))]


def wait_workers(server: Server, master: int, count: int) -> list[int]:
    """Wait until one master has exactly so many."""
    return wait_until(
        lambda: found if len(found := workers_of(server, master)) == count else None,
        DEADLINE_S, f"{count} workers of {master}\n{server.report()}",
    ) if count else wait_until(lambda: not workers_of(server, master), DEADLINE_S) and []  # fmt: skip


@pytest.mark.parametrize(("transport", "keep_alive"), [("tcp", True), ("unix", False)])
def test_usr2_winch_quit_lose_nothing(serve: Servers, transport: str, keep_alive: bool) -> None:
    """The whole way to a new master: no client notices, and the pid file names the survivor."""
    pidfile, pidfile2 = serve.folder / "pid", serve.folder / "pid.2"
    server = serve(
        "behaviours:app", "--pid", str(pidfile), workers=2,
        bind=(bind_for(transport, serve.folder),),
    )  # fmt: skip
    server.wait_workers(2)
    with load(server, keep_alive=keep_alive) as clients:
        new = upgrade(server)
        assert (pidfile.read_text(), pidfile2.read_text()) == (f"{server.pid}\n", f"{new}\n")
        wait_workers(server, new, 2)
        assert len(workers_of(server, server.pid)) == 2, "both serve"
        server.send_signal(signal.SIGWINCH)
        wait_workers(server, server.pid, 0)
        server.send_signal(signal.SIGQUIT)
        assert left(server) == 0
        wait_until(lambda: pidfile.read_text() == f"{new}\n")
    assert clients.failures == []
    assert not pidfile2.exists()
    with server.connect() as connection:
        assert connection.get("/hello").body == b"hello\n"
    if transport == "unix":
        assert (serve.folder / "web.sock").exists()
    end(new)
    assert not pidfile.exists()
    assert not (serve.folder / "web.sock").exists()


def test_the_way_back_loses_nothing(serve: Servers) -> None:
    """After WINCH, HUP brings the old workers back, and the new master can be sent away."""
    pidfile = serve.folder / "pid"
    server = serve("behaviours:app", "--pid", str(pidfile), workers=2)
    server.wait_workers(2)
    with load(server) as clients:
        new = upgrade(server)
        server.send_signal(signal.SIGWINCH)
        wait_workers(server, server.pid, 0)
        assert "retired" in title(server.pid)
        server.send_signal(signal.SIGHUP)
        wait_workers(server, server.pid, 2)
        server.wait_log("reloaded", pid=server.pid)
        end(new)
        server.wait_log("new master has left")
    assert clients.failures == []
    assert pidfile.read_text() == f"{server.pid}\n"
    assert not (serve.folder / "pid.2").exists()
    assert server.get("/hello").body == b"hello\n"


def test_quit_waits_for_running_requests_once_a_successor_serves(serve: Servers) -> None:
    """WINCH and QUIT without a pause: what the old workers have begun is finished."""
    server = serve("behaviours:app", env={"RECORD": str(serve.folder / "record")})
    server.wait_workers(1)
    with held(server, serve.folder) as (connection, go_on):
        new = upgrade(server)
        server.send_signal(signal.SIGWINCH)
        server.send_signal(signal.SIGQUIT)
        server.wait_log("stopping")
        assert server.get("/hello").body == b"hello\n"
        go_on.touch()
        assert connection.response().status == 200
    assert left(server) == 0
    end(new)


def test_a_new_master_that_cannot_boot_changes_nothing(serve: Servers) -> None:
    """Code that cannot be loaded, settings that are wrong, a folder that is gone: all are told."""
    write_app(serve.folder, "ANSWER = b'old'")
    start, pidfile = serve.folder / "start", serve.folder / "pid"
    start.mkdir()
    conf = start / "conf.py"
    conf.write_text("timeout = 20\n")
    server = serve(
        "changing:app", "-c", "conf.py", "--chdir", str(serve.folder), "--pid", str(pidfile),
        bind=(f"unix:{serve.folder}/web.sock",), allow_errors=True, metrics=True, cwd=start,
    )  # fmt: skip
    [worker] = server.wait_workers(1)

    def still_there(failures: int, status: str) -> None:
        server.send_signal(signal.SIGUSR2)
        assert server.wait_log("upgrade failed", failures, DEADLINE_S)[-1]["status"] == status
        assert server.get("/").body == b"old"
        assert server.worker_pids() == [worker]
        assert os.listdir(serve.folder).count("web.sock") == 1
        assert not (serve.folder / "pid.2").exists()
        assert server.probe("/readyz").status_code == 200

    write_app(serve.folder, "raise RuntimeError('broken on purpose')")
    still_there(1, "exit code 3")
    conf.write_text("timeout = 'never'\n")
    still_there(2, "exit code 2")
    assert any("conf.py" in line for line in server.noise)
    start.rename(serve.folder / "away")
    still_there(3, "exit code 1")
    [line] = server.logged("successor cannot be executed")
    assert (line["directory"], line["reason"]) == (str(start), "No such file or directory")
    (serve.folder / "away").rename(start)

    conf.write_text("timeout = 20\n")
    write_app(serve.folder, "ANSWER = b'new'")
    new = upgrade(server)
    assert left(server, signal.SIGTERM) == 0
    assert server.get("/").body == b"new"
    end(new)


def test_everything_is_as_at_the_start(serve: Servers) -> None:
    """The new master has the old one's command, environment and directory, not what it changed."""
    site = serve.folder / "site"
    site.mkdir()
    write_app(site, "import os\nANSWER = repr([os.getcwd(), os.environ['WHERE']]).encode()")
    (serve.folder / "conf.py").write_text(
        "import os\nchdir = 'site'\nraw_env = ['WHERE=' + os.environ.get('WHERE', '') + '+']\n"
    )
    server = serve("changing:app", "-c", "conf.py", env={"WHERE": "start"})
    server.wait_workers(1)
    expected = repr([str(site), "start+"]).encode()
    assert server.get("/").body == expected
    new = upgrade(server)
    assert left(server, signal.SIGTERM) == 0
    assert server.get("/").body == expected
    end(new)


def test_a_new_master_that_dies_leaves_nobody_without_service(serve: Servers) -> None:
    """Killed after the old workers were sent away: the old master calls them back by itself."""
    server = serve("behaviours:app", metrics=True, allow_errors=True)
    server.wait_workers(1)
    with load(server) as clients:
        new = upgrade(server)
        server.send_signal(signal.SIGWINCH)
        wait_workers(server, server.pid, 0)
        children = workers_of(server, new)
        end(new, signal.SIGKILL)
        wait_workers(server, server.pid, 1)
        wait_until(lambda: not any(process_alive(pid) for pid in children), DEADLINE_S)
    server.wait_log("new master has left", status="SIGKILL")
    assert clients.failures == []
    server.wait_ready()


def test_winch_alone(serve: Servers) -> None:
    """WINCH sends the workers away and HUP brings them back; who comes meanwhile waits."""
    server = serve("behaviours:app", workers=2)
    server.wait_workers(2)
    server.send_signal(signal.SIGWINCH)
    wait_workers(server, server.pid, 0)
    with server.connect(timeout_s=DEADLINE_S) as patient:
        patient.request("GET", "/hello")
        server.send_signal(signal.SIGHUP)
        assert patient.response().body == b"hello\n"
    wait_workers(server, server.pid, 2)
    server.wait_log("reloaded")

    server.send_signal(signal.SIGWINCH)
    wait_workers(server, server.pid, 0)
    server.send_signal(signal.SIGTTIN)
    wait_workers(server, server.pid, 1)
    assert server.get("/hello").body == b"hello\n"
    assert "ready" in title(server.pid)


def test_one_upgrade_at_a_time(serve: Servers) -> None:
    """USR2 during an upgrade does nothing; after it, the new master can be upgraded in turn."""
    server = serve("behaviours:app", env={"RECORD": str(serve.folder / "record")})
    server.wait_workers(1)
    second = upgrade(server)
    for pid in (server.pid, second):
        os.kill(pid, signal.SIGUSR2)
    server.wait_log("no upgrade during an upgrade", 2)
    assert left(server, signal.SIGTERM) == 0
    wait_until(lambda: server.logged("old master has left", pid=second))
    os.kill(second, signal.SIGUSR2)
    third = wait_until(
        lambda: [int(x["new_pid"]) for x in server.logged("upgrade ready", pid=second)], DEADLINE_S
    )[0]
    end(second)
    assert server.get("/hello").body == b"hello\n"
    end(third)


class Scraper:
    """Asks the metrics port again and again, and notes which master's numbers it got."""

    def __init__(self, server: Server) -> None:
        """Nothing is asked before `start`."""
        self.url = f"{server.metrics_url}/metrics"
        self.seen: list[str] = []
        self.failures: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Scrape during a with block."""
        self._thread.start()
        try:
            yield
        finally:
            self._stop.set()
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.01):
            try:
                page = requests.get(self.url, timeout=20).text
            except requests.RequestException as error:
                self.failures.append(repr(error))
                continue
            found = [x for x in page.splitlines() if x.startswith("gthreadsrv_start_time_seconds")]
            self.seen += [line.split()[-1] for line in found]


def changes(values: list[str]) -> list[str]:
    """The values without repetitions side by side."""
    return [value for i, value in enumerate(values) if i == 0 or values[i - 1] != value]


def test_the_metrics_port_has_one_answerer(serve: Servers) -> None:
    """The old master's numbers, then the new one's, then the old one's again; never by turns."""
    server = serve("behaviours:app", metrics=True)
    server.wait_ready()
    scraper = Scraper(server)
    with scraper.at_work():
        wait_until(lambda: scraper.seen)
        new = upgrade(server)
        wait_until(lambda: len(changes(scraper.seen)) == 2, DEADLINE_S, "the new one answers")
        server.wait_log("metrics port taken over", pid=new)
        end(new)
        wait_until(lambda: len(changes(scraper.seen)) == 3, DEADLINE_S, "the old one answers")
    assert scraper.failures == []
    old, young, last = changes(scraper.seen)
    assert old == last != young


def test_the_applications_own_metrics_go_on_in_a_directory_of_the_users(serve: Servers) -> None:
    """With PROMETHEUS_MULTIPROC_DIR two masters' workers never write to one file."""
    directory = serve.folder / "metrics"
    server = serve("counting:app", metrics=True, env={"PROMETHEUS_MULTIPROC_DIR": str(directory)})
    server.wait_ready()
    total = 0

    def ask(times: int) -> None:
        nonlocal total
        for _ in range(times):
            assert server.get("/x").status == 200
        total += times

    def counted() -> bool:
        return server.sample("shop_calls_total") == total

    ask(5)
    new = upgrade(server)
    wait_until(lambda: server.logged("exporter ready", pid=new), DEADLINE_S)
    ask(20)
    wait_until(counted, what="all requests of both masters are in the sum")
    assert left(server, signal.SIGTERM) == 0
    ask(5)
    wait_until(counted)
    assert sorted({path.stem.rpartition("_")[2] for path in directory.glob("counter_*")}) == [
        "0", "0b",
    ]  # fmt: skip
    end(new)


@pytest.mark.program("logrotate")
def test_logrotate_loses_no_line(serve: Servers) -> None:
    """The example for logrotate, run by the real one: old lines in FILE.1, new ones in FILE."""
    folder = serve.folder
    (folder / "log").mkdir(mode=0o755)
    access, log, pidfile = (
        folder / "log" / "access.log",
        folder / "log" / "error.log",
        folder / "pid",
    )
    server = serve(
        "behaviours:app", "--error-logfile", str(log), "--access-logfile", str(access),
        "--pid", str(pidfile), bind=(f"unix:{folder}/web.sock",), allow_errors=True, workers=2,
    )  # fmt: skip
    wait_until(lambda: log.exists() and log.read_text().count("worker ready") == 2)
    example = Path(__file__).parents[2] / "examples" / "logrotate" / "gthreadsrv"
    config = folder / "logrotate.conf"
    config.write_text(
        example.read_text()
        .replace("/var/log/shop", str(folder / "log"))
        .replace("/run/shop/pid", str(pidfile))
    )
    config.chmod(0o644)

    def fetch(target: str) -> None:
        with server.connect(f"unix:{folder}/web.sock") as connection:
            assert connection.get(target).status == 200

    for number in range(20):
        fetch(f"/hello?before={number}")
    program = shutil.which("logrotate", path="/usr/sbin:/sbin:" + os.environ["PATH"])
    assert program
    done = subprocess.run(
        [program, "--force", "--state", str(folder / "state"), str(config)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    fetched = 0

    def goes_to_the_new_file() -> bool:
        nonlocal fetched
        fetch(f"/hello?after={fetched}")
        fetched += 1
        return access.exists() and "after" in access.read_text()

    wait_until(goes_to_the_new_file)
    assert server.stop() == 0
    lines = (folder / "log" / "access.log.1").read_text() + access.read_text()
    for word, count in (("before", 20), ("after", fetched)):
        assert all(f'?{word}={n}"' in lines or f"{word}={n}" in lines for n in range(count))
        assert lines.count(f"{word}=") == count


def test_usr2_before_the_first_worker_serves(serve: Servers) -> None:
    """Both masters boot side by side; the old one's being ready is no news to the new one."""
    write_app(serve.folder, "import time; time.sleep(2); ANSWER = b'here'")
    server = serve("changing:app", "--chdir", str(serve.folder), metrics=True)
    server.wait_log("listening", 2)
    new = upgrade(server)
    wait_workers(server, server.pid, 1)
    wait_workers(server, new, 1)
    server.wait_log("metrics port taken over", pid=new)
    assert left(server, signal.SIGTERM) == 0
    assert server.get("/").body == b"here"
    end(new)


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTTIN])
def test_signals_reach_a_new_master_that_has_just_been_executed(
    serve: Servers, number: signal.Signals
) -> None:
    """A log rotation in that moment neither ends it nor stops it: it gets to it once it can."""
    server = serve("behaviours:app")
    server.wait_workers(1)
    server.send_signal(signal.SIGUSR2)
    [line] = server.wait_log("upgrading")
    new = int(line["new_pid"])
    # A new command line: it is executed. Its handlers take far longer.
    wait_until(lambda: b"-m\0gthreadsrv\0" in Path(f"/proc/{new}/cmdline").read_bytes())
    os.kill(new, number)
    assert new_master(server) == new
    if number is signal.SIGTTIN:
        wait_workers(server, new, 2)
    end(new)
