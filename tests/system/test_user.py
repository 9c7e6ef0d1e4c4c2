"""Dropping privileges: workers run as the user and group they are told to, nothing else does."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.certificates import Authority
from tests.system.client import Connection
from tests.system.conftest import Servers
from tests.system.fronts import socket_folder
from tests.system.harness import APPS, open_socket

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root may change its user")

NOBODY = 65534


def closed_folder(path: Path) -> Path | None:
    """The first folder on the way to the path that other users may not enter."""
    for folder in reversed([path, *path.parents]):
        if not folder.stat().st_mode & 0o001:
            return folder
    return None


def open_to_everybody(*paths: Path) -> list[str]:
    """A command prefix in whose view of the file system any user can reach these paths.

    Interpreters built in root's home cannot be used by anyone else.  In a mount namespace of
    its own, an empty folder anyone may enter is put over the closed one, and the paths are
    mounted back where they were.
    """
    commands = []
    for number, path in enumerate(paths):
        closed = closed_folder(path)
        if closed is None:
            continue
        place, keep = shlex.quote(str(path)), shlex.quote(f"/mnt/{number}")
        commands += [
            "mount -t tmpfs -o mode=755 none /mnt",
            f"mkdir {keep}",
            f"mount --bind {place} {keep}",
            f"mount -t tmpfs -o mode=755 none {shlex.quote(str(closed))}",
            f"mkdir -p {place}",
            f"mount --bind {keep} {place}",
        ]
    if not commands:
        return []
    script = " && ".join([*commands, 'exec "$@"'])
    return ["unshare", "--mount", "sh", "-ec", script, "sh"]


@pytest.fixture(scope="module")
def prefix() -> list[str]:
    """The way to start a server whose code the user nobody can read."""
    prefix = open_to_everybody(Path(sys.base_prefix), Path(sys.prefix), APPS)
    probe = subprocess.run(
        [*prefix, sys.executable, "-c",
         f"import os; os.setgid({NOBODY}); os.setuid({NOBODY}); import gthreadsrv.demo, h11"],
        cwd="/", capture_output=True, text=True, check=False,
    )  # fmt: skip
    if probe.returncode != 0:
        pytest.skip(f"another user cannot use this interpreter: {probe.stderr[-200:]}")
    # Nobody may not write coverage's data either.
    return [*prefix, "env", "-u", "COVERAGE_PROCESS_CONFIG"]


@pytest.mark.parametrize("preload", [False, True])
def test_workers_drop_to_user_and_group(serve: Servers, prefix: list[str], preload: bool) -> None:
    """User, group and supplementary groups are gone in the worker; the master keeps its own."""
    server = serve(
        "behaviours:app", "--user", "nobody", "--group", str(NOBODY),
        *(["--preload"] if preload else []), prefix=prefix, cwd=Path("/"), workers=2, metrics=True,
    )  # fmt: skip
    server.wait_ready()
    told = json.loads(server.get("/who").body)

    assert (told["uid"], told["gid"]) == (NOBODY, NOBODY)
    assert told["groups"] in ([], [NOBODY])
    owners = [Path(f"/proc/{pid}").stat().st_uid for pid in server.left_behind()]
    assert sorted(owners) == [0, NOBODY, NOBODY, NOBODY]


def test_application_is_imported_after_the_drop(serve: Servers, prefix: list[str]) -> None:
    """What the application does at import happens with the user's rights, not root's."""
    server = serve(
        "import_user:app", "--user", str(NOBODY), "--group", "nogroup",
        prefix=prefix, cwd=Path("/"),
    )  # fmt: skip

    assert server.get("/").text == f"{NOBODY} {NOBODY}"


def test_group_alone(serve: Servers, prefix: list[str]) -> None:
    """--group without --user changes the group only."""
    server = serve("behaviours:app", "--group", "nogroup", prefix=prefix, cwd=Path("/"))
    told = json.loads(server.get("/who").body)

    assert (told["uid"], told["gid"]) == (0, NOBODY)


def test_the_unix_socket_is_the_users(serve: Servers, prefix: list[str]) -> None:
    """Owner, group and --umask decide who may connect; the metrics port's socket is as guarded."""
    with socket_folder() as folder:
        server = serve(
            "behaviours:app", "--user", "nobody", "--group", str(NOBODY), "--umask", "007",
            "--metrics-bind", f"unix:{folder / 'metrics.sock'}",
            bind=(f"unix:{folder / 'web.sock'}",), prefix=prefix, cwd=Path("/"),
        )  # fmt: skip
        assert server.get("/hello").text == "hello\n"
        for name in ("web.sock", "metrics.sock"):
            found = (folder / name).stat()
            assert (found.st_uid, found.st_gid) == (NOBODY, NOBODY)
            assert found.st_mode & 0o777 == 0o770
        assert server.stop() == 0
        assert list(folder.iterdir()) == []


def test_a_key_that_only_root_may_read(serve: Servers, prefix: list[str], tmp_path: Path) -> None:
    """It is read before workers become another user, and again at a reload."""
    authority = Authority(tmp_path / "authority")
    files = authority.issue("server")
    Path(files.keyfile).chmod(0o600)
    server = serve(
        "behaviours:app", "--user", str(NOBODY), "--group", str(NOBODY),
        "--certfile", files.certfile, "--keyfile", files.keyfile, prefix=prefix, cwd=Path("/"),
    )  # fmt: skip
    server.wait_log("worker ready")
    server.send_signal(signal.SIGHUP)
    server.wait_log("reloaded")
    context = authority.client()
    with Connection(
        context.wrap_socket(open_socket(server.address), server_hostname="localhost")
    ) as connection:
        assert json.loads(connection.get("/who").body)["uid"] == NOBODY
