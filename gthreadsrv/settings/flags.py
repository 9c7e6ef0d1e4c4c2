"""The command line, made from the table: `--help`, and flags read into (flag, text) pairs.

argparse finds the flags and prints the help; values stay as they were written, so that
a wrong one is reported by the loader in the same words wherever it was set. Used by the
command line and, for GTHREADSRV_CMD_ARGS, by every load. Must not convert values.
"""

from __future__ import annotations

import argparse
import textwrap
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from gthreadsrv import __version__
from gthreadsrv.errors import ConfigError
from gthreadsrv.settings.gunicorn import FOREIGN, Foreign
from gthreadsrv.settings.model import Source
from gthreadsrv.settings.setting import Setting
from gthreadsrv.settings.table import GROUPS, TABLE

if TYPE_CHECKING:
    from collections.abc import Sequence

_DESCRIPTION = "Serve a WSGI application from worker processes with threads."
_EPILOG = (
    "Each setting can also be set in the configuration file, under its name in the "
    "reference (README), and by a variable GTHREADSRV_<NAME>. The command line counts first, "
    "then GTHREADSRV_CMD_ARGS (else GUNICORN_CMD_ARGS), the file, GTHREADSRV_<NAME>, "
    "WEB_CONCURRENCY and PORT, and last the defaults. Flags of gunicorn's that are not here are "
    "taken too, with a line that says what to use instead."
)


class Given(NamedTuple):
    """One value as the command line had it."""

    setting: Setting | Foreign
    flag: str
    value: str | bool


def read_flags(argv: Sequence[str], source: Source) -> list[Given]:
    """Every flag in `argv` in order; an unknown or incomplete one is a ConfigError.

    Only the true command line knows --help and --version, which print and leave.
    """
    parser = build_parser(source)
    found, rest = parser.parse_known_args(_spelled_out(argv))
    for word in rest:
        raise ConfigError(_unexpected(word, source))
    given: list[Given] = found.given
    return given


def build_parser(source: Source) -> argparse.ArgumentParser:
    """The parser for one source of flags."""
    parser = _Parser(
        prog="gthreadsrv",
        usage="gthreadsrv [options] APP",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        allow_abbrev=False,
        add_help=False,
        formatter_class=_Help,
        source=source,
    )
    parser.set_defaults(given=[])
    for group in GROUPS:
        section = parser.add_argument_group(group)
        for setting in TABLE:
            if setting.group == group:
                _add(section, setting)
        if group == GROUPS[-1] and source is Source.COMMAND_LINE:
            section.add_argument("-h", "--help", action="help", help="print this and exit")
            section.add_argument(
                "-v", "--version", action="version", version=f"gthreadsrv {__version__}",
                help="print the version and exit",
            )  # fmt: skip
    foreign = parser.add_argument_group(argparse.SUPPRESS)
    for one in FOREIGN:
        _add_foreign(foreign, one)
    return parser


def default_text(setting: Setting) -> str:
    """The default in words; empty where there is none."""
    return setting.show(setting.default) if setting.metavar else ""


def where(source: Source) -> str:
    """Which flags are meant: there are two lots of them."""
    return "on the command line" if source is Source.COMMAND_LINE else f"in {source.value}"


def _add(section: argparse._ArgumentGroup, setting: Setting) -> None:
    words = setting.help
    default = default_text(setting)
    if default and "[" not in words:
        words = f"{words} [{default}]"
    options: dict[str, Any] = {
        "help": words.replace("%", "%%"),
        "dest": setting.name,
        "action": _Collect,
        "setting": setting,
        "default": argparse.SUPPRESS,
    }
    if setting.positional:
        section.add_argument(metavar=setting.metavar, nargs="?", **options)
    elif not setting.flags:
        # For the configuration file and the environment only.
        return
    elif setting.metavar:
        section.add_argument(*setting.flags, metavar=setting.metavar, **options)
    else:
        section.add_argument(*setting.flags, nargs=0, **options)


def _spelled_out(argv: Sequence[str]) -> list[str]:
    """The words with a value behind each flag that stands alone.

    argparse would take the application behind such a flag for its value.
    """
    bare = {flag: setting for setting in TABLE if setting.bare for flag in setting.flags}
    words = list(argv)
    for at, word in enumerate(words):
        setting = bare.get(word)
        if setting is not None and not _is_value(setting, words[at + 1 : at + 2]):
            words[at] = f"{word}={setting.bare}"
    return words


def _is_value(setting: Setting, following: list[str]) -> bool:
    try:
        return bool(following) and bool(setting.convert(following[0]))
    except ValueError:
        return False


def _add_foreign(section: argparse._ArgumentGroup, foreign: Foreign) -> None:
    """A flag of gunicorn's: read like ours, left out of the help."""
    options: dict[str, Any] = {
        "help": argparse.SUPPRESS,
        "dest": foreign.name,
        "action": _Collect,
        "setting": foreign,
        "default": argparse.SUPPRESS,
    }
    if foreign.flags:
        section.add_argument(*foreign.flags, nargs=foreign.nargs, **options)


class _Collect(argparse.Action):
    """Append what was found, as it was spelled, to `namespace.given`."""

    def __init__(self, setting: Setting | Foreign, **options: Any) -> None:
        super().__init__(**options)
        self.setting = setting

    def __call__(
        self,
        _parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        # A positional that is not there is reported too, with its default.
        if not self.option_strings and (values is None or values == argparse.SUPPRESS):
            return
        flag_says = self.setting.sets if isinstance(self.setting, Setting) else True
        value = values if isinstance(values, str) else flag_says
        # A new list each time: the default one belongs to the parser.
        namespace.given = [*namespace.given, Given(self.setting, option_string or "APP", value)]


class _Parser(argparse.ArgumentParser):
    """argparse with errors as one line, raised instead of printed."""

    def __init__(self, source: Source, **options: Any) -> None:
        super().__init__(**options)
        self._source = source

    def error(self, message: str) -> NoReturn:
        flag, _, what = message.removeprefix("argument ").partition(": ")
        raise ConfigError(
            f"{flag}: {what or 'is wrong'} ({where(self._source)}); see gthreadsrv --help"
        )


class _Help(argparse.HelpFormatter):
    """Help in one fixed layout, whatever the terminal's width, so that it can be tested."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28, width=100)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings:
            return super()._format_action_invocation(action)
        names = ", ".join(action.option_strings)
        return f"{names} {action.metavar}" if action.metavar else names

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(text, width, break_on_hyphens=False)


def _unexpected(word: str, source: Source) -> str:
    if not word.startswith("-"):
        return f"{word!r}: one application is enough ({where(source)})"
    import difflib

    flag = word.partition("=")[0]
    known = [name for setting in TABLE for name in setting.flags]
    known += [name for foreign in FOREIGN for name in foreign.flags]
    near = difflib.get_close_matches(flag, known, 1)
    hint = f"did you mean {near[0]}?" if near else "see gthreadsrv --help"
    return f"{flag}: there is no such option ({where(source)}); {hint}"
