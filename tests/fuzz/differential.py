"""Hold the two parsers to each other over many streams: python -m tests.fuzz.differential.

Each stream is read by both parsers and cut in two ways; all readings must agree on every
request, header and body byte, on where each message ends, and on the status of a refusal.
Prints a count of what the streams led to; a disagreement is printed with the seed and number
that make it again, and exits 1.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from random import Random

from gthreadsrv.http import HeadParser, Limits, make_parser
from gthreadsrv.http.recall import Recall, RecallingParser
from tests.fuzz.conversation import converse
from tests.fuzz.streams import cut, make_stream

GENEROUS = Limits(line=8190, fields=100, field_size=8190, body=0)
TIGHT = Limits(line=40, fields=8, field_size=120, body=32)
BATCH = 2000


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
        limits, h11, httptools, recalling = self._sets[rng.random() < 0.25]
        stream = make_stream(rng)
        pieces = cut(rng, stream)
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


def check_batch(seed: int, start: int, count: int) -> tuple[Counter[str], list[str]]:
    """Check streams number `start` to `start + count` of a seed."""
    readers = Readers()
    outcomes: Counter[str] = Counter()
    faults = []
    for number in range(start, start + count):
        fault, outcome = readers.disagreement(Random(f"{seed}:{number}"))
        outcomes[outcome] += 1
        if fault is not None:
            faults.append(f"--seed {seed} --start {number} --count 1\n  {fault}")
    return outcomes, faults


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
    with ProcessPoolExecutor(options.jobs) as pool:
        batches = [
            pool.submit(check_batch, options.seed, start, min(BATCH, end - start))
            for start in range(options.start, end, BATCH)
        ]
        for batch in batches:
            found, wrong = batch.result()
            outcomes += found
            faults += wrong
    for outcome, count in sorted(outcomes.items()):
        print(f"{count:9d}  {outcome}")
    for fault in faults[:5]:
        print(f"DISAGREEMENT {fault}")
    print(
        f"{outcomes.total()} streams, seed {options.seed}, {len(faults)} disagreements,"
        f" {time.monotonic() - begun:.0f} s"
    )
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
