"""The comparison as Markdown, and its place in a document."""

from __future__ import annotations

import functools

from gthreadsrv.master.autoscale import Bounds
from tests.simulation.autoscale.fleet import Fleet, Outcome
from tests.simulation.autoscale.shapes import SHAPES, Shape

SEED = 1
LEAST, MOST, CALM_S = 2, 8, 60.0
SIZES = (
    ("2", Bounds(LEAST, LEAST, CALM_S)),
    ("4", Bounds(4, 4, CALM_S)),
    ("8", Bounds(MOST, MOST, CALM_S)),
    ("2:8", Bounds(LEAST, MOST, CALM_S)),
)
BEGIN = (
    "<!-- simulation:begin (generated: python -m tests.simulation.autoscale --write README.md) -->"
)
END = "<!-- simulation:end -->"


@functools.cache
def outcome(shape: Shape, bounds: Bounds) -> Outcome:
    """One cell's run."""
    return Fleet(bounds).run(shape.arrivals(SEED))


def table() -> str:
    """A line for each load and size."""
    lines = [
        "| load | `--workers` | requests | late | longest wait | worker seconds |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for shape in SHAPES:
        for name, bounds in SIZES:
            found = outcome(shape, bounds)
            lines.append(
                f"| {shape.name} | {name} | {found.requests} | {found.late / found.requests:.1%} "
                f"| {found.worst_wait_s:.1f} s | {found.worker_seconds:.0f} |"
            )
    return "\n".join(lines)


def updated(document: str) -> str:
    """The document with the table between its markers; ValueError without them."""
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"there are no lines {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"
