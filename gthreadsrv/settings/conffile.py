"""The configuration file: Python, executed anew at every load, its names read as settings.

Runs in the master at boot and at a reload. Whatever goes wrong inside the file comes out
as one ConfigError with the file's line, never as a traceback, because a reload with a
broken file must leave the server as it was. Knows nothing of the table's converters.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import traceback
from typing import TYPE_CHECKING, NamedTuple

from gthreadsrv.errors import ConfigError, StopRequestedError

if TYPE_CHECKING:
    from collections.abc import Collection
    from types import CodeType

DEFAULT_NAME = "gthreadsrv.conf.py"
DEFAULT_NAMES = (DEFAULT_NAME, "gunicorn.conf.py")


class FileValues(NamedTuple):
    """The settings a file sets, where in it, and one warning for each name nobody knows."""

    values: dict[str, object]
    places: dict[str, str]
    warnings: tuple[str, ...]


class ConfigSource(NamedTuple):
    """A file of settings: by its path, or as a module that can be imported."""

    name: str
    path: str | None  # None: wherever the module is found
    module: str = "__config__"


def find(named: str | None, cwd: str) -> ConfigSource | None:
    """What to read: the one that was named, else the first default one that exists."""
    if named is not None and named.startswith("python:"):
        return ConfigSource(named, None, named.removeprefix("python:"))
    if named is not None:
        path = os.path.join(cwd, named.removeprefix("file:"))
        return ConfigSource(path, path)
    for name in DEFAULT_NAMES:
        path = os.path.join(cwd, name)
        if os.path.isfile(path):
            return ConfigSource(path, path)
    return None


def execute(source: ConfigSource, named_by: str, known: Collection[str], cwd: str) -> FileValues:
    """Run the file and read the names in `known` from it; `named_by` said to use it."""
    path = source.path if source.path is not None else _locate(source, named_by)
    shown = _shown(path, cwd)
    try:
        with open(path, "rb") as file:
            text = file.read()
    except OSError as error:
        raise ConfigError(
            f"config: cannot read {shown}: {error.strerror} (set by {named_by})"
        ) from None
    try:
        tree = ast.parse(text, path)
        code = compile(tree, path, "exec")
    except (SyntaxError, ValueError) as error:
        line = error.lineno if isinstance(error, SyntaxError) else None
        raise ConfigError(_fault(shown, line, error)) from None
    space = _run(code, path, source, shown)
    bound = _bound_names(tree)
    values = {name: space[name] for name in known if name in space}
    places = {name: _place(shown, bound.get(name, [])) for name in values}
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and _read(node)}
    warnings = tuple(
        _unknown(name, _place(shown, lines), known)
        for name, lines in bound.items()
        # What the file itself uses is a helper, and has its effect there.
        if name in space and name not in known and name not in used and not _private(name)
    )
    return FileValues(values, places, warnings)


def _read(node: ast.Name) -> bool:
    return isinstance(node.ctx, ast.Load)


def _locate(source: ConfigSource, named_by: str) -> str:
    """A module's file. It is executed anew each time, which an import would not do."""
    try:
        spec = importlib.util.find_spec(source.module)
    # Finding a module in a package imports the package.
    except Exception as error:  # noqa: BLE001  becomes the one line for the user
        raise ConfigError(
            f"config: {source.name}: {type(error).__name__}: {' '.join(str(error).split())} "
            f"(set by {named_by})"
        ) from None
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        raise ConfigError(
            f"config: {source.name}: there is no such module in Python (set by {named_by}); "
            "start where it can be imported"
        )
    return spec.origin


def _run(code: CodeType, path: str, source: ConfigSource, shown: str) -> dict[str, object]:
    space: dict[str, object] = {
        "__builtins__": __builtins__,
        "__name__": source.module,
        "__file__": path,
    }
    if source.path is None:
        # So that it may import from its own package by dots.
        space["__package__"] = source.module.rpartition(".")[0]
    try:
        exec(code, space)  # noqa: S102  the file is the operator's own program
    except (KeyboardInterrupt, StopRequestedError):
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
    import difflib

    near = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {near[0]}?" if near else f"name a helper _{name}"
    return f"{place}: {name} is no setting and has no effect; {hint}"


def _shown(path: str, cwd: str) -> str:
    """The path as people would write it: relative where it lies below where we started."""
    relative = os.path.relpath(path, cwd)
    return path if relative.startswith("..") else relative
