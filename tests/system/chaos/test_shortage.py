"""What runs out or goes wrong around the server: memory, disk, descriptors, imports, the clock."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.chaos.load import load
from tests.system.chaos.stage import (
    WHOLE_S,
    Footprint,
    assert_counted,
    exporter_pid,
    mood,
    serve_ledger,
    tell,
)
from tests.system.client import ClosedError, Connection, Response
from tests.system.conftest import Servers
from tests.system.harness import Server, open_socket, process_alive, wait_until

THREADS = 4
MB = 1024 * 1024
CGROUPS = Path("/sys/fs/cgroup")


# -- memory --------------------------------------------------------------------------------


@contextlib.contextmanager
def memory_cgroup(limit: int) -> Iterator[Path]:
    """A real memory cgroup with this limit, v1 or v2; or a skip."""
    old = (CGROUPS / "memory").is_dir()
    folder = (CGROUPS / "memory" if old else CGROUPS) / f"gthreadsrv-test-{os.getpid()}"
    try:
        folder.mkdir()
        name = "memory.limit_in_bytes" if old else "memory.max"
        (folder / name).write_text(str(limit))
    except OSError as error:
        with contextlib.suppress(OSError):
            folder.rmdir()
        pytest.skip(f"no memory cgroup can be made here: {error}")
    try:
        yield folder
    finally:
        wait_until(lambda: not (folder / "cgroup.procs").read_text(), what="the cgroup is empty")
        folder.rmdir()


def test_out_of_memory(serve: Servers) -> None:
    """The kernel kills one worker of the container: the others serve, and the reason is told."""
    with memory_cgroup(300 * MB) as cgroup:
        server, ledger = serve_ledger(
            serve, threads=THREADS,
            prefix=("sh", "-c", f'echo $$ >{cgroup}/cgroup.procs; exec "$@"', "sh"),
        )  # fmt: skip
        workers = server.worker_pids()
        before = Footprint.of([server.pid, exporter_pid(server), *workers])
        with load(server, ledger, work_ms=2) as clients, server.connect() as greedy:
            victim = int(greedy.get("/t?token=0").body.split()[0])
            started = time.monotonic()
            with pytest.raises((ClosedError, ConnectionError)):
                greedy.get("/keep?token=0&mb=400")
            server.wait_log("worker ready", 3)
            server.wait_workers(2)
            whole_s = time.monotonic() - started
            clients.wait_more()
            ended = time.monotonic()
        tell("OOM kill of a worker in a cgroup", clients, whole_s)
        # The kernel may take another while the first one's memory is not free yet.
        killed = {pid for pid in workers if not process_alive(pid)}
        assert victim in killed
        clients.assert_lost_only_with(killed, started, ended)
        server.wait_ready()
        assert server.sample("gthreadsrv_worker_exits_total", reason="oom") >= 1
        before.assert_back()
        serve.finish()


def test_the_master_is_the_last_that_the_kernel_takes(serve: Servers) -> None:
    """By what each process adds to its size, however many came before it."""
    server, _ = serve_ledger(serve)

    def score(pid: int) -> int:
        return int(Path(f"/proc/{pid}/oom_score_adj").read_text())

    own = score(os.getpid())
    assert score(server.pid) == own
    assert score(exporter_pid(server)) == min(1000, own + 50)
    server.send_signal(signal.SIGHUP)
    server.wait_log("reloaded")
    assert {score(pid) for pid in server.wait_workers(2)} == {min(1000, own + 100)}


# -- disk ----------------------------------------------------------------------------------


def private_disk(size: str, at: Path) -> tuple[str, ...]:
    """A command that gives what it executes a small disk at this place; or a skip."""
    at.mkdir()
    script = f'mount -t tmpfs -o size={size} small "{at}" && exec "$@"'
    prefix = ("unshare", "--mount", "sh", "-c", script, "sh")
    for way in (prefix, ("unshare", "--mount", "--map-root-user", *prefix[2:])):
        if shutil.which("unshare") and not subprocess.run([*way, "true"], check=False).returncode:
            return way
    pytest.skip("no mounts of its own can be made here")


def upload(server: Server, size: int) -> Response | None:
    """Send a body and take the answer, also one that comes before the body's end; None: cut."""
    with Connection(open_socket(server.address)) as connection:
        with contextlib.suppress(OSError):
            connection.request("POST", "/upload?token=0", body=b"x" * size)
        try:
            return connection.response()
        except (OSError, ClosedError):
            return None


