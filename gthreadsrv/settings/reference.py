"""The settings' tables in the documents, generated: `python -m gthreadsrv.settings.reference FILE`.

`--write` puts them between their marker comments (README.md: our settings; GUNICORN.md:
gunicorn's), `--check` (a test runs it) exits 1 when what is there differs. A development tool;
the server never imports it.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from gthreadsrv.settings.flags import default_text
from gthreadsrv.settings.gunicorn import FOREIGN, SHARED
from gthreadsrv.settings.hooks import HOOKS
from gthreadsrv.settings.table import BY_FILE_NAME, BY_NAME, GROUPS, TABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from gthreadsrv.settings.setting import Setting

BEGIN = "<!-- settings:begin (generated: make reference) -->"
END = "<!-- settings:end -->"
GUNICORN_BEGIN = "<!-- gunicorn:begin (generated: make reference) -->"
GUNICORN_END = "<!-- gunicorn:end -->"
COUNTS_BEGIN = "<!-- gunicorn-counts:begin (generated: make reference) -->"
COUNTS_END = "<!-- gunicorn-counts:end -->"


def reference() -> str:
    """Our settings in Markdown, a table for each group."""
    parts = []
    for group in GROUPS:
        rows = [_row(setting) for setting in TABLE if setting.group == group]
        parts.append(
            f"### {group}\n\n"
            "| flag | in the file | variable | default | meaning |\n"
            "|---|---|---|---|---|\n" + "".join(rows)
        )
    return "\n".join(parts)


def gunicorn_counts() -> str:
    """How many of gunicorn's settings are what here, in a sentence."""
    total = len(SHARED) + len(HOOKS) + len(FOREIGN)
    return (
        f"Of the {total} settings of gunicorn 27.0.1, {len(SHARED)} are settings here and "
        f"{len(HOOKS)} are hooks, called\nin the same processes and the same order; the other "
        f"{len(FOREIGN)} are taken with one line in the log\nthat says what to use instead.\n"
    )


def gunicorn_reference() -> str:
    """The settings of gunicorn in Markdown: what each does here, or what to use instead."""
    foreign = sorted(FOREIGN, key=lambda one: one.name)
    return (
        f"{gunicorn_counts()}\n"
        "### Settings\n\n| setting | flag | what is different |\n|---|---|---|\n"
        + _rows((f"`{name}`", _flags(_shared(name).flags), SHARED[name]) for name in sorted(SHARED))
        + "\n### Hooks\n\nOne that raises while the server serves does not end it.\n\n"
        "| hook | where and when it is called | when it raises |\n|---|---|---|\n"
        + _rows(
            (f"`{hook.name}({', '.join(hook.parameters)})`", hook.when, hook.failing)
            for hook in HOOKS
        )
        + "\n### Taken with a line in the log\n\n| setting | flag | the line |\n|---|---|---|\n"
        + _rows((f"`{one.name}`", _flags(one.flags), one.advice) for one in foreign)
    )


_PARTS: tuple[tuple[str, str, Callable[[], str]], ...] = (
    (BEGIN, END, reference),
    (GUNICORN_BEGIN, GUNICORN_END, gunicorn_reference),
    (COUNTS_BEGIN, COUNTS_END, gunicorn_counts),
)


def updated(document: str) -> str:
    """The document with what belongs between its markers; ValueError where there are none."""
    found = False
    for begin, end, make in _PARTS:
        before, begins, rest = document.partition(begin)
        _, ends, after = rest.partition(end)
        if begins and ends:
            found = True
            document = f"{before}{begin}\n{make()}{end}{after}"
    if not found:
        raise ValueError(f"there are no lines {BEGIN} and {END}, nor others of this kind")
    return document


def main(argv: Sequence[str] | None = None) -> int:
    """Check or write the tables in documents."""
    parser = argparse.ArgumentParser(description="The tables of settings in documents.")
    parser.add_argument("document", nargs="+")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--check", action="store_true", help="exit 1 when one is out of date")
    what.add_argument("--write", action="store_true", help="bring them up to date")
    options = parser.parse_args(argv)
    return max(_bring_up_to_date(name, write=options.write) for name in options.document)


def _bring_up_to_date(name: str, *, write: bool) -> int:
    with open(name, encoding="utf-8") as file:
        document = file.read()
    try:
        wanted = updated(document)
    except ValueError as error:
        sys.stderr.write(f"{name}: {error}\n")
        return 1
    if not write:
        if wanted != document:
            sys.stderr.write(f"{name}: the reference is out of date; use --write\n")
        return int(wanted != document)
    with open(name, "w", encoding="utf-8") as file:
        file.write(wanted)
    return 0


def _row(setting: Setting) -> str:
    metavar = f" {setting.metavar}" if setting.metavar else ""
    flags = f"{_flags(setting.flags)}{metavar}" if setting.flags else ""
    variables = [f"`{setting.variable}`"] if setting.in_environment else []
    if setting.fallback is not None:
        variables.append(f"`{setting.fallback.name}`")
    return _rows(
        [
            (
                f"`{setting.metavar}`" if setting.positional else flags,
                f"`{setting.file_name}`" if setting.in_file else "",
                ", ".join(variables),
                f"`{text}`" if (text := default_text(setting)) else "",
                f"{setting.help} (allowed: {setting.allowed})",
            )
        ]
    )


def _shared(name: str) -> Setting:
    return BY_FILE_NAME.get(name) or BY_NAME[name]


def _flags(flags: Iterable[str]) -> str:
    return ", ".join(f"`{flag}`" for flag in flags)


def _rows(rows: Iterable[Iterable[str]]) -> str:
    return "".join(
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |\n" for row in rows
    )


if __name__ == "__main__":
    sys.exit(main())
