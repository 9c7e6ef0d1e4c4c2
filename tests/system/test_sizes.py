"""How many workers there are to be, when several have a say: reloads, WINCH, signals, hooks."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from pathlib import Path

from tests.system.conftest import Servers
from tests.system.harness import Server, read_record, wait_until
from tests.system.notify_socket import notify_socket
from tests.system.test_signals import write_app
from tests.system.test_upgrade import DEADLINE_S, wait_workers

HOOKS = """
import os
workers = {workers!r}

def nworkers_changed(server, new, old):
    with open({sizes!r}, "a") as file:
        print(new, old, file=file)

def on_reload(server):
    if os.path.exists({refuse!r}):
        raise RuntimeError("not now")
"""


class Sizes:
    """A configuration file that notes each change, and may refuse a reload."""

    def __init__(self, folder: Path) -> None:
        self.conf, self.sizes, self.refuse = (folder / n for n in ("conf.py", "sizes", "refuse"))

    def write(self, workers: int | str) -> None:
        text = HOOKS.format(workers=workers, sizes=str(self.sizes), refuse=str(self.refuse))
        self.conf.write_text(text)

    def told(self) -> list[str]:
        return read_record(self.sizes).splitlines()

    def wait(self, *told: str) -> None:
        wait_until(lambda: self.told() == [*told], DEADLINE_S, f"{told}, not {self.told()}")


def served(serve: Servers, sizes: Sizes, **more: object) -> Server:
    return serve(
        "behaviours:app", "-c", str(sizes.conf), workers=None, allow_errors=True,
        env={"RECORD": str(serve.folder / "record")}, **more,
    )  # fmt: skip


def test_hooks_hear_of_a_size_that_a_reload_could_not_bring(serve: Servers) -> None:
    """A refused reload has announced a number of workers; the hook is told that it is not so."""
    sizes = Sizes(serve.folder)
    sizes.write(1)
    server = served(serve, sizes)
    server.wait_workers(1)
    sizes.refuse.touch()
    sizes.write(3)
    server.send_signal(signal.SIGHUP)
    server.wait_log("reload failed")
    sizes.wait("1 None", "3 1", "1 3")
    server.send_signal(signal.SIGTTIN)
    server.wait_workers(2)
    sizes.wait("1 None", "3 1", "1 3", "2 1")


def test_a_range_called_back_serves_although_all_of_it_still_finishes(serve: Servers) -> None:
    """WINCH over four workers, each with a long request; HUP does not wait for their slots."""
    sizes = Sizes(serve.folder)
    sizes.write("1:4")
    server = served(serve, sizes, threads=1)
    server.wait_workers(1)
    with ExitStack() as stack:
        connections = []
        for count in range(1, 5):
            # One thread each, so the next one is another's; the load may have asked for it too.
            server.send_signal(signal.SIGTTIN)
            server.wait_workers(min(count + 1, 4))
            connections.append(stack.enter_context(server.connect()))
            connections[-1].request("GET", f"/hold?name=h{count}&until={serve.folder / 'go'}")
            record = serve.folder / "record"
            wait_until(lambda word=f"holding h{count}": word in read_record(record))
        server.send_signal(signal.SIGWINCH)
        server.wait_log("workers retired")
        server.send_signal(signal.SIGHUP)
        server.wait_log("reloaded")
        assert server.get("/hello").body == b"hello\n"
        assert sizes.told()[-3:] == ["0 4", "1 0", "1 1"]
        (serve.folder / "go").touch()
        assert [connection.response().status for connection in connections] == [200] * 4
    server.send_signal(signal.SIGWINCH)
    wait_workers(server, server.pid, 0)
    for number in (signal.SIGTTIN, signal.SIGTTOU):
        server.send_signal(number)
        server.wait_log("the number of workers stays", detail="HUP brings the workers back")
        server.lines.clear()


def test_a_reload_that_winch_overtakes_is_over_for_the_manager(
    serve: Servers, tmp_path: Path
) -> None:
    """With nobody to try the new revision, `systemctl reload` does not wait for it."""
    write_app(serve.folder, "ANSWER = b''")
    with notify_socket(str(tmp_path / "notify")) as manager:
        server = serve(
            "changing:app", "--chdir", str(serve.folder), env={"NOTIFY_SOCKET": manager.name}
        )
        manager.wait("READY=1")
        write_app(serve.folder, "import time; time.sleep(600)")
        server.send_signal(signal.SIGHUP)
        server.wait_log("reloading")
        server.send_signal(signal.SIGWINCH)
        server.wait_log("workers retired")
        manager.wait("READY=1", 2)
        wait_workers(server, server.pid, 0)
        write_app(serve.folder, "ANSWER = b'back'")
        server.send_signal(signal.SIGHUP)
        server.wait_log("reloaded")
        manager.wait("READY=1", 3)
        assert server.get("/").body == b"back"
