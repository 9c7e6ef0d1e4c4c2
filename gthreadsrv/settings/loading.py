"""From argv, environment and file to one `Loaded`: who wins, what is wrong and where.

Runs in the master at boot and again at each reload, so it has no side effect but
executing the configuration file, and says everything that is wrong by one ConfigError.
Strongest first: command line, GTHREADSRV_CMD_ARGS (GUNICORN_CMD_ARGS where that is not set),
file, GTHREADSRV_<NAME>, WEB_CONCURRENCY and PORT, defaults. An empty variable counts as unset.
"""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Any

from gthreadsrv.errors import ConfigError
from gthreadsrv.settings import conffile
from gthreadsrv.settings.flags import Given, read_flags
from gthreadsrv.settings.gunicorn import FOREIGN_BY_NAME
from gthreadsrv.settings.hooks import HOOKS_BY_NAME, read_hook
from gthreadsrv.settings.model import Loaded, Origin, Settings, Source
from gthreadsrv.settings.setting import Setting
from gthreadsrv.settings.settling import settle, wrong
from gthreadsrv.settings.table import BY_FILE_NAME, BY_NAME, TABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

CMD_ARGS = Source.CMD_ARGS.value
_ARGS = (Source.CMD_ARGS, Source.GUNICORN_CMD_ARGS)
_FILE_NAMES = frozenset((*BY_FILE_NAME, *FOREIGN_BY_NAME, *HOOKS_BY_NAME))
# A Kubernetes service called gthreadsrv puts such variables into every container.
_SERVICE_LINK = re.compile(r"GTHREADSRV_(SERVICE_|PORT(_|$))")


def load(
    argv: Sequence[str], environ: Mapping[str, str], cwd: str, *, needs_app: bool = True
) -> Loaded:
    """Settings from `argv` (without the program's name), `environ` and the file below `cwd`."""
    values: dict[str, object] = {}
    origins: dict[str, Origin] = {}
    _from_environment(environ, values, origins)
    warnings = list(_misspelt(environ))
    flags = _from_args(environ, warnings)
    flags.update(_from_words(argv, Source.COMMAND_LINE))

    named, named_by = flags.get("config", (values.get("config"), origins.get("config")))
    source = conffile.find(_as_config(named, named_by), cwd)
    if source is not None:
        warnings += _from_file(source, named_by, cwd, values, origins)
    for name, (value, origin) in flags.items():
        values[name], origins[name] = value, origin

    foreign = {name: values.pop(name) for name in FOREIGN_BY_NAME if name in values}
    warnings += _without_effect(foreign, origins)
    hooks = _hooks({name: values.pop(name) for name in HOOKS_BY_NAME if name in values}, origins)
    converted = {
        name: _convert(BY_NAME[name], value, origins[name]) for name, value in values.items()
    }
    for setting in TABLE:
        origins.setdefault(setting.name, Origin(Source.DEFAULT))
    config = None if source is None else source.name
    settings = Settings(**{**converted, "config": config, "hooks": hooks, "foreign": foreign})
    settings = settle(settings, origins, cwd, warnings)
    warnings += _mounted_nowhere(environ, settings.raw_env)
    if needs_app and not settings.app and not settings.print_config:
        raise ConfigError(
            "app: no application was named; say `gthreadsrv MODULE:CALLABLE`, or set wsgi_app "
            f"in {conffile.DEFAULT_NAME}"
        )
    return Loaded(settings, origins, tuple(warnings))


def _from_args(environ: Mapping[str, str], warnings: list[str]) -> dict[str, tuple[object, Origin]]:
    """Flags out of a variable: ours, or gunicorn's where ours says nothing."""
    ours, gunicorns = (environ.get(source.value, "") for source in _ARGS)
    if ours:
        if gunicorns:
            warnings.append(f"{_ARGS[1].value}: not read, because {CMD_ARGS} is set")
        return _from_words(_split_words(ours, _ARGS[0]), _ARGS[0])
    flags = _from_words(_split_words(gunicorns, _ARGS[1]), _ARGS[1])
    if "app" in flags:
        # As gunicorn does: there it is for flags alone.
        value, _ = flags.pop("app")
        warnings.append(
            f"app: {value!r} in {_ARGS[1].value} has no effect; name it after the flags"
        )
    return flags


def _split_words(text: str, source: Source) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise ConfigError(f"{source.value}: {error}; quote it as for a shell") from None


