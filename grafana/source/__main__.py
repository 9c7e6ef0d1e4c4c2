"""Writes the dashboards from their source, or says whether they are up to date.

``python -m grafana.source --write`` brings grafana/dashboards up to date, ``--check`` is what
``make lint`` runs. ``--write --into FOLDER --runbook URL`` makes copies for one's own Grafana,
whose links lead to where one's own runbook is.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from grafana.source.exporter import EXPORTER
from grafana.source.frame import RUNBOOK
from grafana.source.overview import OVERVIEW
from grafana.source.resources import RESOURCES
from grafana.source.worker_saturation import WORKER_SATURATION

if TYPE_CHECKING:
    from collections.abc import Sequence

FOLDER: Final = Path(__file__).parents[1] / "dashboards"
DASHBOARDS: Final = {
    "overview.json": OVERVIEW,
    "worker-saturation.json": WORKER_SATURATION,
    "resources.json": RESOURCES,
    "exporter.json": EXPORTER,
}


def rendered(runbook: str = RUNBOOK) -> dict[str, str]:
    """Each file's content."""
    return {
        name: json.dumps(dashboard.json(runbook), indent=2, ensure_ascii=False) + "\n"
        for name, dashboard in DASHBOARDS.items()
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tool; 1 if a check found a file out of date."""
    parser = argparse.ArgumentParser(prog="python -m grafana.source")
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--write", action="store_true", help="write the dashboards")
    action.add_argument("--check", action="store_true", help="say whether they are up to date")
    parser.add_argument("--into", type=Path, default=FOLDER, help="another folder for them")
    parser.add_argument("--runbook", default=RUNBOOK, help="where the runbook can be read")
    options = parser.parse_args(arguments)
    files = rendered(options.runbook)
    if options.write:
        options.into.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (options.into / name).write_text(text, encoding="utf-8")
        return 0
    stale = [
        name
        for name, text in files.items()
        if not (options.into / name).exists()
        or (options.into / name).read_text(encoding="utf-8") != text
    ]
    for name in stale:
        sys.stderr.write(f"{options.into / name} is out of date: run this tool with --write\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
