"""What a setting is: one row of the table, and how its values are written for people.

Nothing here knows any setting, or reads anything.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from gthreadsrv.settings import convert
from gthreadsrv.settings.model import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

_DEFAULTS = Settings()


def plain(value: object) -> str:
    """A value as one would write it; empty where there is none."""
    if value is None:
        return ""
    if isinstance(value, tuple):
        return ",".join(str(item) for item in value)
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def auto(value: object) -> str:
    """A number, or that it is found out."""
    return plain(value) if value else "auto"


def size(value: object) -> str:
    """Bytes in the largest unit that leaves a whole number."""
    if not isinstance(value, int):
        return ""
    for unit in reversed(convert.SIZES):
        if value and value % convert.SIZES[unit] == 0:
            return f"{value // convert.SIZES[unit]}{unit}"
    return str(value)


def octal(value: object) -> str:
    """Permission bits as people write them."""
    return f"{value:o}" if isinstance(value, int) else ""


def pairs(value: object) -> str:
    """Names and words: NAME=WORD,..."""
    return ",".join(f"{name}={word}" for name, word in value) if isinstance(value, tuple) else ""


def function_name(value: object) -> str:
    """A function by its name."""
    return getattr(value, "__name__", "a function") if value else ""


def present(value: object) -> str:
    """That a dictionary is there; its contents would fill pages."""
    return "{...}" if value else ""


def names_only(value: object) -> str:
    """Variables without their values, which may be secrets."""
    if not isinstance(value, tuple):
        return ""
    return " ".join(f"{str(item).partition('=')[0]}=***" for item in value)


class Fallback(NamedTuple):
    """A variable of other programs' making that counts below our own `GTHREADSRV_<NAME>`."""

    name: str
    as_value: Callable[[str], str] = str


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting, and all that is said about it anywhere."""

    name: str
    group: str
    flags: tuple[str, ...]
    metavar: str  # empty: a switch, given by its flag alone
    convert: Callable[[object], object]
    allowed: str
    help: str
    many: bool = False
    # What its flag says when no value stands behind it; empty: it needs one.
    bare: str = ""
    # How one variable holds several values.
    split: Callable[[str], object] = str
    sets: bool = True  # what a switch's flag says
    positional: bool = False
    in_file: bool = True
    file_name: str = ""
    in_environment: bool = True
    fallback: Fallback | None = None
    show: Callable[[object], str] = plain
    default: object = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "default", getattr(_DEFAULTS, self.name))
        object.__setattr__(self, "file_name", self.file_name or self.name)

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return f"GTHREADSRV_{self.name.upper()}"
