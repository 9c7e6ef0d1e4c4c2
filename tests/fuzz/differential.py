"""Hold the two parsers to each other over many streams: python -m tests.fuzz.differential.

Each stream is read by both parsers and cut in two ways; all readings must agree on every
request, header and body byte, on where each message ends, and on the status of a refusal.
A process that grows from stream to stream is a fault as well.
Prints a count of what the streams led to; a disagreement is printed with the seed and number
that make it again, and exits 1.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from dataclasses import dataclass
from multiprocessing import Pool
from random import Random

from gthreadsrv.http import HeadParser, Limits, make_parser
from gthreadsrv.http.recall import Recall, RecallingParser
from tests.fuzz.conversation import converse
from tests.fuzz.streams import cut, make_stream

GENEROUS = Limits(line=8190, fields=100, field_size=8190, body=0)
TIGHT = Limits(line=40, fields=8, field_size=120, body=32)
BATCH = 2000
WARM = 5
"""Batches of a process after which it must not grow any more."""
GROWTH_LIMIT_KB = 8192
MOST_FAULTS = 1000
"""Kept of them: a parser that is wrong about everything must not fill the memory."""


class Readers:
    """The parsers, with and without a memory, for both limits; kept from stream to stream, as a worker's thread does."""

    def __init__(self) -> None:
        self._sets: list[tuple[Limits, HeadParser, HeadParser, HeadParser]] = [
            (
                limits,
                make_parser("h11", limits),
                make_parser("httptools", limits),
                RecallingParser(make_parser("httptools", limits), Recall()),
            )
            for limits in (GENEROUS, TIGHT)
        ]

    @property
    def generous(self) -> tuple[HeadParser, HeadParser]:
        """The parsers with the limits of the default settings."""
        return self._sets[0][1:3]

    def disagreement(self, rng: Random) -> tuple[str | None, str]:
        """What two readings of one stream made of it differently, and how the stream ended."""
        tight = rng.random() < 0.25
        stream = make_stream(rng)
        return self.judge(tight, stream, cut(rng, stream))

    def judge(self, tight: bool, stream: bytes, pieces: list[bytes]) -> tuple[str | None, str]:
        """The same of one stream, whole and in these pieces, under one of the limits."""
        limits, h11, httptools, recalling = self._sets[tight]
        expected = converse(h11, limits, [stream])
        for name, parser, cuts in (
            ("httptools", httptools, [stream]),
            ("httptools, cut", httptools, pieces),
            ("recalling", recalling, [stream]),
            ("recalling, again", recalling, pieces),
            ("h11, cut", h11, pieces),
        ):
            found = converse(parser, limits, cuts)
            if found != expected:
                return f"{stream!r}\n  h11: {expected}\n  {name}: {found}", "disagreement"
        last = expected[-1]
        requests = sum(event[0] == "body" for event in expected)
        outcome = f"refused {last[1]}" if last[0] == "refused" else "read to the end"
        return None, f"{outcome}, after requests: {min(requests, 4)}"


@dataclass(frozen=True)
class Batch:
    """What came of some streams, and the memory of the process that read them."""

    outcomes: Counter[str]
    faults: list[str]
    pid: int
    memory_kb: int


def check_batch(job: tuple[int, int, int]) -> Batch:
    """Check streams number `start` to `start + count` of a seed."""
    seed, start, count = job
    readers = Readers()
    outcomes: Counter[str] = Counter()
    faults = []
    for number in range(start, start + count):
        fault, outcome = readers.disagreement(Random(f"{seed}:{number}"))
        outcomes[outcome] += 1
        if fault is not None:
            faults.append(f"--seed {seed} --start {number} --count 1\n  {fault}")
    return Batch(outcomes, faults, os.getpid(), memory_kb())


def memory_kb() -> int:
    """What this process has made for itself."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("RssAnon:"))


class Flatness:
    """Whether processes that read stream after stream keep their size."""

    def __init__(self) -> None:
        self._seen: dict[int, list[int]] = {}

    def note(self, pid: int, memory_kb: int) -> None:
        """After one more batch; the first ones fill the memories that the parsers have."""
        self._seen.setdefault(pid, []).append(memory_kb)

    def grown_kb(self) -> int:
        """The most that one has grown since it was warm."""
        return max(
            (sizes[-1] - sizes[min(WARM, len(sizes) - 1)] for sizes in self._seen.values()),
            default=0,
        )

    def largest_kb(self) -> int:
        """The largest there has been."""
        return max(max(sizes) for sizes in self._seen.values())


def main() -> int:
    """Run the command line; the exit status is 1 after a disagreement."""
    parser = argparse.ArgumentParser(description="compare the two HTTP parsers")
    parser.add_argument("--count", type=int, default=1_000_000, help="streams to try")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--start", type=int, default=0, help="number of the first stream")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()

    begun = time.monotonic()
    outcomes: Counter[str] = Counter()
    faults: list[str] = []
    end = options.start + options.count
    flatness = Flatness()
    jobs = [
        (options.seed, start, min(BATCH, end - start)) for start in range(options.start, end, BATCH)
    ]
    with Pool(options.jobs) as pool:
        for batch in pool.imap_unordered(check_batch, jobs):
            outcomes += batch.outcomes
            faults += batch.faults[: MOST_FAULTS - len(faults)]
            flatness.note(batch.pid, batch.memory_kb)
    for outcome, count in sorted(outcomes.items()):
        print(f"{count:9d}  {outcome}")
    for fault in faults[:5]:
        print(f"DISAGREEMENT {fault}")
    seconds = time.monotonic() - begun
    grown = flatness.grown_kb()
    print(
        f"{outcomes.total()} streams, seed {options.seed}, {len(faults)} disagreements,"
        f" {seconds:.0f} s, {outcomes.total() / seconds:.0f} a second; the largest process has"
        f" {flatness.largest_kb()} KiB, {grown} more than when it was warm"
    )
    if grown > GROWTH_LIMIT_KB:
        print(f"MEMORY: a process has grown by {grown} KiB")
    return 1 if faults or grown > GROWTH_LIMIT_KB else 0


if __name__ == "__main__":
    sys.exit(main())
