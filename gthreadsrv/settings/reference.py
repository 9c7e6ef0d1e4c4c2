"""The README's table of settings, generated: `python -m gthreadsrv.settings.reference README.md`.

`--write` puts it between the two marker comments, `--check` (a test runs it) exits 1
when what is there differs. A development tool; the server never imports it.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from gthreadsrv.settings.flags import default_text
from gthreadsrv.settings.table import GROUPS, TABLE, Setting

if TYPE_CHECKING:
    from collections.abc import Sequence

BEGIN = "<!-- settings:begin (generated: make reference) -->"
END = "<!-- settings:end -->"


def reference() -> str:
    """The settings in Markdown, a table for each group."""
    parts = []
    for group in GROUPS:
        rows = [_row(setting) for setting in TABLE if setting.group == group]
        parts.append(
            f"### {group}\n\n"
            "| flag | in the file | variable | default | meaning |\n"
            "|---|---|---|---|---|\n" + "".join(rows)
        )
    return "\n".join(parts)


def updated(document: str) -> str:
    """The document with the reference between its markers; ValueError without them."""
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"there are no lines {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{reference()}{END}{after}"


def main(argv: Sequence[str] | None = None) -> int:
    """Check or write the reference in a document."""
    parser = argparse.ArgumentParser(description="The reference of settings in a document.")
    parser.add_argument("document")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--check", action="store_true", help="exit 1 when it is out of date")
    what.add_argument("--write", action="store_true", help="bring it up to date")
    options = parser.parse_args(argv)
    with open(options.document, encoding="utf-8") as file:
        document = file.read()
    try:
        wanted = updated(document)
    except ValueError as error:
        sys.stderr.write(f"{options.document}: {error}\n")
        return 1
    if options.check:
        if wanted != document:
            sys.stderr.write(f"{options.document}: the reference is out of date; use --write\n")
        return int(wanted != document)
    with open(options.document, "w", encoding="utf-8") as file:
        file.write(wanted)
    return 0


def _row(setting: Setting) -> str:
    metavar = f" {setting.metavar}" if setting.metavar else ""
    flags = ", ".join(f"`{flag}`" for flag in setting.flags)
    if setting.positional:
        flags = f"`{setting.metavar}`"
    variables = [f"`{setting.variable}`"] if setting.in_environment else []
    if setting.fallback is not None:
        variables.append(f"`{setting.fallback.name}`")
    cells = (
        f"{flags}{metavar}" if setting.flags else flags,
        f"`{setting.file_name}`" if setting.in_file else "",
        ", ".join(variables),
        f"`{text}`" if (text := default_text(setting)) else "",
        f"{setting.help} (allowed: {setting.allowed})",
    )
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"


if __name__ == "__main__":
    sys.exit(main())
