"""Everything at once for ten minutes, and then: nothing has grown, and every answer was counted.

    python -m tests.bench.soak [--minutes 10]

Clients of all kinds that retry nothing (kept-alive, pipelined, a connection for each request),
slow ones, bad ones; workers replaced after some thousand requests; and an operator who reloads,
adds and retires workers, kills workers and the exporter with KILL, and scrapes.

At the end the counters are held to what the clients received. Where a worker was killed, what it
ran is lost, and between a response's last byte and its count there is an instant; for everything
else the two are equal. Memory (the proportional share of what is not a file's) and descriptors
are compared by role: the most there was in the last third with the most in the second, the first
being warm-up.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import socket
import struct
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.system.chaos import load as load_module
from tests.system.chaos.crowd import crowd
from tests.system.chaos.load import Load, make_ledger
from tests.system.client import Connection
from tests.system.harness import Server, open_socket, process_alive, running, title, wait_until

WORKERS = 3
THREADS = 4
CLIENTS_EACH = 4
SLOW_EACH = 40
MEMORY_LIMIT_KB = 8192
SETTLE_S = 60.0
# Half an hour at this pace.
TOKENS = 1_000_000

REFUSED = (
    b"NONSENSE\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
)
BROKEN_OFF = (
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"GET / HTTP/1.1\r\nHost: a\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf",
    b"",
)


def role_of(pid: int, server: Server) -> str:
    """Whose process it is."""
    if pid == server.pid:
        return "master"
    return "exporter" if "exporter" in title(pid) else "worker"


def memory_kb(pid: int) -> int:
    """A process's share of memory that is no file's."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    found = {line.split()[0]: int(line.split()[1]) for line in lines[1:]}
    return found.get("Pss_Anon:", found["Pss:"])


@dataclass
class Record:
    """The most that a process of each role had, in each third of the time."""

    memory: list[Counter[str]] = field(default_factory=lambda: [Counter() for _ in range(3)])
    fds: list[Counter[str]] = field(default_factory=lambda: [Counter() for _ in range(3)])

    def look(self, server: Server, third: int) -> None:
        """Note what there is now."""
        for pid in server.left_behind():
            with contextlib.suppress(OSError, KeyError):
                role = role_of(pid, server)
                memory, fds = memory_kb(pid), len(os.listdir(f"/proc/{pid}/fd"))
                self.memory[third][role] = max(self.memory[third][role], memory)
                self.fds[third][role] = max(self.fds[third][role], fds)

    def complaints(self) -> list[str]:
        """What there is more of."""
        found = []
        for role in ("master", "exporter", "worker"):
            _, before, after = (counter[role] for counter in self.memory)
            print(f"  {role:8} memory {before} KiB, then {after} KiB; ", end="")
            print(f"descriptors {self.fds[1][role]}, then {self.fds[2][role]}")
            if after > before + MEMORY_LIMIT_KB:
                found.append(f"{role}: {after} KiB, was {before}")
        # The others' are their connections, and those come and go.
        if self.fds[2]["master"] > self.fds[1]["master"] + 4:
            found.append(f"master: {self.fds[2]['master']} descriptors")
        return found


