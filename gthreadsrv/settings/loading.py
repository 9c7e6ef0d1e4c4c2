"""From argv, environment and file to one `Loaded`: who wins, what is wrong and where.

Runs in the master at boot and again at each reload, so it has no side effect but
executing the configuration file, and says everything that is wrong by one ConfigError.
Strongest first: command line, GTHREADSRV_CMD_ARGS, file, GTHREADSRV_<NAME>,
WEB_CONCURRENCY and PORT, defaults. An empty variable counts as unset.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
import shlex
from typing import TYPE_CHECKING, Any

from gthreadsrv.errors import ConfigError
from gthreadsrv.settings import conffile
from gthreadsrv.settings.flags import Given, read_flags
from gthreadsrv.settings.model import Loaded, Origin, Settings, Source
from gthreadsrv.settings.table import BY_FILE_NAME, BY_NAME, TABLE, Setting

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CMD_ARGS = "GTHREADSRV_CMD_ARGS"
# A Kubernetes service called gthreadsrv puts such variables into every container.
_SERVICE_LINK = re.compile(r"GTHREADSRV_(SERVICE_|PORT(_|$))")


def load(
    argv: Sequence[str], environ: Mapping[str, str], cwd: str, *, needs_app: bool = True
) -> Loaded:
    """Settings from `argv` (without the program's name), `environ` and the file below `cwd`."""
    values: dict[str, object] = {}
    origins: dict[str, Origin] = {}
    _from_environment(environ, values, origins)
    flags = _from_words(_cmd_args(environ), Source.CMD_ARGS)
    flags.update(_from_words(argv, Source.COMMAND_LINE))

    named, named_by = flags.get("config", (values.get("config"), origins.get("config")))
    warnings = list(_misspelt(environ))
    config = conffile.find(_as_config(named, named_by), cwd)
    if config is not None:
        warnings += _from_file(config, named_by, cwd, values, origins)
    for name, (value, origin) in flags.items():
        values[name], origins[name] = value, origin

    converted = {
        name: _convert(BY_NAME[name], value, origins[name]) for name, value in values.items()
    }
    for setting in TABLE:
        origins.setdefault(setting.name, Origin(Source.DEFAULT))
    settings = Settings(**{**converted, "config": config})
    settings = _settle(settings, origins, cwd, warnings)
    if needs_app and not settings.app and not settings.print_config:
        raise ConfigError(
            "app: no application was named; say `gthreadsrv MODULE:CALLABLE`, or set wsgi_app "
            f"in {conffile.DEFAULT_NAME}"
        )
    return Loaded(settings, origins, tuple(warnings))


def _cmd_args(environ: Mapping[str, str]) -> list[str]:
    try:
        return shlex.split(environ.get(CMD_ARGS, ""))
    except ValueError as error:
        raise ConfigError(f"{CMD_ARGS}: {error}; quote it as for a shell") from None


def _from_words(words: Sequence[str], source: Source) -> dict[str, tuple[object, Origin]]:
    """The last word on each setting; those that may repeat keep all of theirs."""
    found: dict[str, tuple[object, Origin]] = {}
    given: Given
    for given in read_flags(words, source):
        value: object = given.value
        name = given.setting.name
        if given.setting.many:
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
        raise _wrong(setting, origin, str(error)) from None


def _from_file(
    path: str,
    named_by: Origin | None,
    cwd: str,
    values: dict[str, object],
    origins: dict[str, Origin],
) -> tuple[str, ...]:
    found = conffile.execute(path, str(named_by or "default"), BY_FILE_NAME, cwd)
    for file_name, value in found.values.items():
        name = BY_FILE_NAME[file_name].name
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
        raise _wrong(setting, origin, str(error)) from None


def _wrong(setting: Setting, origin: Origin, what: str) -> ConfigError:
    what = " ".join(what.split())
    return ConfigError(f"{setting.file_name}: {what} (set by {origin}); allowed: {setting.allowed}")


def _settle(
    settings: Settings, origins: dict[str, Origin], cwd: str, warnings: list[str]
) -> Settings:
    """What depends on more than one value: paths, and what `sync` means."""
    chdir = os.path.normpath(os.path.join(cwd, settings.chdir))
    if not os.path.isdir(chdir):
        raise _wrong(BY_NAME["chdir"], origins["chdir"], f"{chdir!r} is not a directory")
    settings = dataclasses.replace(
        settings,
        chdir=chdir,
        pythonpath=tuple(os.path.join(chdir, path) for path in settings.pythonpath),
        pidfile=_path(settings.pidfile, chdir),
        errorlog=_path(settings.errorlog, chdir) or "-",
        accesslog=_path(settings.accesslog, chdir),
        certfile=_path(settings.certfile, chdir),
        keyfile=_path(settings.keyfile, chdir),
        ca_certs=_path(settings.ca_certs, chdir),
    )
    warnings += _without_effect(settings, origins)
    for name in ("keyfile", "cert_reqs"):
        if getattr(settings, name) and not settings.is_ssl:
            # It would speak plain HTTP to whoever relies on TLS.
            raise _wrong(BY_NAME[name], origins[name], "there is no TLS without --certfile")
    if settings.worker_class != "sync":
        return settings
    if settings.threads > 1:
        warnings.append(
            f"worker_class: sync (set by {origins['worker_class']}) has one thread, but threads "
            f"is {settings.threads} (set by {origins['threads']}): serving as gthread"
        )
        return dataclasses.replace(settings, worker_class="gthread")
    if not settings.threads:
        origins["threads"] = Origin(Source.SIZING, "worker_class sync has one thread")
    return dataclasses.replace(settings, threads=1)


def _without_effect(settings: Settings, origins: dict[str, Origin]) -> list[str]:
    """What TLS settings of other programs' configurations do here: nothing, said once each."""
    instead = {
        "ssl_version": "tls_minimum is the oldest version that is spoken",
        "suppress_ragged_eofs": "a request that was cut short never reaches the application",
        "do_handshake_on_connect": "handshakes hold no thread and end with header_timeout",
    }
    return [
        f"{name}: it has no effect (set by {origins[name]}); {why}"
        for name, why in instead.items()
        if getattr(settings, name) != BY_NAME[name].default
    ]


def _path(path: str | None, base: str) -> str | None:
    """Absolute, so that reopening it later does not depend on where the process is then."""
    return path if path is None or path == "-" else os.path.join(base, path)


def _misspelt(environ: Mapping[str, str]) -> list[str]:
    known = {s.variable for s in TABLE if s.in_environment} | {CMD_ARGS}
    return [
        f"{name}: there is no such variable and it has no effect; did you mean {near[0]}?"
        for name in sorted(environ)
        if name.startswith("GTHREADSRV_") and name not in known and not _SERVICE_LINK.match(name)
        if (near := difflib.get_close_matches(name, known, 1))
    ]
