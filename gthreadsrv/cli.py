"""`gthreadsrv [options] APP`: settings in, a serving master or one line and an exit code out.

Runs in the process that becomes the master. Exit codes: 0 done, 2 a wrong setting, 3 the
application cannot be loaded. Imports what an action needs when it needs it, so that
--help stays quick and --check-config never touches a socket. Must not serve.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from gthreadsrv import sizing
from gthreadsrv.errors import ConfigError, GthreadsrvError
from gthreadsrv.net.activation import Activated, activated
from gthreadsrv.settings import Loaded, Origin, Source, load
from gthreadsrv.started import Started, take_note
from gthreadsrv.system import keep as keep_system

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gthreadsrv.sizing import Sizing


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line says; the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    # Kept for reloads, which must not see what -e or the application have set since.
    started = take_note()
    try:
        passed = activated(started.environ, os.getpid())
        loaded, sized = _load(words, started, passed)
        if loaded.settings.print_config or loaded.settings.check_config:
            return _examine(loaded)
        return _serve(loaded, sized, words, started, passed)
    except GthreadsrvError as error:
        _complain(error)
        return error.exit_code


def _load(words: Sequence[str], started: Started, passed: Activated) -> tuple[Loaded, Sizing]:
    """The settings with workers and threads filled in, and with the sockets we were given."""
    # A configuration file may import the project it lies in.
    if started.cwd not in sys.path:
        sys.path.insert(0, started.cwd)
    loaded = _with_sockets(load(words, started.environ, started.cwd), passed)
    # The file may have had a library of greenlets replace what this process goes on with.
    keep_system()
    settings = loaded.settings
    sized = sizing.resolve(
        settings.least_workers,
        settings.threads,
        sizing.read_cpus(started.environ),
        settings.most_workers,
    )
    origins = dict(loaded.origins)
    for name in ("workers", "threads"):
        if not getattr(settings, name):
            origins[name] = Origin(Source.SIZING, f"{sized.rule}; CPUs from {sized.cpus.where}")
    workers = settings.workers or sized.workers
    settings = settings._replace(workers=workers, threads=sized.threads)
    return Loaded(settings, origins, loaded.warnings), sized


def _with_sockets(loaded: Loaded, passed: Activated) -> Loaded:
    """Sockets that the service manager has opened are served instead of addresses."""
    origins, warnings = dict(loaded.origins), list(loaded.warnings)
    values: dict[str, Any] = {}
    for name, value in (("bind", passed.bind), ("metrics_bind", passed.metrics_bind)):
        if not value:
            continue
        if origins[name].source is not Source.DEFAULT:
            warnings.append(
                f"{name}: not used (set by {origins[name]}), since the service manager has passed "
                "sockets; leave one of the two out"
            )
        values[name] = value
        origins[name] = Origin(Source.ACTIVATION, "LISTEN_FDS")
    settings = loaded.settings._replace(**values)
    return Loaded(settings, origins, tuple(warnings))


def _examine(loaded: Loaded) -> int:
    """--print-config and --check-config: say what there is to say and leave."""
    settings = loaded.settings
    for warning in loaded.warnings:
        sys.stderr.write(f"gthreadsrv: warning: {warning}\n")
    if settings.print_config:
        from gthreadsrv.settings.show import show

        sys.stdout.write(show(settings, loaded.origins))
    if settings.check_config:
        from gthreadsrv import log
        from gthreadsrv.http.parser import load_parser
        from gthreadsrv.settings.surroundings import enter
        from gthreadsrv.worker.greenlets import become, check
        from gthreadsrv.wsgi.load import load_app

        check(settings)

        enter(settings)
        log.check(settings)
        try:
            load_parser(settings.http_parser)
        except ValueError as error:
            raise ConfigError(f"http_parser: {error}") from None
        if settings.is_ssl:
            from gthreadsrv.net.tls import make_context

            make_context(settings)
        become(settings.worker_class)
        load_app(settings.app, settings.raw_paste_global_conf)
        sys.stdout.write(f"gthreadsrv: the settings are good and {settings.app} can be served\n")
    return 0


def _serve(
    loaded: Loaded, sized: Sizing, words: Sequence[str], started: Started, passed: Activated
) -> int:
    from gthreadsrv import log, master
    from gthreadsrv.settings.surroundings import enter

    enter(loaded.settings)
    log.configure(loaded.settings)
    logger = log.get_logger()

    def announce(loaded: Loaded, sized: Sizing) -> None:
        for warning in loaded.warnings:
            logger.warning("setting ignored or changed", detail=warning)
        logger.info("sizing", **sized.describe())

    def reload() -> Loaded:
        """Everything read anew; ConfigError leaves the running settings as they are."""
        again, size = _load(words, started, passed)
        announce(again, size)
        return again

    announce(loaded, sized)
    return master.serve(loaded, reload, started)


def _complain(error: GthreadsrvError) -> None:
    # Of the operator's own code: the application's, or a hook's.
    if error.traceback:
        sys.stderr.write(error.traceback.rstrip("\n") + "\n")
    sys.stderr.write(f"gthreadsrv: error: {error}\n")
