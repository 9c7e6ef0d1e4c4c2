"""What depends on more than one setting: paths, what `sync` means, what cannot go together.

The loader's last step, on typed values; it may look at the file system and changes nothing.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from gthreadsrv.errors import ConfigError
from gthreadsrv.settings.model import Origin, Settings, Source
from gthreadsrv.settings.table import BY_NAME

if TYPE_CHECKING:
    from gthreadsrv.settings.setting import Setting


def wrong(setting: Setting, origin: Origin, what: str) -> ConfigError:
    """The one line for a value that cannot be taken."""
    what = " ".join(what.split())
    return ConfigError(f"{setting.file_name}: {what} (set by {origin}); allowed: {setting.allowed}")


def settle(
    settings: Settings, origins: dict[str, Origin], cwd: str, warnings: list[str]
) -> Settings:
    """The settings made whole; ConfigError where they contradict each other."""
    chdir = os.path.normpath(os.path.join(cwd, settings.chdir))
    if not os.path.isdir(chdir):
        raise wrong(BY_NAME["chdir"], origins["chdir"], f"{chdir!r} is not a directory")
    settings = settings._replace(
        chdir=chdir,
        pythonpath=tuple(os.path.join(chdir, path) for path in settings.pythonpath),
        pidfile=_path(settings.pidfile, chdir),
        errorlog=_path(settings.errorlog, chdir) or "-",
        accesslog=_path(settings.accesslog, chdir),
        certfile=_path(settings.certfile, chdir),
        keyfile=_path(settings.keyfile, chdir),
        ca_certs=_path(settings.ca_certs, chdir),
        logconfig=_path(settings.logconfig, chdir),
        logconfig_json=_path(settings.logconfig_json, chdir),
        reload_extra_files=tuple(os.path.join(chdir, path) for path in settings.reload_extra_files),
    )
    for name in ("keyfile", "cert_reqs"):
        if getattr(settings, name) and not settings.is_ssl:
            # It would speak plain HTTP to whoever relies on TLS.
            raise wrong(BY_NAME[name], origins[name], "there is no TLS without --certfile")
    if settings.paste is not None:
        settings = _pasted(settings, settings.paste, origins, cwd)
    if settings.access_log_format == "json" and _through_logging(settings):
        raise ConfigError(
            f"access_log_format: json (set by {origins['access_log_format']}) is what this server "
            "writes by itself, but logging was configured to write; give a text with %(...)s atoms"
        )
    return _for_development(_threads_of_sync(settings, origins, warnings), origins, warnings)


def _threads_of_sync(
    settings: Settings, origins: dict[str, Origin], warnings: list[str]
) -> Settings:
    if settings.is_green and not settings.threads:
        why = f"worker_class {settings.worker_class} has a greenlet for each of worker_connections"
        origins["threads"] = Origin(Source.SIZING, why)
        return settings._replace(threads=settings.worker_connections)
    if settings.is_green and settings.threads < settings.worker_connections:
        origin = str(origins["threads"])
        # Whoever says so to this server means it; gunicorn's users find a server of another size.
        if "gunicorn" in origin.lower():
            warnings.append(
                f"threads: {settings.threads} (set by {origin}) greenlets in each worker, where "
                f"gunicorn's {settings.worker_class} looks at worker_connections alone; leave it "
                f"out for the {settings.worker_connections} of worker_connections"
            )
    if settings.worker_class != "sync":
        return settings
    if settings.threads > 1:
        warnings.append(
            f"worker_class: sync (set by {origins['worker_class']}) has one thread, but threads "
            f"is {settings.threads} (set by {origins['threads']}): serving as gthread"
        )
        return settings._replace(worker_class="gthread")
    if not settings.threads:
        origins["threads"] = Origin(Source.SIZING, "worker_class sync has one thread")
    return settings._replace(threads=1)


def _pasted(settings: Settings, paste: str, origins: dict[str, Origin], cwd: str) -> Settings:
    """A PasteDeploy file names the application, and may configure logging."""
    import configparser

    path, mark, section = os.path.join(cwd, paste).partition("#")
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        with open(path, encoding="utf-8") as file:
            parser.read_file(file)
    except OSError as error:
        raise wrong(BY_NAME["paste"], origins["paste"], f"{path}: {error.strerror}") from None
    except (configparser.Error, ValueError) as error:
        raise wrong(BY_NAME["paste"], origins["paste"], f"{path}: {error}") from None
    logconfig = settings.logconfig
    if logconfig is None and parser.has_section("loggers"):
        logconfig, origins["logconfig"] = path, origins["paste"]
    origins["app"] = origins["paste"]
    return settings._replace(app=f"paste:{path}{mark}{section}", paste=path + mark + section,
        logconfig=logconfig,
    )  # fmt: skip


def _through_logging(settings: Settings) -> bool:
    syslog = settings.syslog and not settings.disable_redirect_access_to_syslog
    return bool(settings.logconfig_dict or settings.logconfig_json or settings.logconfig or syslog)


def _for_development(
    settings: Settings, origins: dict[str, Origin], warnings: list[str]
) -> Settings:
    if settings.debug_errors:
        warnings.append(
            f"debug_errors: tracebacks are shown to every client (set by {origins['debug_errors']})"
            "; for development only"
        )
    if settings.reload and settings.preload_app:
        warnings.append(
            f"preload_app: off (set by {origins['preload_app']}), because reload is on and a "
            "preloaded application is never imported again"
        )
        return settings._replace(preload_app=False)
    return settings


def _path(path: str | None, base: str) -> str | None:
    """Absolute, so that reopening it later does not depend on where the process is then."""
    return path if path is None or path == "-" else os.path.join(base, path)
