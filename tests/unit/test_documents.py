"""What the documents name is there: files, headings, make's targets, modules, flags."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gthreadsrv.settings.gunicorn import FOREIGN
from gthreadsrv.settings.table import TABLE

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docker/**/*.md", "grafana/*.md", "metrics/**/*.md")
    for path in ROOT.glob(pattern)
)
MAKEFILE = (ROOT / "Makefile").read_text()
documents = pytest.mark.parametrize(
    "document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT))
)


def anchors(text: str) -> set[str]:
    """The headings as Git hosts link to them."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}


def code(text: str) -> str:
    """What is typed: indented and fenced lines, and what stands between backticks."""
    fenced = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    indented = re.findall(r"^    (.*)$", text, re.MULTILINE)
    return "\n".join([*fenced, *indented, *re.findall(r"`([^`\n]+)`", text)])


@documents
def test_links_lead_somewhere(document: Path) -> None:
    """To a file of this tree, and there to a heading."""
    text = document.read_text()
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = document.parent / name if name else document
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text()), link


@documents
def test_files_that_are_named_are_there(document: Path) -> None:
    named = re.findall(
        r"`((?:tests|gthreadsrv|metrics|docker|examples|grafana)/[\w./*-]+)`", document.read_text()
    )
    for name in named:
        assert list(ROOT.glob(name.rstrip("/"))), name


@documents
def test_commands_that_are_named_are_there(document: Path) -> None:
    """Targets of the Makefile, and modules of this tree."""
    typed = code(document.read_text())
    for target in re.findall(r"(?:^|\n)make ([a-z][a-z-]+)", typed):
        assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE), target
    for module in re.findall(r"python -m ((?:tests|grafana|gthreadsrv\w*)[\w.]*)", typed):
        path = module.replace(".", "/")
        found = [
            ROOT / top / f"{path}{end}"
            for top in ("", "metrics")
            for end in (".py", "/__main__.py")
        ]
        assert any(one.exists() for one in found), module


@documents
def test_flags_that_are_typed_are_the_servers(document: Path) -> None:
    """On each line that calls it, and in backticks of their own."""
    text = document.read_text()
    known = {flag for setting in TABLE for flag in setting.flags}
    known |= {flag for foreign in FOREIGN for flag in foreign.flags}
    known |= {"--help", "--version"}
    for line in code(text).splitlines():
        match = re.match(r"(?:\$ )?gthreadsrv (.*)", line)
        for flag in re.findall(r"(?<!\S)--[a-z][a-z0-9_-]+", match[1] if match else ""):
            assert flag in known, line


def test_help_names_every_target() -> None:
    """And no other; .PHONY has them all as well."""
    helped = set(re.findall(r"@echo 'make ([a-z-]+)", MAKEFILE))
    targets = set(re.findall(r"^([a-z][a-z-]*):", MAKEFILE, re.MULTILINE)) - {"help"}
    assert helped == targets
    phony = re.search(r"^\.PHONY:((?:.*\\\n)*.*)$", MAKEFILE, re.MULTILINE)
    assert phony is not None
    assert set(phony[1].replace("\\", " ").split()) == targets | {"help"}
