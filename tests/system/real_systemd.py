"""The shipped units under a real systemd, as process 1 of a container.

    python -m tests.system.real_systemd

As root, with podman and debootstrap. The first run installs a Debian into build/systemd, which
takes a few minutes; later runs take about one. Says what it sees, step by step, and leaves with 1
at the first thing that is not as it should be.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import requests

from tests.bench.ports import free_port
from tests.system.client import Connection
from tests.system.harness import Server, open_socket, wait_until
from tests.system.test_signals import load

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "systemd"
IMAGE = CONTAINER = "gthreadsrv-systemd"
PACKAGES = "systemd,systemd-sysv,procps,python3,python3-venv"
DEADLINE_S = 60.0

APPLICATION = """
import os, time

def application(environ, start_response):
    if environ["PATH_INFO"] == "/slow":
        time.sleep(5)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.getppid()} {sorted(n for n in os.environ if 'NOTIFY' in n)}".encode()]
"""


def run(*words: str, **options: object) -> str:
    """Run a command that must succeed; its output."""
    done = subprocess.run(words, check=False, capture_output=True, text=True, **options)  # type: ignore[call-overload]
    if done.returncode:
        sys.exit(f"{' '.join(words)}: {done.returncode}\n{done.stdout}{done.stderr}")
    return str(done.stdout)


def inside(*words: str) -> str:
    """Run a command in the container."""
    return run("podman", "exec", CONTAINER, *words)


def show(name: str) -> str:
    """One property of the service."""
    return inside("systemctl", "show", "--value", "--property", name, "shop").strip()


def up() -> bool:
    """Whether systemd answers already, and the service runs."""
    words = ["podman", "exec", CONTAINER, "systemctl", "is-active", "shop"]
    return subprocess.run(words, check=False, capture_output=True).returncode == 0


def debian() -> Path:
    """A Debian with systemd and this server, and nothing yet of the units."""
    tree = BUILD / "debian"
    if not (BUILD / "debian.ready").exists():
        shutil.rmtree(tree, ignore_errors=True)
        BUILD.mkdir(parents=True, exist_ok=True)
        print("installing Debian ...")
        run("debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(tree))
        run("chroot", str(tree), "useradd", "--system", "shop")
        run("chroot", str(tree), "python3", "-m", "venv", "/srv/shop/venv")
        (BUILD / "debian.ready").touch()
    wheels = tree / "opt" / "wheels"
    shutil.rmtree(wheels, ignore_errors=True)
    version = run("chroot", str(tree), "python3", "-c", "import sys; print(*sys.version_info[:2])")
    python = ".".join(version.split())
    # The machine's own pip, which knows where packages come from; Debian's Python decides which.
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", str(wheels), str(ROOT))
    run(
        sys.executable, "-m", "pip", "download", "--dest", str(wheels), "--only-binary", ":all:",
        "--python-version", python, *requirements(),
    )  # fmt: skip
    words = ["/srv/shop/venv/bin/pip", "install", "--no-index", "--find-links", "/opt/wheels"]
    run("chroot", str(tree), *words, "--force-reinstall", "gthreadsrv[fast]")
    return tree


def requirements() -> list[str]:
    """What the server needs, with its extra `fast`."""
    code = (
        "from importlib.metadata import requires; "
        "print(*[r.partition(';')[0] for r in requires('gthreadsrv') or [] "
        "if ';' not in r or 'fast' in r.partition(';')[2]], sep='\\n')"
    )
    return [line.strip() for line in run(sys.executable, "-c", code).splitlines()]


@contextmanager
def booted(web: int, metrics: int) -> Iterator[None]:
    """The container, with the units on these ports, for a with block."""
    tree = debian()
    for unit in (ROOT / "examples" / "systemd").iterdir():
        text = unit.read_text().replace("/run/shop.sock", f"127.0.0.1:{web}")
        text = text.replace("127.0.0.1:9180", f"127.0.0.1:{metrics}")
        # Sooner than in earnest, or this would take minutes.
        text = text.replace("WatchdogSec=30", "WatchdogSec=3")
        (tree / "etc/systemd/system" / unit.name).write_text(text)
        wants = "multi-user" if unit.suffix == ".service" else "sockets"
        link = tree / f"etc/systemd/system/{wants}.target.wants" / unit.name
        link.parent.mkdir(exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(f"/etc/systemd/system/{unit.name}")
    (tree / "srv/shop/shop").mkdir(exist_ok=True)
    (tree / "srv/shop/shop/wsgi.py").write_text(APPLICATION)
    archive = BUILD / "debian.tar"
    kept = [f"--exclude=./{name}/*" for name in ("proc", "sys", "dev", "var/cache")]
    run("tar", "-C", str(tree), *kept, "-cf", str(archive), ".")
    run("podman", "import", "--quiet", str(archive), IMAGE)
    # crun refuses a machine with both hierarchies of cgroups, the second of them with a controller.
    runc = shutil.which("runc", path=f"{os.environ['PATH']}:/usr/sbin")
    run(
        "podman", *(["--runtime", runc] if runc else []),
        # Replaced: one that could not be started is still there by its name.
        "run", "--detach", "--replace", "--name", CONTAINER, "--systemd=always", "--network=host",
        "--ulimit", "nofile=1024:4096", "--ulimit", "nproc=4096:4096", IMAGE, "/sbin/init",
    )  # fmt: skip
    try:
        wait_until(up, DEADLINE_S, "active")
        yield
    finally:
        run("podman", "rm", "--force", CONTAINER)
        archive.unlink()


def main() -> None:
    """Go through the service's life."""
    if os.geteuid():
        sys.exit("only root can make a container with a systemd in it")
    for program in ("podman", "debootstrap"):
        if shutil.which(program) is None:
            sys.exit(f"{program} is not installed; apt-get install podman debootstrap")
    web, metrics = free_port(), free_port()
    server = cast("Server", SimpleNamespace(address=f"127.0.0.1:{web}"))
    with booted(web, metrics):
        for step in (starts, reloads, restarts, upgrades, survives, is_watched, stops):
            said = step(server, metrics)
            print(f"{step.__name__}: {said}")


