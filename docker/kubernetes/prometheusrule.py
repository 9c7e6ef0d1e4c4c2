"""Writes the PrometheusRule from metrics/rules, or says whether it is up to date.

``--write`` brings it up to date, ``--check`` is what ``make lint`` runs. ``--runbook URL`` makes
the alerts' links lead to where one's own runbook is; with ``--into FILE`` that is a copy.
"""

from __future__ import annotations

import argparse
import re
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

RULES: Final = Path(__file__).parents[2] / "metrics" / "rules"
SOURCES: Final = ("gthreadsrv.rules.yml", "gthreadsrv.alerts.yml")
TARGET: Final = Path(__file__).parent / "components" / "monitoring" / "prometheusrule.yaml"
RUNBOOK: Final = "metrics/RUNBOOK.md"
HEAD: Final = """\
# Written by `make reference` from metrics/rules: change it there.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: gthreadsrv
  labels:
    app.kubernetes.io/name: gthreadsrv
spec:
  groups:
"""


def rendered(runbook: str = RUNBOOK) -> str:
    """The object: both files' groups, with the comments that explain them.

    As text, since the indented lines of a YAML list are that list one level further in, block
    scalars included; a parser would lose the comments.
    """
    parts = [HEAD]
    for name in SOURCES:
        _, mark, groups = (RULES / name).read_text(encoding="utf-8").partition("groups:\n")
        if not mark:
            raise ValueError(f"{RULES / name}: no line `groups:`")
        parts.append(textwrap.indent(groups.rstrip() + "\n", "  "))
    text = "".join(parts)
    return re.sub(rf"(runbook_url: ){re.escape(RUNBOOK)}#", lambda hit: f"{hit[1]}{runbook}#", text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tool; 1 if a check found the file out of date."""
    parser = argparse.ArgumentParser(prog="prometheusrule.py")
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--write", action="store_true", help="write the PrometheusRule")
    action.add_argument("--check", action="store_true", help="say whether it is up to date")
    parser.add_argument("--into", type=Path, default=TARGET, help="another file for it")
    parser.add_argument("--runbook", default=RUNBOOK, help="where the runbook can be read")
    options = parser.parse_args(arguments)
    text = rendered(options.runbook)
    if options.write:
        options.into.write_text(text, encoding="utf-8")
        return 0
    if options.into.exists() and options.into.read_text(encoding="utf-8") == text:
        return 0
    sys.stderr.write(f"{options.into} is out of date: run this tool with --write\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
