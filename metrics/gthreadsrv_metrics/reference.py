"""Writes the metric reference into a Markdown file, from the catalogue.

A development tool: ``python -m gthreadsrv_metrics.reference metrics/README.md --write``
brings the file up to date, ``--check`` (what the tests run) says whether it is. Only the
text between the two marker lines is touched.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Final

from gthreadsrv_metrics.catalogue import CATALOGUE, Metric

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["reference", "updated"]

_BEGIN: Final = "<!-- begin: written by python -m gthreadsrv_metrics.reference -->"
_END: Final = "<!-- end -->"


def reference() -> str:
    """Return the catalogue as Markdown: a table to look names up in, then one query each."""
    lines = ["| metric | type | labels | what it says |", "|---|---|---|---|"]
    lines += [f"| `{m.full_name}` | {m.type} | {_labels(m)} | {m.help} |" for m in CATALOGUE]
    lines += ["", "### One query for each", "", "```promql"]
    for metric in CATALOGUE:
        lines += [f"# {metric.full_name}", metric.promql]
    lines += ["```"]
    return "\n".join(lines)


def _labels(metric: Metric) -> str:
    return "; ".join(
        f"{label} = {', '.join(metric.values[label])}" if label in metric.values else label
        for label in metric.labels
    )


def updated(text: str) -> str:
    """Return a document with the reference between its markers brought up to date."""
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"no lines {_BEGIN!r} and {_END!r} to write between")
    return f"{before}{begin}\n{reference()}\n{end}{after}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tool; 1 if a check found the file out of date."""
    parser = argparse.ArgumentParser(prog="python -m gthreadsrv_metrics.reference")
    parser.add_argument("file")
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--write", action="store_true", help="bring the file up to date")
    action.add_argument("--check", action="store_true", help="say whether it is")
    options = parser.parse_args(arguments)
    with open(options.file, encoding="utf-8") as file:
        text = file.read()
    new = updated(text)
    if options.write:
        with open(options.file, "w", encoding="utf-8") as file:
            file.write(new)
    elif new != text:
        sys.stderr.write(f"{options.file} is out of date: run this tool with --write\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
