"""Compare gthreadsrv with its peers, and say which goals it meets.

    python -m tests.bench.peers [--quick] [--rows hello,flask] [--peers granian] [--publish]

Rounds are the outer loop, so that a run that is cut short by --minutes has fewer rounds of
everything rather than nothing of something. Servers take turns within a row. Everything goes to
build/bench; --publish writes the README and docs/ as well.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Sequence

from tests.bench.peers.environment import ROOT, SetupError, say
from tests.bench.peers.load import LoadError
from tests.bench.peers.report import document, goals_table, readme_part, replace_between
from tests.bench.peers.running import Sample, Surroundings, measure
from tests.bench.peers.servers import OURS, SERVERS
from tests.bench.peers.session import (
    OUTPUT,
    Session,
    check,
    fail,
    options,
    save,
    session,
    words,
)
from tests.bench.peers.workloads import ROWS, Entry, Row

QUICK_PEERS = ("granian", "gunicorn", "bjoern")

Collected = dict[str, dict[str, list[Sample | None]]]


def plan(rows: Sequence[str], peers: Sequence[str], left_out: Sequence[str]) -> list[Row]:
    """The rows that were asked for, with the servers that were asked for and are there."""
    return [
        Row(**{**vars(row), "entries": tuple(
            entry for entry in row.entries
            if (entry.server.startswith(OURS) or entry.server in peers)
            and entry.server not in left_out
        )})
        for row in ROWS
        if row.name in rows
    ]  # fmt: skip


def turn(entries: Sequence[Entry], number: int) -> list[Entry]:
    """Another one first in each round."""
    start = number % len(entries)
    return [*entries[start:], *entries[:start]]


def run_rounds(
    rows: Sequence[Row], rounds: int, deadline: float, around: Surroundings
) -> tuple[Collected, dict[str, str]]:
    """Measure; also why something could not be."""
    results: Collected = {row.name: {entry.key: [] for entry in row.entries} for row in rows}
    failures: dict[str, str] = {}
    failed: dict[tuple[str, str], int] = defaultdict(int)
    for number in range(rounds):
        for row in rows:
            for entry in turn(row.entries, number):
                sample = None
                if time.monotonic() > deadline:
                    failures.setdefault("rounds", f"the time was up in round {number + 1}")
                elif failed[row.name, entry.key] < 2:  # noqa: PLR2004 - it may stumble once
                    try:
                        sample = measure(row, entry, around)
                    except LoadError as error:
                        failed[row.name, entry.key] += 1
                        failures[f"{entry.key} in {row.name}"] = str(error)
                results[row.name][entry.key].append(sample)
                say(progress(number, row, entry, sample))
    return results, failures


def progress(number: int, row: Row, entry: Entry, sample: Sample | None) -> str:
    """One line for one run."""
    shown = {name: f"{value:.4g}" for name, value in (sample or {}).items()}
    numbers = " ".join(f"{name}={value}" for name, value in shown.items()) or "not measured"
    return f"{number + 1} {row.name:10} {entry.key:22} {numbers}"


def write(
    at: Session, results: Collected, failures: dict[str, str], seconds: int, publish: bool
) -> None:
    """The files, and the table on standard output."""
    rounds = max(len(samples) for entries in results.values() for samples in entries.values())
    about = {**at.about, "rounds": f"{rounds} of {seconds} s"}
    folder = ROOT / "docs" if publish else OUTPUT
    folder.mkdir(parents=True, exist_ok=True)
    if "hello" in results:
        save("peers", {"results": results, "about": about}, folder / "benchmarks.png")
    scaling = (folder / "scaling.png").exists()
    (folder / "benchmarks.md").write_text(document(results, about, failures, scaling))
    if publish:
        readme = ROOT / "README.md"
        readme.write_text(replace_between(readme.read_text(), readme_part(results, about)))
    sys.stdout.write(goals_table(results))
    say(f"every number: {folder / 'benchmarks.md'}")


def main() -> int:
    """Measure, judge, show; 1 when it cannot be run."""
    parser = options(__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="of every row")
    parser.add_argument("--rows", default="", help="only these, separated by commas")
    parser.add_argument("--peers", default="", help="only these servers beside ours")
    chosen = parser.parse_args()
    check(parser, chosen)
    rows = words(parser, "--rows", chosen.rows, [row.name for row in ROWS])
    peers = words(parser, "--peers", chosen.peers, list(SERVERS))
    if chosen.publish and (rows or peers):
        parser.error("--publish: it takes every row and every peer")
    if chosen.quick:
        chosen = argparse.Namespace(**{**vars(chosen), "rounds": 1, "seconds": 1})
        peers = peers or list(QUICK_PEERS)
    started = time.monotonic()
    try:
        with session(chosen.python, chosen.seconds) as at:
            wanted = plan(
                rows or [row.name for row in ROWS],
                peers or list(SERVERS),
                list(at.installed.left_out),
            )
            results, failures = run_rounds(
                wanted, chosen.rounds, started + chosen.minutes * 60, at.around
            )
            failures |= at.installed.left_out
            write(at, results, failures, chosen.seconds, chosen.publish)
    except SetupError as error:
        return fail(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
