"""A container engine of the tests' own: a dockerd that is started, spoken to and stopped.

Two times over one store of images.  First beside the machine's network, without any of its own, to
build: that needs a package index.  Then in a new network namespace, into which this process moves
too: there it may have bridges, addresses and rules of its own, nothing outside of it is touched,
and no port can be taken by somebody else.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
import tarfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.system.harness import wait_until

ROOT = Path(__file__).parents[2]
WORK = ROOT / "build" / "image"
BASE = "gthreadsrv-test-base"
IMAGE = "gthreadsrv"
SUITE = "bookworm"

_CLONE_NEWNET = 0x40000000
_NO_NETWORK = (
    "--bridge=none",
    "--iptables=false",
    "--ip6tables=false",
    "--ip-forward=false",
    "--ip-masq=false",
)
# When it is broken off, what it has started and mounted (/proc, which nobody can remove) goes as well.
_ALONE = ("unshare", "--mount", "--pid", "--fork", "--kill-child")
# What an imported image has no use for.  Bytecode is left out because Python's own images have none.
_LEFT_OUT = ("./proc/", "./sys/", "./dev/", "./var/cache/apt/", "./var/lib/apt/lists/")


def run(argv: Sequence[str], timeout_s: float = 120, **more: Any) -> str:
    """Run a command; its output.  AssertionError with what it said when it fails."""
    done = subprocess.run(
        argv, capture_output=True, text=True, timeout=timeout_s, check=False, **more
    )
    assert done.returncode == 0, f"{' '.join(argv)}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout.strip()


class Engine:
    """One dockerd, and the client's commands to it."""

    def __init__(self, folder: Path) -> None:
        """`folder` is short-lived and short-named: a socket's path has 107 bytes."""
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.environ = {
            # docker-compose is a Python program with a Python of its own.
            **{
                name: value
                for name, value in os.environ.items()
                if not name.startswith(("DOCKER_", "PYTHON"))
            },
            "DOCKER_HOST": f"unix://{folder}/docker.sock",
            "DOCKER_BUILDKIT": "0",
            "COMPOSE_DOCKER_CLI_BUILD": "0",
        }

    def start(self, *options: str) -> None:
        """Start it and wait until it answers."""
        data = WORK / "data"
        data.mkdir(parents=True, exist_ok=True)
        with (WORK / "dockerd.log").open("ab") as log:
            self._process = subprocess.Popen(
                ["dockerd", "--data-root", str(data), "--exec-root", f"{self._folder}/exec",
                 "-p", f"{self._folder}/docker.pid", "-H", f"unix://{self._folder}/docker.sock",
                 *options],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        wait_until(self._answers, 60, what=f"dockerd (see {WORK / 'dockerd.log'})")

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"dockerd ended: see {WORK / 'dockerd.log'}"
        command = ["docker", "info"]
        return not subprocess.run(
            command, env=self.environ, capture_output=True, check=False
        ).returncode

    def stop(self) -> None:
        """End it and all containers."""
        if self._process is None:
            return
        if self._process.poll() is None:
            left = self.docker("ps", "--all", "--quiet").split()
            if left:
                self.docker("rm", "--force", "--volumes", *left)
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(10)
        self._process = None

    def docker(self, *arguments: str, timeout_s: float = 120) -> str:
        """One command of the client; its output."""
        return run(["docker", *arguments], timeout_s, env=self.environ)

    def inspect(self, name: str, kind: str = "container") -> Any:
        """What the engine knows about it."""
        return json.loads(self.docker("inspect", "--type", kind, name))[0]

    def build(self, folder: Path, tag: str, *options: str, dockerfile: str | None = None) -> None:
        """Build an image with the machine's network."""
        options = (*options, *(("--file", str(folder / dockerfile)) if dockerfile else ()))
        self.docker("build", "--network=host", "--tag", tag, *options, str(folder), timeout_s=600)


def import_base(engine: Engine) -> None:
    """Make the image that stands in for Python's own slim one: Debian's Python in Debian."""
    if engine.docker("images", "--quiet", BASE):
        return
    tree, unfinished = WORK / "rootfs", WORK / "rootfs.unfinished"
    if not (tree / "usr" / "bin" / "python3").exists():
        for old in (tree, unfinished):
            shutil.rmtree(old, ignore_errors=True)
        include = "--include=python3,python3-venv,ca-certificates"
        run([*_ALONE, "debootstrap", "--variant=minbase", include, SUITE, str(unfinished)], 900)
        # Whatever this machine trusts, the build must trust to reach a package index.
        shutil.copy(
            "/etc/ssl/certs/ca-certificates.crt", unfinished / "etc/ssl/certs/ca-certificates.crt"
        )
        shutil.copy("/etc/resolv.conf", unfinished / "etc/resolv.conf")
        # Whole or not there: one that was broken off may have its Python already.
        unfinished.rename(tree)
    archive = WORK / "base.tar"

    def wanted(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        unwanted = member.name.startswith(_LEFT_OUT) or member.name.endswith(".pyc")
        return None if unwanted else member

    with tarfile.open(archive, "w") as tar:
        tar.add(tree, ".", filter=wanted)
    engine.docker("import", str(archive), BASE)
    archive.unlink()


@contextlib.contextmanager
def own_network() -> Iterator[None]:
    """Move this process, and what it starts from now on, into a network namespace; and back."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/self/ns/net") as before:
        if libc.unshare(_CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "unshare")
        try:
            run(["ip", "link", "set", "lo", "up"])
            yield
        finally:
            libc.setns(before.fileno(), _CLONE_NEWNET)


def without_network(engine: Engine) -> None:
    """Start the engine for building."""
    engine.start(*_NO_NETWORK)


class Container:
    """One running container of the image, and the ways to reach it from outside."""

    def __init__(self, engine: Engine, name: str, started: float) -> None:
        self.engine = engine
        self.name = name
        self.started = started

    @property
    def state(self) -> Any:
        """As the engine sees it."""
        return self.engine.inspect(self.name)["State"]

    @property
    def health(self) -> str:
        """`starting`, `healthy` or `unhealthy`."""
        return str(self.state["Health"]["Status"])

    @property
    def address(self) -> str:
        """Its address on the bridge: no proxy of the engine's stands between."""
        return str(self.engine.inspect(self.name)["NetworkSettings"]["IPAddress"])

    def log(self) -> list[dict[str, Any]]:
        """The server's own lines."""
        done = subprocess.run(
            ["docker", "logs", self.name], env=self.engine.environ,
            capture_output=True, text=True, timeout=30, check=True,
        )  # fmt: skip
        return [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]


@contextlib.contextmanager
def running(
    engine: Engine,
    name: str,
    *arguments: str,
    image: str = IMAGE,
    options: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
) -> Iterator[Container]:
    """A container that is removed at the end, whatever has become of it."""
    variables = [word for key, value in (env or {}).items() for word in ("--env", f"{key}={value}")]
    began = time.monotonic()
    engine.docker("run", "--detach", "--name", name, *options, *variables, image, *arguments)
    try:
        yield Container(engine, name, began)
    finally:
        engine.docker("rm", "--force", "--volumes", name)