@pytest.mark.parametrize("limit", ["disk", "file size"])
def test_no_room_for_a_body(serve: Servers, limit: str) -> None:
    """A body that cannot be stored is answered 500; smaller ones and everybody else are served."""
    small = serve.folder / "small"
    prefix = private_disk("2m", small) if limit == "disk" else ("prlimit", f"--fsize={2 * MB}")
    server, ledger = serve_ledger(serve, prefix=prefix, env={"TMPDIR": str(small)})
    before = Footprint.of([server.pid, exporter_pid(server), *server.worker_pids()])
    with load(server, ledger) as clients:
        for _ in range(5):
            answer = upload(server, 8 * MB)
            assert answer is not None
            assert answer.status == 500
            answer = upload(server, MB + 1000)
            assert answer is not None
            assert answer.body.endswith(b"%d" % (MB + 1000))
        clients.wait_more()
    tell(f"no room for bodies: {limit}", clients)
    assert len(server.wait_log("request body cannot be stored", 5)) == 5
    clients.assert_nothing_lost()
    assert_counted(server, clients)
    assert server.sample("gthreadsrv_requests_total", method="POST", code="500") == 5
    assert server.sample("gthreadsrv_requests_total", method="POST", code="200") == 5
    # The C library keeps what each of four threads has freed of such bodies: 7.3 MB after 800 of
    # these uploads, and no more after 1,000.
    before.assert_back(slack_kb=8192)


def shared_kb(pid: int) -> int:
    """Memory of a process's files that are memory."""
    found = 0
    for fd in os.listdir(f"/proc/{pid}/fd"):
        path = f"/proc/{pid}/fd/{fd}"
        with contextlib.suppress(OSError):
            if os.readlink(path).startswith("/memfd:"):
                found += os.stat(path).st_blocks // 2
    return found


def test_a_body_in_a_container_without_a_writable_directory(serve: Servers) -> None:
    """It goes to memory, of which it gets so much: one client is not the end of the others."""
    config = serve.folder / "no_directory.py"
    config.write_text(
        "import tempfile\n\ndef _none(**_):\n    raise FileNotFoundError('no usable directory')\n\n"
        "tempfile.TemporaryFile = _none\n"
    )
    server, ledger = serve_ledger(serve, "--config", str(config), workers=1)
    [worker] = server.worker_pids()
    most = 0
    with load(server, ledger) as clients, Connection(open_socket(server.address)) as greedy:
        greedy.send(
            b"POST /upload?token=0 HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999\r\n\r\n"
        )
        with contextlib.suppress(OSError):
            for _ in range(100):
                greedy.send(bytes(MB))
                most = max(most, shared_kb(worker))
        server.wait_log("request body cannot be stored")
        answer = upload(server, 2 * MB)
        assert answer is not None
        assert answer.status == 200
        clients.wait_more()
    clients.assert_nothing_lost()
    assert MB // 1024 < most <= 64 * 1024
    assert server.wait_workers(1) == [worker]
    wait_until(lambda: shared_kb(worker) == 0, what="the memory is given back")


# -- descriptors ---------------------------------------------------------------------------


def test_out_of_descriptors_at_accept(serve: Servers) -> None:
    """Idle clients make room, everybody else is served, and the descriptors come back."""
    server, ledger = serve_ledger(serve, workers=1, prefix=("prlimit", "--nofile=64"))
    [worker] = server.worker_pids()
    before = Footprint.of([server.pid, exporter_pid(server), worker])
    with contextlib.ExitStack() as crowd, load(server, ledger) as clients:
        for _ in range(100):
            connection = crowd.enter_context(server.connect())
            connection.request("GET", "/t?token=0")
            assert connection.response().status == 200
        server.wait_log("cannot accept connections")
        clients.wait_more()
    tell("no descriptors for new connections", clients)
    assert clients.tally.wrong == []
    assert clients.tally.refused == []
    assert clients.tally.lost == []
    assert server.wait_workers(1) == [worker]
    before.assert_back()


