"""Whether cost grows as it should: with threads, connections, workers and size.

    python -m tests.bench.peers.scaling [--quick] [--sweeps threads,workers] [--publish]

Throughput and CPU per request of ours, and of granian beside it, drawn in build/bench/scaling.png.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.bench.peers.environment import ROOT, SetupError, say
from tests.bench.peers.load import LoadError, Stream
from tests.bench.peers.running import measure
from tests.bench.peers.servers import OURS
from tests.bench.peers.session import OUTPUT, check, fail, options, save, session, words
from tests.bench.peers.workloads import Entry, Row

SERVERS = (OURS, "granian")
MIB = 1024 * 1024


@dataclass(frozen=True)
class Sweep:
    """One thing that grows, and the load at each of its values."""

    name: str
    title: str
    unit: str
    values: tuple[int, ...]
    at: Callable[[str, int], tuple[Entry, Stream]]
    base: int = 2
    # Where the numbers span decades.
    log_scale: bool = False


SWEEPS = (
    Sweep(
        "threads", "threads, hello world", "threads", (1, 2, 4, 8, 16, 32, 64),
        lambda server, value: (Entry(server, threads=value), Stream(connections=64)),
    ),
    Sweep(
        "blocking", "threads, 5 ms handler", "threads", (1, 2, 4, 8, 16, 32, 64),
        lambda server, value: (Entry(server, threads=value), Stream("/sleep-5ms", 128)),
    ),
    Sweep(
        "connections", "connections, hello world", "connections",
        (1, 10, 100, 1000, 3000, 10_000),
        lambda server, value: (Entry(server), Stream(connections=value)), base=10,
    ),
    Sweep(
        "workers", "workers on 2 cores, hello world", "workers", (1, 2, 4, 8),
        lambda server, value: (
            Entry(server, workers=value, server_cores=(0, 1), load_cores=(1,)),
            Stream(connections=64),
        ),
    ),
    Sweep(
        "size", "bytes of the response", "bytes", (1, 1024, 16 * 1024, 128 * 1024, MIB, 16 * MIB),
        lambda server, value: (Entry(server), Stream(f"/large?{value}", 8)), log_scale=True,
    ),
)  # fmt: skip


def points(sweep: Sweep, values: tuple[int, ...], around: Any, deadline: float) -> dict[str, Any]:
    """Ours and the peer at each value, in turn."""
    found: dict[str, list[Any]] = {server: [] for server in SERVERS}
    for value in values:
        for server in SERVERS:
            if time.monotonic() > deadline:
                say("the time is up")
                break
            entry, stream = sweep.at(server, value)
            row = Row(
                sweep.name, sweep.title, (entry,), (stream,), idle_connections=stream.connections
            )
            try:
                sample = measure(row, entry, around)
            except LoadError as error:
                say(f"{sweep.name} {value} {server}: {error}")
                continue
            say(f"{sweep.name} {value} {server}: {sample['rate']:.0f}/s {sample['cpu_us']:.1f} us")
            found[server].append((value, sample))
    return {
        "title": sweep.title, "unit": sweep.unit, "base": sweep.base,
        "log_scale": sweep.log_scale,
        "servers": {server: drawn for server, drawn in found.items() if drawn},
    }  # fmt: skip


def main() -> int:
    """Measure and draw; 1 when it cannot be run."""
    parser = options(__doc__)
    parser.add_argument("--sweeps", default="", help="only these, separated by commas")
    chosen = parser.parse_args()
    check(parser, chosen)
    wanted = words(parser, "--sweeps", chosen.sweeps, [sweep.name for sweep in SWEEPS])
    deadline = time.monotonic() + chosen.minutes * 60
    try:
        with session(chosen.python, 1 if chosen.quick else chosen.seconds) as at:
            sweeps = [
                points(sweep, sweep.values[:: 2 if chosen.quick else 1], at.around, deadline)
                for sweep in SWEEPS
                if not wanted or sweep.name in wanted
            ]
            folder = ROOT / "docs" if chosen.publish else OUTPUT
            picture = folder / "scaling.png"
            save("scaling", {"sweeps": sweeps, "about": at.about}, picture)
            sys.stdout.write(f"{picture}\n")
    except SetupError as error:
        return fail(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