def _from_words(words: Sequence[str], source: Source) -> dict[str, tuple[object, Origin]]:
    """The last word on each setting; those that may repeat keep all of theirs."""
    found: dict[str, tuple[object, Origin]] = {}
    given: Given
    for given in read_flags(words, source):
        value: object = given.value
        name = given.setting.name
        if isinstance(given.setting, Setting) and given.setting.many:
            before = found[name][0] if name in found else ()
            value = (*before, value) if isinstance(before, tuple) else (value,)
        found[name] = (value, Origin(source, given.flag))
    return found


def _from_environment(
    environ: Mapping[str, str], values: dict[str, object], origins: dict[str, Origin]
) -> None:
    for setting in TABLE:
        if not setting.in_environment:
            continue
        fallback = setting.fallback
        if text := environ.get(setting.variable):
            origin = Origin(Source.ENVIRONMENT, setting.variable)
            values[setting.name] = _split(setting, text, origin)
        elif fallback is not None and (text := environ.get(fallback.name)):
            origin = Origin(Source.ENVIRONMENT, fallback.name)
            values[setting.name] = fallback.as_value(text)
        else:
            continue
        origins[setting.name] = origin


def _split(setting: Setting, text: str, origin: Origin) -> object:
    try:
        return setting.split(text)
    except ValueError as error:
        raise wrong(setting, origin, str(error)) from None


def _from_file(
    source: conffile.ConfigSource,
    named_by: Origin | None,
    cwd: str,
    values: dict[str, object],
    origins: dict[str, Origin],
) -> tuple[str, ...]:
    found = conffile.execute(source, str(named_by or "default"), _FILE_NAMES, cwd)
    for file_name, value in found.values.items():
        setting = BY_FILE_NAME.get(file_name)
        name = setting.name if setting is not None else file_name
        values[name] = value
        origins[name] = Origin(Source.FILE, found.places[file_name])
    return found.warnings


def _as_config(named: object, named_by: Origin | None) -> str | None:
    if named is None or named_by is None:
        return None
    value = _convert(BY_NAME["config"], named, named_by)
    return value if isinstance(value, str) else None


def _convert(setting: Setting, value: object, origin: Origin) -> Any:
    try:
        return setting.convert(value)
    except ValueError as error:
        raise wrong(setting, origin, str(error)) from None


def _without_effect(foreign: Mapping[str, object], origins: dict[str, Origin]) -> list[str]:
    """A line for each of gunicorn's settings that asks for something there is not."""
    return [
        f"{name}: {FOREIGN_BY_NAME[name].advice} (set by {origins.pop(name)})"
        for name, value in foreign.items()
        if not FOREIGN_BY_NAME[name].asks_for_nothing(value)
    ]


def _hooks(
    said: Mapping[str, object], origins: Mapping[str, Origin]
) -> dict[str, Callable[..., Any]]:
    hooks = {}
    for name, value in said.items():
        try:
            hook = read_hook(HOOKS_BY_NAME[name], value)
        except ValueError as error:
            raise ConfigError(
                f"{name}: {' '.join(str(error).split())} (set by {origins[name]}); "
                "allowed: a function"
            ) from None
        if hook is not None:
            hooks[name] = hook
    return hooks


def _misspelt(environ: Mapping[str, str]) -> list[str]:
    known = {s.variable for s in TABLE if s.in_environment} | {CMD_ARGS}
    strange = [
        name
        for name in sorted(environ)
        if name.startswith("GTHREADSRV_") and name not in known and not _SERVICE_LINK.match(name)
    ]
    if not strange:
        return []
    import difflib

    return [
        f"{name}: there is no such variable and it has no effect; did you mean {near[0]}?"
        for name in strange
        if (near := difflib.get_close_matches(name, known, 1))
    ]


def _mounted_nowhere(environ: Mapping[str, str], raw_env: Sequence[str]) -> list[str]:
    """What is wrong with the variable that says where the application is mounted, if it is set."""
    given = dict(item.partition("=")[::2] for item in raw_env)
    mount = given.get("SCRIPT_NAME", environ.get("SCRIPT_NAME", ""))
    if not mount or mount.startswith("/"):
        return []
    why = "it does not begin with /, and is where the application is mounted, such as /shop"
    return [f"SCRIPT_NAME: {mount!r} in the environment has no effect, since {why}"]
