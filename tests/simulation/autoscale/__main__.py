"""`python -m tests.simulation.autoscale [--write FILE | --check FILE]`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.simulation.autoscale.table import table, updated


def main() -> int:
    """Print the table, write it into a document, or say whether it is there."""
    parser = argparse.ArgumentParser(description="Autoscaling against fixed sizes, simulated.")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--write", type=Path, metavar="FILE", help="bring the document up to date")
    what.add_argument("--check", type=Path, metavar="FILE", help="exit 1 when it is out of date")
    options = parser.parse_args()
    path: Path | None = options.write or options.check
    if path is None:
        print(table())
        return 0
    document = path.read_text()
    wanted = updated(document)
    if options.write:
        path.write_text(wanted)
    elif wanted != document:
        print(f"{path}: the table is out of date; use --write", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
