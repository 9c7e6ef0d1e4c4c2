"""The report in Markdown: the goals for the README, and every number for docs/benchmarks.md.

Pure: results in, text out; only `replace_between` knows that there is a README around it.
"""

from __future__ import annotations

from collections.abc import Mapping

from tests.bench.peers.goals import GOALS, Goal, Results, Verdict, judge, median, values
from tests.bench.peers.workloads import ROWS, Row

BEGIN = "<!-- benchmarks:begin (generated: make bench BENCH=--publish) -->"
END = "<!-- benchmarks:end -->"
PICTURE = "docs/benchmarks.png"

# The metrics in the order of columns: name, unit, factor, digits.
COLUMNS = (
    ("rate", "requests/s", 1, 0),
    ("cpu_us", "CPU us/request", 1, 1),
    ("bytes_per_cpu_s", "MB per CPU second", 1e-6, 0),
    ("p50_ms", "p50 ms", 1, 2),
    ("p99_ms", "p99 ms", 1, 2),
    ("of_ideal", "share of the ideal rate", 1, 3),
    ("pss_kib", "memory MiB", 1 / 1024, 1),
    ("idle_kib", "KiB each", 1, 2),
    ("idle_cpu_percent", "% of a core more", 1, 2),
    ("p99_ratio", "p99 with : without", 1, 2),
    ("boot_ms", "ms", 1, 0),
    ("failures", "failed", 1, 0),
)
# A single number's unit, factor and digits.
QUANTITIES: dict[str, tuple[str, float, int]] = {
    "rate": ("/s", 1, 0),
    "cpu_us": (" us", 1, 1),
    "bytes_per_cpu_s": (" MB", 1e-6, 0),
    "p99_ms": (" ms", 1, 2),
    "pss_kib": (" MiB", 1 / 1024, 1),
    "idle_kib": (" KiB", 1, 2),
    "idle_cpu_percent": (" %", 1, 2),
    "boot_ms": (" ms", 1, 0),
}
# Rows in which bytes are the point; elsewhere their column would be noise.
BYTES_ROWS = {"post", "large", "file"}
DISTURBED = 0.05


def quantity(metric: str, value: float | None) -> str:
    """A number with its unit."""
    if value is None:
        return ""
    unit, factor, digits = QUANTITIES.get(metric, ("", 1, 3))
    return f"{value * factor:,.{digits}f}{unit}"


def limit(goal: Goal) -> str:
    """The goal's limit in words: `<= 0.9 x granian`."""
    sign, bound = ("<=", goal.at_most) if goal.at_most is not None else (">=", goal.at_least)
    if goal.against is None or goal.difference:
        return f"{sign} {quantity(goal.metric, bound) if goal.metric in QUANTITIES else bound}"
    return f"{sign} {bound:g} x {goal.against}"


def goal_line(verdict: Verdict) -> str:
    """One row of the table of goals."""
    goal = verdict.goal
    peer = f"{verdict.peer}: {quantity(goal.metric, verdict.theirs)}" if verdict.peer else ""
    if verdict.value is None or goal.against is None:
        ratio = ""
    elif goal.difference:
        ratio = f"+{quantity(goal.metric, verdict.value)}"
    else:
        ratio = f"{verdict.value:.3g}"
    cells = (
        goal.text, limit(goal), quantity(goal.metric, verdict.ours), peer, ratio, verdict.word
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


def goals_table(results: Results) -> str:
    """Every goal whose row was run."""
    lines = [
        "| work | goal | ours | peer | ratio | met |",
        "|---|---|---|---|---|---|",
        *(goal_line(judge(goal, results)) for goal in GOALS if goal.row in results),
    ]
    return "\n".join(lines) + "\n"


def row_table(row: Row, results: Results) -> str:
    """Everything that was measured in one row; medians."""
    keys = list(results[row.name])
    columns = [
        column
        for column in COLUMNS
        if any(values(results, row.name, key, column[0]) for key in keys)
        and (column[0] != "bytes_per_cpu_s" or row.name in BYTES_ROWS)
        and (
            column[0] != "failures"
            or any(median(results, row.name, key, "failures") for key in keys)
        )
    ]
    lines = [
        f"| server | {' | '.join(title for _, title, _, _ in columns)} |",
        "|---|" + "---|" * len(columns),
    ]
    for key in keys:
        cells = []
        for metric, _, factor, digits in columns:
            value = median(results, row.name, key, metric)
            cells.append("" if value is None else f"{value * factor:,.{digits}f}")
        lines.append(f"| {key} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def conditions(about: Mapping[str, str]) -> str:
    """Where and when, one line each."""
    return "".join(f"* {name}: {value}\n" for name, value in about.items())


def disturbance(results: Results) -> str:
    """How much of the servers' core went to others: whether to believe the numbers."""
    shares = [
        share
        for row, entries in results.items()
        for key in entries
        for share in values(results, row, key, "disturbance").values()
    ]
    if not shares:
        return "not measured"
    busy = sum(share > DISTURBED for share in shares)
    return (
        f"at most {max(shares):.0%} of the servers' core went elsewhere; "
        f"more than {DISTURBED:.0%} in {busy} of {len(shares)} runs"
    )


def readme_part(results: Results, about: Mapping[str, str]) -> str:
    """What stands between the README's markers."""
    return (
        f"![CPU per request and p99 of each server]({PICTURE})\n\n"
        f"{goals_table(results)}\n"
        f"{about['CPU']}; {about['Python']}; {about['date']}. "
        "[docs/benchmarks.md](docs/benchmarks.md) has every number, and how they were measured.\n"
    )


def document(
    results: Results, about: Mapping[str, str], failures: Mapping[str, str], scaling: bool = False
) -> str:
    """docs/benchmarks.md; `scaling` says whether there is a picture of it beside it."""
    parts = [
        "# Benchmarks\n",
        "Written by `make bench BENCH=--publish`; do not edit.\n",
        METHOD,
        conditions({**about, "other work": disturbance(results)}),
        "## Goals\n",
        goals_table(results),
        "## Every number\n",
        "Medians of the rounds.\n",
    ]
    for row in ROWS:
        if row.name in results:
            parts += [f"### {row.title[0].upper()}{row.title[1:]}\n", row_table(row, results)]
    if scaling:
        parts += [
            "## How cost grows\n",
            "Drawn by `make bench-scaling BENCH=--publish`.\n",
            "![Throughput and CPU per request as the server grows](scaling.png)\n",
        ]
    if failures:
        parts += [
            "## Left out\n",
            "".join(f"* {name}: {why}\n" for name, why in sorted(failures.items())),
        ]
    return "\n".join(parts)


METHOD = """\
One worker is pinned to core 0, the load to core 1. Servers take turns within each round, in an
order that moves on by one from round to round; every run has a fresh server and a second of
warming up. Ratios compare ours with the peer in the same round and are medians of the rounds.
CPU is that of all the server's processes, exporter included, from /proc; memory is their
proportional share (PSS). All have the same number of threads, keep connections alive and write no
access log unless it is measured; ours runs with every metric on. wrk asks with one thread and the
headers of a browser; latencies are wrk's own, of connections that ask again as soon as they are
answered. Of the two cores for two workers, each carries one worker and one wrk, whether the workers
belong to one server or to two: so the load takes the same share, and cores that are two threads of
one are as slow, in both.
"""


def replace_between(text: str, part: str) -> str:
    """The document with this part between its markers; ValueError without them."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"there are no lines {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{part}{END}{after}"
