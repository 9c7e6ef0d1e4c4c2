"""The configuration file: Python, executed anew at every load, its names read as settings.

Runs in the master at boot and at a reload. Whatever goes wrong inside the file comes out
as one ConfigError with the file's line, never as a traceback, because a reload with a
broken file must leave the server as it was. Knows nothing of the table's converters.
"""

from __future__ import annotations

import ast
import difflib
import os
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gthreadsrv.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Collection
    from types import CodeType

DEFAULT_NAME = "gthreadsrv.conf.py"


@dataclass(frozen=True, slots=True)
class FileValues:
    """The settings a file sets, where in it, and one warning for each name nobody knows."""

    values: dict[str, object]
    places: dict[str, str]
    warnings: tuple[str, ...]


def find(named: str | None, cwd: str) -> str | None:
    """The file to read: the one that was named, else the default one where it exists."""
    if named is not None:
        return os.path.join(cwd, named.removeprefix("file:"))
    path = os.path.join(cwd, DEFAULT_NAME)
    return path if os.path.isfile(path) else None


def execute(path: str, named_by: str, known: Collection[str], cwd: str) -> FileValues:
    """Run the file and read the names in `known` from it; `named_by` said to use it."""
    shown = _shown(path, cwd)
    try:
        with open(path, "rb") as file:
            source = file.read()
    except OSError as error:
        raise ConfigError(
            f"config: cannot read {shown}: {error.strerror} (set by {named_by})"
        ) from None
    try:
        tree = ast.parse(source, path)
        code = compile(tree, path, "exec")
    except (SyntaxError, ValueError) as error:
        line = error.lineno if isinstance(error, SyntaxError) else None
        raise ConfigError(_fault(shown, line, error)) from None
    space = _run(code, path, shown)
    bound = _bound_names(tree)
    values = {name: space[name] for name in known if name in space}
    places = {name: _place(shown, bound.get(name, [])) for name in values}
    warnings = tuple(
        _unknown(name, _place(shown, lines), known)
        for name, lines in bound.items()
        if name in space and name not in known and not _private(name)
    )
    return FileValues(values, places, warnings)


def _run(code: CodeType, path: str, shown: str) -> dict[str, object]:
    space: dict[str, object] = {
        "__builtins__": __builtins__,
        "__name__": "__config__",
        "__file__": path,
    }
    try:
        exec(code, space)  # noqa: S102  the file is the operator's own program
    except KeyboardInterrupt:
        raise
    # The file may do anything, leave included; all of it means: not these settings.
    except BaseException as error:  # noqa: BLE001  becomes the one line for the user
        frames = traceback.extract_tb(error.__traceback__)
        line = next((f.lineno for f in reversed(frames) if f.filename == path), None)
        raise ConfigError(_fault(shown, line, error)) from None
    return space


def _fault(shown: str, line: int | None, error: BaseException) -> str:
    place = f"{shown}:{line}" if line else shown
    words = error.msg if isinstance(error, SyntaxError) else " ".join(str(error).split())
    what = f"{type(error).__name__}: {words}" if words else type(error).__name__
    return f"{place}: {what}; correct the configuration file"


def _bound_names(tree: ast.Module) -> dict[str, list[int]]:
    """Names the file itself assigns or defines at its top level, with their lines.

    Imports, loop variables and the like are helpers, not attempts at a setting.
    """
    bound: dict[str, list[int]] = {}
    waiting: list[ast.stmt] = list(reversed(tree.body))
    while waiting:
        node = waiting.pop()
        names: list[str] = []
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            names = [node.name]
        elif isinstance(node, ast.Assign):
            names = [n.id for t in node.targets for n in ast.walk(t) if isinstance(n, ast.Name)]
        elif isinstance(node, (ast.AnnAssign, ast.AugAssign)):
            names = [node.target.id] if isinstance(node.target, ast.Name) else []
        else:
            waiting.extend(reversed(_blocks(node)))
        for name in names:
            bound.setdefault(name, []).append(node.lineno)
    return bound


def _blocks(node: ast.stmt) -> list[ast.stmt]:
    """Statements inside an if, for, while, with, try or match: they bind module names too."""
    if isinstance(node, ast.ClassDef):
        return []
    holders = [node, *getattr(node, "handlers", []), *getattr(node, "cases", [])]
    blocks = (getattr(h, b, []) for h in holders for b in ("body", "orelse", "finalbody"))
    return [statement for block in blocks for statement in block]


def _place(shown: str, lines: list[int]) -> str:
    # With two assignments the file alone cannot say which of them ran.
    return f"{shown}:{lines[0]}" if len(lines) == 1 else shown


def _private(name: str) -> bool:
    return name.startswith("_") or name.isupper()


def _unknown(name: str, place: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {near[0]}?" if near else f"name a helper _{name}"
    return f"{place}: {name} is no setting and has no effect; {hint}"


def _shown(path: str, cwd: str) -> str:
    """The path as people would write it: relative where it lies below where we started."""
    relative = os.path.relpath(path, cwd)
    return path if relative.startswith("..") else relative