def undisturbed(server: Server, act: Callable[[], object]) -> int:
    """How many requests were answered while something was done; none may have failed."""
    with load(server, "/") as clients:
        act()
    if clients.failures:
        sys.exit(f"{len(clients.failures)} failures, the first: {clients.failures[0]}\n{journal()}")
    return len(clients.answers)


def journal() -> str:
    """What the service has logged."""
    return inside("journalctl", "--no-pager", "-n", "40", "-u", "shop")


def expect(what: str, seen: object, wanted: object) -> None:
    """End here unless they are the same."""
    if seen != wanted:
        sys.exit(f"{what}: {seen!r}, not {wanted!r}\n{journal()}")


def starts(server: Server, metrics: int) -> str:
    """Ready means that a worker serves; the status and the metrics are there."""
    wait_until(lambda: show("StatusText").endswith("threads busy"), DEADLINE_S, "status")
    answer = inside("/srv/shop/venv/bin/gthreadsrvctl", "health", "--ready", "--metrics-bind", f"127.0.0.1:{metrics}")  # fmt: skip
    expect("readiness", answer.strip(), "ok")
    return f"active, {show('StatusText')}"


def reloads(server: Server, _metrics: int) -> str:
    """`systemctl reload` is a HUP that nobody notices."""
    pid = show("MainPID")

    def act() -> None:
        inside("systemctl", "reload", "shop")
        wait_until(lambda: '"reloaded"' in journal(), DEADLINE_S, "reloaded")

    count = undisturbed(server, act)
    wait_until(lambda: show("ActiveState") == "active", DEADLINE_S, "no longer reloading")
    expect("main process", show("MainPID"), pid)
    return f"{count} requests, none failed"


def restarts(server: Server, _metrics: int) -> str:
    """`systemctl restart` lets clients wait, since the sockets are systemd's."""
    pid = show("MainPID")
    count = undisturbed(server, lambda: inside("systemctl", "restart", "shop"))
    if show("MainPID") == pid:
        sys.exit("the process is the same")
    return f"{count} requests, none failed"


def upgrades(server: Server, _metrics: int) -> str:
    """USR2 and QUIT: systemd follows to the new main process."""
    old = show("MainPID")
    seen = journal().count("upgrade ready")

    def act() -> None:
        inside("systemctl", "kill", "--kill-who=main", "-s", "USR2", "shop")
        wait_until(lambda: journal().count("upgrade ready") > seen, DEADLINE_S, "upgrade ready")
        inside("systemctl", "kill", "--kill-who=main", "-s", "QUIT", "shop")
        wait_until(lambda: show("MainPID") not in {old, "0"}, DEADLINE_S, "a new main process")
        wait_until(lambda: '"old master has left"' in journal(), DEADLINE_S, "the old one left")

    count = undisturbed(server, act)
    expect("state", show("ActiveState"), "active")
    expect("restarts", show("NRestarts"), "0")
    return f"{count} requests, none failed; main process {old}, then {show('MainPID')}"


def survives(_server: Server, _metrics: int) -> str:
    """The watchdog is content with the new main process for longer than its time."""
    pid = show("MainPID")
    inside("sleep", "8")
    expect("main process", show("MainPID"), pid)
    return "still the same main process after 8 s with WatchdogSec=3"


def is_watched(_server: Server, _metrics: int) -> str:
    """A fleet that cannot serve is restarted by systemd."""
    inside("sh", "-c", "echo 1/0 >>/srv/shop/shop/wsgi.py; pkill -KILL -f '^gthreadsrv: worker'")
    wait_until(lambda: show("Result") != "success" or show("NRestarts") != "0", DEADLINE_S, "seen")
    inside("sh", "-c", "sed -i /^1.0/d /srv/shop/shop/wsgi.py")
    if "Watchdog timeout" not in inside("journalctl", "--no-pager", "-u", "shop"):
        sys.exit(f"it was not the watchdog\n{journal()}")
    inside("systemctl", "reset-failed", "shop")
    inside("systemctl", "restart", "shop")
    wait_until(lambda: show("ActiveState") == "active", DEADLINE_S, "active again")
    return "workers that cannot boot: watchdog timeout, restarted"


def stops(server: Server, metrics: int) -> str:
    """`systemctl stop` lets a running request finish, and leaves nothing."""
    with Connection(open_socket(server.address, DEADLINE_S)) as connection:
        connection.request("GET", "/slow")
        page = f"http://127.0.0.1:{metrics}/metrics"
        runs = re.compile(r'^gthreadsrv_threads_busy\{worker="\d+"\} 1', re.MULTILINE)
        wait_until(
            lambda: runs.search(requests.get(page, timeout=20).text), DEADLINE_S, "the request runs"
        )
        inside("systemctl", "stop", "shop.service", "shop.socket", "shop-metrics.socket")
        expect("the answer", connection.response().status, 200)
    expect("result", show("Result"), "success")
    return "success, and the running request was answered"


if __name__ == "__main__":
    main()