# -- imports -------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["hang", "crash"])
def test_imports_that_do_not_come_to_an_end(serve: Servers, what: str) -> None:
    """A reload is given up, a lost worker is tried again and again; meanwhile the other serves."""
    server, ledger = serve_ledger(serve, "--boot-timeout", "1")
    victim, other = server.worker_pids()
    before = Footprint.of([server.pid, exporter_pid(server), other])
    with load(server, ledger, work_ms=2) as clients:
        mood(serve, what)
        server.send_signal(signal.SIGHUP)
        server.wait_log("reload failed")
        clients.wait_more()
        assert sorted(server.worker_pids()) == sorted([victim, other])
        started = time.monotonic()
        os.kill(victim, signal.SIGKILL)
        server.wait_log("worker could not boot", 3)
        clients.wait_more()
        mood(serve, "")
        retry_s = max(line["retry_in_seconds"] for line in server.logged("worker could not boot")
                      if "retry_in_seconds" in line)  # fmt: skip
        mended = time.monotonic()
        server.wait_log("worker ready", 3)
        whole_s = time.monotonic() - mended
        clients.wait_more()
        ended = time.monotonic()
    tell(f"an import, later mended: {what}", clients, whole_s)
    clients.assert_lost_only_with({victim}, started, ended)
    # One that hangs at that moment has its second to the end, and its pause after that.
    assert whole_s < 2 * retry_s + 1.0 + 2 * WHOLE_S
    assert clients.tally.by_pid[other] > 0
    assert_counted(server, clients, THREADS)
    before.assert_back()


# -- the clock -----------------------------------------------------------------------------

# The kernel's own clock is everybody's on a machine, so it is Python's view of it that jumps. A
# unix socket's requests have no times by the kernel, which would not jump along.
SITECUSTOMIZE = """
import os, time
real, real_ns, path = time.time, time.time_ns, os.environ["CLOCK_JUMP"]
def jump():
    try:
        with open(path) as file:
            return int(file.read() or 0)
    except OSError:
        return 0
time.time = lambda: real() + jump()
time.time_ns = lambda: real_ns() + jump() * 1_000_000_000
"""


def test_a_wall_clock_that_jumps(serve: Servers) -> None:
    """A day ahead and two days back: nobody times out, nobody is replaced, no time is counted."""
    (serve.folder / "sitecustomize.py").write_text(SITECUSTOMIZE)
    jump = serve.folder / "jump"
    path = os.pathsep.join([str(serve.folder), os.environ.get("PYTHONPATH", "")])
    server, ledger = serve_ledger(
        serve, "--timeout", "3", bind=(f"unix:{serve.folder}/web.sock",), allow_errors=False,
        env={"PYTHONPATH": path, "CLOCK_JUMP": str(jump)},
    )  # fmt: skip
    pids = server.left_behind()
    with server.connect() as idle, load(server, ledger) as clients:
        date = idle.get("/t?token=0").header("Date")
        for seconds in (86_400, -86_400, 0):
            jump.write_text(str(seconds))
            clients.wait_more(300)
            assert server.probe("/livez").status_code == 200
            assert server.probe("/readyz").status_code == 200
            answer = idle.get("/t?token=0")
            assert (answer.header("Date") == date) is False or seconds == 0
    tell("a wall clock that jumps by a day", clients)
    clients.assert_nothing_lost()
    wait_until(lambda: sorted(server.left_behind()) == sorted(pids), what="the same processes")
    for name in ("request_duration_seconds", "request_queue_seconds", "application_seconds"):
        total = server.sample(f"gthreadsrv_{name}_sum")
        assert 0 <= total < 600, f"{name}: {total}"