class Vandals:
    """Clients that send what nobody should, and leave as nobody should."""

    def __init__(self, address: str) -> None:
        """Nothing is sent before `start`."""
        self.refusals: Counter[int] = Counter()
        self.visits = 0
        self._address = address
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        """Let them go."""
        self._thread.start()

    def stop(self) -> None:
        """Enough."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        rng = random.Random(1)
        while not self._stop.wait(0.02):
            with contextlib.suppress(OSError, AssertionError):
                self._visit(rng)

    def _visit(self, rng: random.Random) -> None:
        with Connection(open_socket(self._address, 5)) as connection:
            self.visits += 1
            connection.send(rng.choice(REFUSED if rng.random() < 0.5 else BROKEN_OFF))
            if rng.random() < 0.3:
                # Leaves with a reset.
                linger = struct.pack("ii", 1, 0)
                connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            elif rng.random() < 0.5:
                # Waits for its 400, or for its 408.
                self.refusals[connection.response().status] += 1


class Operator:
    """Does everything that one may do to a server, one thing after another."""

    def __init__(self, server: Server) -> None:
        """Nothing is done before `act`."""
        self.done: Counter[str] = Counter()
        self.killed: set[int] = set()
        self._server = server
        self._random = random.Random(2)

    def act(self) -> None:
        """One thing, and wait until it has come to its end where it has one."""
        server = self._server
        deed = self._random.choice(("reload", "grow", "kill", "kill exporter", "scrape", "scrape"))
        self.done[deed] += 1
        if deed == "reload":
            count = len(server.logged("reloaded")) + 1
            server.send_signal(signal.SIGHUP)
            server.wait_log("reloaded", count, SETTLE_S)
        elif deed == "grow":
            for number in (signal.SIGTTIN, signal.SIGTTOU):
                count = len(server.logged("workers wanted")) + 1
                server.send_signal(number)
                server.wait_log("workers wanted", count)
                time.sleep(0.2)
        elif deed == "kill":
            pids = server.worker_pids()
            if pids:
                victim = self._random.choice(pids)
                self.killed.add(victim)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(victim, signal.SIGKILL)
                wait_until(lambda: not process_alive(victim), SETTLE_S)
        elif deed == "kill exporter":
            for pid in server.left_behind():
                if role_of(pid, server) == "exporter":
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            wait_until(lambda: ready(server), SETTLE_S, "the exporter is back")
        else:
            with contextlib.suppress(OSError):
                assert server.probe("/metrics").status_code == 200


def ready(server: Server) -> bool:
    """Whether the exporter says so."""
    try:
        return server.probe("/readyz").status_code == 200
    except OSError:
        return False


def judge(server: Server, clients: Load, operator: Operator, started: float) -> list[str]:
    """Hold the counters to what the clients saw."""
    tally, kills = clients.tally, len(operator.killed)
    complaints = []
    try:
        clients.assert_lost_only_with(operator.killed, started, time.monotonic())
    except AssertionError as error:
        complaints.append(str(error)[:2000])
    low = tally.answered - kills * THREADS
    high = tally.answered + len(tally.lost)

    def counted() -> float:
        return server.sample("gthreadsrv_requests_total", method="GET", code="200")

    # A slow reader that has taken all of its megabyte before its time was up has an answer as well.
    try:
        wait_until(lambda: low <= counted() <= high, 30)
    except AssertionError:
        complaints.append(f"{counted():.0f} counted, {low} to {high} received")
    print(f"  requests_total {counted():.0f}, answers {tally.answered}, lost {len(tally.lost)}")
    return complaints


def soak(minutes: float, folder: Path) -> list[str]:
    """Run it all; what was wrong in the end."""
    load_module.TOKENS = TOKENS
    ledger = make_ledger(folder, 3 * CLIENTS_EACH + 1)
    with running(
        "ledger:app", "--max-requests", "3000", "--max-requests-jitter", "1000",
        "--header-timeout", "2", "--body-timeout", "2", "--write-timeout", "2", "--keep-alive", "5",
        cwd=folder, workers=WORKERS, threads=THREADS, metrics=True, env={"LEDGER": str(ledger)},
    ) as server:  # fmt: skip
        server.wait_workers(WORKERS)
        server.wait_ready()
        record, operator, vandals = Record(), Operator(server), Vandals(server.address)
        clients = Load(server.address, ledger, each=CLIENTS_EACH, pace_s=0.01)
        started = time.monotonic()
        length = minutes * 60
        vandals.start()
        clients.start()
        try:
            with crowd(server.address, SLOW_EACH, interval_s=0.5) as slow:
                while (gone := time.monotonic() - started) < length:
                    operator.act()
                    record.look(server, min(2, int(3 * gone / length)))
                    assert server.process.poll() is None, server.report()
                    time.sleep(min(1.0, length / 60))
        finally:
            clients.stop()
            vandals.stop()
        print(f"{length:.0f} s: {clients.tally}")
        print(f"  done: {dict(operator.done)}; slow clients: {slow.seen}")
        print(f"  bad clients: {vandals.visits} visits, refused {dict(vandals.refusals)}")
        complaints = judge(server, clients, operator, started) + record.complaints()
        wait_until(
            lambda: sum(server.samples("gthreadsrv_connections").values()) == 0, 60, "all left"
        )
        code = server.stop(deadline_s=60)
        if code:
            complaints.append(f"exit code {code}")
        if server.left_behind():
            complaints.append(f"left behind: {server.left_behind()}")
        complaints += [
            f"logged: {line}"
            for line in server.lines
            if line["level"] == "critical" or line["event"] == "application failed"
        ]
        complaints += [line for line in server.noise if "Traceback" in line]
    return complaints


def main() -> int:
    """Soak; 1 when something was wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        complaints = soak(options.minutes, Path(folder))
    print(
        "\n".join(complaints) or "nothing has grown, lost is only what was killed, all else counted"
    )
    return int(bool(complaints))


if __name__ == "__main__":
    sys.exit(main())
