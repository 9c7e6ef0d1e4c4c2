"""A made-up machine under a real scoreboard: /proc, control groups, clocks and a worker."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

from gthreadsrv_metrics import MultiprocessCollector
from gthreadsrv_metrics.cgroup import CgroupReading, read_cgroup
from gthreadsrv_metrics.layout import CONFIG_FIELDS
from gthreadsrv_metrics.scoreboard import Scoreboard
from gthreadsrv_metrics.sources import ListenerSource, Sources

NOW = 1000.0
TICKS = os.sysconf("SC_CLK_TCK")
LISTENER = "127.0.0.1:8000"
BUILD = {"version": "1.0", "python": "3.11", "parser": "h11", "worker_class": "gthread"}


@dataclass(frozen=True)
class Usage:
    """Resource usage of a reaped process, as os.wait4 tells it."""

    ru_utime: float
    ru_stime: float


class Machine:
    """A made-up /sys/fs/cgroup and /proc."""

    def __init__(self, root: Path) -> None:
        self.cgroup = root / "cgroup"
        self.proc = root / "proc"
        self.cgroup.mkdir()
        (self.proc / "self").mkdir(parents=True)

    def write(self, path: str, text: str) -> None:
        """Write a control file."""
        file = self.cgroup / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")

    def own(self, text: str) -> None:
        """Say which groups the process is in."""
        (self.proc / "self" / "cgroup").write_text(text)

    def read(self) -> CgroupReading:
        """Read them."""
        return read_cgroup(str(self.cgroup), str(self.proc))


def process(root: Path, pid: int, *, pss_kib: int = 300) -> None:
    """Make up a process."""
    folder = root / str(pid)
    (folder / "fd").mkdir(parents=True)
    for fd in range(3):
        (folder / "fd" / str(fd)).touch()
    # utime stime cutime cstime are fields 14 to 17; the name has everything in it.
    (folder / "stat").write_text(
        f"{pid} (a (b) c) S 1 2 3 4 5 6 7 8 9 10 {2 * TICKS} {TICKS} {TICKS} 0 20 0 1 0 99"
    )
    (folder / "statm").write_text("1000 50 20 1 0 30 0")
    (folder / "smaps_rollup").write_text(f"00-ff ---p\nRss: 900 kB\nPss: {pss_kib} kB\n")
    (folder / "limits").write_text(
        "Limit        Soft Limit  Hard Limit  Units\nMax open files  1024  4096  files\n"
    )


class World:
    """A server with one ready worker, all of whose surroundings are made up."""

    def __init__(self, folder: Path, fd: int) -> None:
        self.now = NOW
        self.clients: list[socket.socket] = []
        self.board = Scoreboard(4, 2, [LISTENER])
        self.machine = Machine(folder)
        self.app = folder / "app"
        self.app.mkdir()
        process(self.machine.proc, 100)
        self.machine.own("0::/\n")
        for path, text in (
            ("cgroup.controllers", ""), ("cpu.max", "100000 100000"),
            ("cpu.stat", "nr_throttled 0\nthrottled_usec 0"), ("memory.current", "1000"),
            ("memory.max", "4000"), ("memory.events", "oom_kill 0"),
        ):  # fmt: skip
            self.machine.write(path, text)
        self.master = self.board.master
        self.master.lease(0, 100, 1, NOW)
        self.master.set_state(0, "ready")
        self.master.set_config(dict.fromkeys(CONFIG_FIELDS, 1.0))
        self.master.reloaded(True, 1.0)
        self.slot = self.board.slot(0)
        self.slot.kernel_times(0.0, 0.0)
        self.thread = self.board.thread(0, 0)
        self.sources = Sources(
            listeners=(ListenerSource(LISTENER, fd),), build=BUILD, app_directory=str(self.app),
            proc_root=str(self.machine.proc), cgroup_root=str(self.machine.cgroup),
            monotonic=lambda: self.now, wall=lambda: 5000.0 + self.now,
        )  # fmt: skip
        self.collector = MultiprocessCollector(self.board, self.sources)

    def request(self, **changes: object) -> None:
        """Serve a plain request."""
        facts: dict[str, object] = {
            "method": "GET", "status": 200, "started": self.now - 0.02, "app_s": 0.01,
            "queue_s": 0.001, "kernel": True, "body_in": 3, "body_out": 5,
        }  # fmt: skip
        self.thread.begin(self.now - 0.02)
        self.thread.finish(self.now, **(facts | changes))  # type: ignore[arg-type]

    def samples(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        """Scrape."""
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in self.collector.collect()
            for sample in family.samples
        }

    def value(self, name: str, **wanted: str) -> float:
        """Scrape and return one sample."""
        return self.samples()[f"gthreadsrv_{name}", tuple(sorted(wanted.items()))]


class Answer:
    """One response."""

    def __init__(self, status: str, headers: list[tuple[str, str]], body: bytes) -> None:
        self.status = status
        self.headers = dict(headers)
        self.body = body
        self.text = body.decode("utf-8", "replace")


def ask(app: Any, path: str, method: str = "GET", *, strict: bool = True, **headers: str) -> Answer:
    """Call a WSGI application, by default as a strict server would."""
    environ: dict[str, Any] = {"REQUEST_METHOD": method, "SCRIPT_NAME": "", "PATH_INFO": path}
    environ["QUERY_STRING"] = ""
    setup_testing_defaults(environ)
    environ.update({f"HTTP_{name.upper()}": value for name, value in headers.items()})
    answer: list[Any] = []

    def start_response(status: str, fields: list[tuple[str, str]], _exc: object = None) -> Any:
        answer.extend((status, fields))
        return answer.append

    result = (validator(app) if strict else app)(environ, start_response)
    body = b"".join(result)
    if strict:
        result.close()  # type: ignore[union-attr]
    return Answer(answer[0], answer[1], body)
