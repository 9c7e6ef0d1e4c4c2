"""Clients that retry nothing and count everything: answers, wrong ones, losses and refusals.

Each request has a number.  The application (`ledger.py`) notes it with the process that runs it,
so that of a request without an answer is known whose it was, and of each answer whether it is
the right one.  Three kinds of clients: kept-alive, pipelined (several requests in one write),
and a connection for each request.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.system.apps.ledger import ENTRY, pad
from tests.system.client import ClosedError, Connection, Response, build_request
from tests.system.harness import Server, open_socket, wait_until

KINDS = ("keep-alive", "pipelined", "new")
PIPELINE = 4
TOKENS = 100_000
"""Requests that one client may make."""

_CLOSE = {"Connection": "close"}


def make_ledger(folder: Path, clients: int = 64) -> Path:
    """An empty ledger; sparse, so that its size costs nothing."""
    path = folder / "ledger"
    with path.open("wb") as file:
        file.truncate((clients + 1) * TOKENS * ENTRY.size)
    return path


@dataclass(frozen=True)
class Loss:
    """A request without an answer."""

    token: int
    kind: str
    pid: int | None
    """Who answered before on this connection; None on a new one."""
    at: float
    why: str


@dataclass
class Tally:
    """What the clients have seen; each list has one writer at a time by the lock of `Load`."""

    answered: int = 0
    by_pid: dict[int, int] = field(default_factory=dict)
    lost: list[Loss] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    dropped: int = 0
    """Pipelined behind an answer that ended its connection: told so, but not answered."""

    def __str__(self) -> str:
        """One line for a report."""
        return (
            f"{self.answered} answered, {len(self.lost)} lost, {len(self.wrong)} wrong, "
            f"{self.dropped} dropped, {len(self.refused)} refused"
        )


class Load:
    """Clients at work, each on a thread."""

    def __init__(
        self,
        address: str,
        ledger: Path,
        each: int = 3,
        pace_s: float = 0.004,
        work_ms: int = 0,
        first: int = 1,
    ) -> None:
        """``each`` clients of each kind; ``first`` is the number of the first one's tokens."""
        self.address = address
        self.tally = Tally()
        self._ledger = ledger
        self._pace_s = pace_s
        self._work_ms = work_ms
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._run, args=(kind, first + number * len(KINDS) + index))
            for number in range(each)
            for index, kind in enumerate(KINDS)
        ]

    def start(self) -> None:
        """Let them go."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Wait for the answers under way."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def wait_more(self, count: int = 100) -> None:
        """Wait for so many more answers."""
        goal = self.tally.answered + count
        wait_until(lambda: self.tally.answered >= goal, 30, f"{count} more answers: {self.tally}")

    # -- one client ------------------------------------------------------------------------

    def _run(self, kind: str, client: int) -> None:
        token = client * TOKENS
        end = token + TOKENS - PIPELINE
        while not self._stop.is_set() and token < end:
            try:
                sock = open_socket(self.address, 30)
            except OSError as error:
                with self._lock:
                    self.tally.refused.append(type(error).__name__)
                self._stop.wait(0.05)
                continue
            with Connection(sock) as connection:
                token = self._converse(connection, kind, token, end)

    def _converse(self, connection: Connection, kind: str, token: int, end: int) -> int:
        """Ask on one connection until it ends; the next token."""
        pid: int | None = None
        count = PIPELINE if kind == "pipelined" else 1
        headers = _CLOSE if kind == "new" else {}
        goes_on = True
        while goes_on and not self._stop.is_set() and token < end:
            tokens = list(range(token, token + count))
            token += count
            goes_on, pid = self._ask(connection, kind, tokens, headers, pid)
            self._stop.wait(self._pace_s)
        return token

    def _ask(
        self,
        connection: Connection,
        kind: str,
        tokens: list[int],
        headers: dict[str, str],
        pid: int | None,
    ) -> tuple[bool, int | None]:
        data = b"".join(
            build_request("GET", f"/t?token={token}&ms={self._work_ms}", headers)
            for token in tokens
        )
        closes = False
        try:
            connection.send(data)
        except OSError as error:
            self._lose(tokens, kind, pid, error)
            return False, pid
        while tokens:
            try:
                response = connection.response()
            except (OSError, ClosedError) as error:
                self._lose(tokens, kind, pid, error)
                return False, pid
            except AssertionError as error:
                with self._lock:
                    self.tally.wrong.append(f"{kind} {tokens[0]}: {error}")
                return False, pid
            pid = self._take(response, tokens.pop(0), kind) or pid
            closes = response.header("Connection") == "close"
            if closes and tokens:
                with self._lock:
                    self.tally.dropped += len(tokens)
                return False, pid
        return not closes, pid

    def _take(self, response: Response, token: int, kind: str) -> int | None:
        first, _, tail = response.body.partition(b"\n")
        pid, _, number = first.partition(b" ")
        right = response.status == 200 and number == b"%d" % token and tail == pad(token)
        with self._lock:
            if not right:
                self.tally.wrong.append(f"{kind} {token}: {response.status} {first[:100]!r}")
                return None
            self.tally.answered += 1
            self.tally.by_pid[int(pid)] = self.tally.by_pid.get(int(pid), 0) + 1
        return int(pid)

    def _lose(self, tokens: list[int], kind: str, pid: int | None, error: Exception) -> None:
        now = time.monotonic()
        with self._lock:
            self.tally.lost += [Loss(token, kind, pid, now, repr(error)) for token in tokens]

    # -- what became of it -----------------------------------------------------------------

    def ran(self, token: int) -> tuple[int, int]:
        """The process that ran a request last, 0 for nobody, and how often it was run."""
        with self._ledger.open("rb") as file:
            file.seek(token * ENTRY.size)
            pid, count = ENTRY.unpack(file.read(ENTRY.size))
        return pid, count

    def assert_nothing_lost(self) -> None:
        """No request failed in any way."""
        tally = self.tally
        assert tally.lost == []
        assert tally.wrong == []
        assert tally.refused == []
        assert tally.dropped == 0

    def assert_lost_only_with(self, pids: set[int], since: float, until: float) -> None:
        """What was lost ran on these processes, or waited on connections they held."""
        tally = self.tally
        assert tally.wrong == []
        assert tally.refused == []
        assert tally.dropped == 0
        for loss in tally.lost:
            ran_on, times = self.ran(loss.token)
            assert times <= 1, f"run twice: {loss}"
            assert (ran_on or loss.pid) in pids | {None}, f"lost with {ran_on}: {loss}"
            assert since <= loss.at <= until, f"not by the fault: {loss}"


@contextlib.contextmanager
def load(server: Server, ledger: Path, **options: float) -> Iterator[Load]:
    """Clients at work during a with block; they have answers before it begins."""
    clients = Load(server.address, ledger, **options)  # type: ignore[arg-type]
    clients.start()
    try:
        clients.wait_more()
        yield clients
    finally:
        clients.stop()
