"""A load for the stack in compose.yaml: requests to the demo, more and fewer of them by turns.

It is an open loop: requests begin when the clock says so, whether or not earlier ones have been
answered, because that is what many independent users do. Standard library only; it runs from a
single file in the application's own image.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import math
import queue
import random
import signal
import sys
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Sequence

# Path and share: mostly fast, some waiting, a little computing, and one failure in 500.
ROUTES: Final = (("/fast", 558), ("/slow?ms=40", 350), ("/cpu?ms=10", 90), ("/fail", 2))
WAVE_S: Final = 300.0  # from one busy time to the next
SWING: Final = 0.6  # how far the rate goes up and down, as a share of it
TIMEOUT_S: Final = 10.0
REPORT_S: Final = 10.0


class Tally:
    """What came back; shared by all clients, each method takes the lock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answers: Counter[str] = Counter()
        self._seconds = 0.0

    def add(self, answer: str, seconds: float) -> None:
        """One request has ended."""
        with self._lock:
            self._answers[answer] += 1
            self._seconds += seconds

    def describe(self) -> str:
        """One line about all of them."""
        with self._lock:
            count = self._answers.total()
            mean_ms = 1000 * self._seconds / count if count else 0.0
            parts = ", ".join(f"{number} x {name}" for name, number in self._answers.most_common())
        return f"{count} requests, {mean_ms:.1f} ms on average: {parts or 'none'}"


class Client(threading.Thread):
    """One connection, kept open, that sends what is in the queue; None ends it."""

    def __init__(
        self, host: str, port: int, paths: queue.SimpleQueue[str | None], tally: Tally
    ) -> None:
        super().__init__(daemon=True)
        self._connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
        self._paths = paths
        self._tally = tally

    def run(self) -> None:
        """Serve the queue."""
        while (path := self._paths.get()) is not None:
            began = time.monotonic()
            answer = self._ask(path)
            self._tally.add(answer, time.monotonic() - began)
        self._connection.close()

    def _ask(self, path: str) -> str:
        try:
            self._connection.request("GET", path)
            response = self._connection.getresponse()
            response.read()
            return str(response.status)
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            return type(error).__name__


def rate_at(elapsed_s: float, rate: float) -> float:
    """Requests per second at this moment of the wave."""
    return rate * (1 + SWING * math.sin(2 * math.pi * elapsed_s / WAVE_S))


def run(
    host: str, port: int, rate: float, clients: int, seconds: float, stop: threading.Event
) -> Tally:
    """Send requests until it is time or `stop` is set; what came back."""
    tally = Tally()
    paths: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    crew = [Client(host, port, paths, tally) for _ in range(clients)]
    for client in crew:
        client.start()
    chance = random.Random()  # noqa: S311 - a load, no secret
    routes = [path for path, _ in ROUTES]
    shares = [share for _, share in ROUTES]
    began = due = time.monotonic()
    report = began + REPORT_S
    while not stop.is_set() and (not seconds or due - began < seconds):
        due += chance.expovariate(rate_at(due - began, rate))
        stop.wait(max(0.0, due - time.monotonic()))
        paths.put(chance.choices(routes, shares)[0])
        if due >= report:
            report += REPORT_S
            sys.stdout.write(f"{tally.describe()}\n")
    for _ in crew:
        paths.put(None)
    for client in crew:
        client.join(TIMEOUT_S)
    return tally


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tool."""
    parser = argparse.ArgumentParser(description="Send requests to gthreadsrv's demo.")
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="where [%(default)s]")
    parser.add_argument("--rate", type=float, default=50.0, help="per second [%(default)g]")
    parser.add_argument("--clients", type=int, default=64, help="connections [%(default)d]")
    parser.add_argument("--seconds", type=float, default=0.0, help="how long; 0 is for ever [0]")
    options = parser.parse_args(arguments)
    place = urlsplit(options.url)
    if place.scheme != "http" or not place.hostname:
        parser.error(f"--url: {options.url!r} is no http:// address")
    if options.rate <= 0 or options.clients < 1 or options.seconds < 0:
        parser.error("--rate must be above 0, --clients 1 or more, --seconds 0 or more")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with contextlib.suppress(BrokenPipeError):
        tally = run(
            place.hostname,
            place.port or 80,
            options.rate,
            options.clients,
            options.seconds,
            stop,
        )
        sys.stdout.write(f"{tally.describe()}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
