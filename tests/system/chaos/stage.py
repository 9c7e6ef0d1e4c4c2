"""A server with its ledger, and what its processes hold: descriptors and memory."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.system.chaos.load import Load, make_ledger
from tests.system.conftest import Servers
from tests.system.harness import Server, process_alive, title, wait_until

# From the master's hearing of it to a whole fleet. On a machine that others use as well, the
# import alone may take longer: then it is `make chaos` that holds the server to its second.
FULL = os.environ.get("CHAOS") == "full"
WHOLE_S = 1.0 if FULL else 10.0
MEMORY_SLACK_KB = 4096


def serve_ledger(serve: Servers, *args: str, **options: Any) -> tuple[Server, Path]:
    """A server of the ledger's application with its exporter, ready, and the ledger."""
    ledger = make_ledger(serve.folder)
    env = {"LEDGER": str(ledger), "MOOD": str(serve.folder / "mood"), **options.pop("env", {})}
    options = {"workers": 2, "threads": 4, "metrics": True, "allow_errors": True, **options}
    server = serve("ledger:app", *args, env=env, **options)
    server.wait_workers(options["workers"])
    server.wait_ready()
    return server, ledger


def mood(serve: Servers, what: str) -> None:
    """What imports do from now on."""
    (serve.folder / "mood").write_text(what)


def exporter_pid(server: Server) -> int:
    """The exporter's."""
    [pid] = [pid for pid in server.left_behind() if "exporter" in title(pid)]
    return pid


def rss_anon_kb(pid: int) -> int:
    """Memory of a process's own making."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon:"))


def open_fds(pid: int) -> int:
    """How many descriptors a process has."""
    return len(os.listdir(f"/proc/{pid}/fd"))


@dataclass(frozen=True)
class Footprint:
    """What some processes hold."""

    fds: dict[int, int]
    memory_kb: dict[int, int]

    @classmethod
    def of(cls, pids: list[int]) -> Footprint:
        """Of these, now."""
        return cls({pid: open_fds(pid) for pid in pids}, {pid: rss_anon_kb(pid) for pid in pids})

    def assert_back(self, slack_kb: int = MEMORY_SLACK_KB) -> None:
        """Those that are still there hold what they held: descriptors soon, memory by and large."""
        for pid, before in self.fds.items():
            if process_alive(pid):
                wait_until(
                    lambda pid=pid, before=before: open_fds(pid) <= before,
                    30,
                    f"{title(pid)}: {before} descriptors again",
                )
                grown = rss_anon_kb(pid) - self.memory_kb[pid]
                assert grown <= slack_kb, f"{title(pid)}: {grown} KiB more"


def served(server: Server) -> float:
    """Responses with 200 to GET, as the metrics tell it."""
    return server.sample("gthreadsrv_requests_total", method="GET", code="200")


def assert_counted(server: Server, clients: Load, killed_threads: int = 0) -> None:
    """The counters say what the clients received.

    Where processes were killed: between a response's last byte and its count there is an
    instant, and what a client has not read yet dies with the connection.
    """
    answered, lost = clients.tally.answered, len(clients.tally.lost)
    if killed_threads:
        wait_until(
            lambda: answered - killed_threads <= served(server) <= answered + lost,
            30,
            f"{served(server)} counted, {clients.tally}",
        )
    else:
        wait_until(
            lambda: served(server) == answered, 30, f"{served(server)} counted, {clients.tally}"
        )


def tell(what: str, clients: Load, seconds: float | None = None) -> None:
    """A line for the report of `make chaos` (pytest -rP shows it)."""
    whole = "" if seconds is None else f", whole again after {seconds:.3f} s"
    print(f"CHAOS {what}: {clients.tally}{whole}")
