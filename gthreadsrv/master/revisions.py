"""From settings to revisions: listeners opened, shared memory made, the import done once.

Runs in the master at boot and at each reload. Everything that can be wrong with new settings is
found out here, before a single worker is touched; whoever asked then keeps the old ones.
Not here: when workers change over (fleet, arbiter).
"""

from __future__ import annotations

import functools
import gc
import os
from typing import TYPE_CHECKING, Final, NamedTuple

from gthreadsrv import log as logs
from gthreadsrv.errors import ConfigError, GthreadsrvError, StopRequestedError
from gthreadsrv.hooks.views import App
from gthreadsrv.master.exporter import exporter_settings, load_exporter, sources
from gthreadsrv.master.group import Revision
from gthreadsrv.master.identity import Identity, resolve
from gthreadsrv.master.pidfile import PidFile
from gthreadsrv.net.listeners import Listener, SocketFile
from gthreadsrv.settings.surroundings import enter
from gthreadsrv.worker.greenlets import check as check_greenlets
from gthreadsrv.worker.greenlets import prepare as prepare_greenlets
from gthreadsrv.wsgi.load import load_app
from gthreadsrv_metrics import app_metrics
from gthreadsrv_metrics.scoreboard import Scoreboard
from gthreadsrv_metrics.sources import Sources, publish

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gthreadsrv.master.listening import Listening
    from gthreadsrv.master.signals import SignalInbox
    from gthreadsrv.settings import Settings

# Room for growth by TTIN or a reload. It is address space, not memory: see the scoreboard.
_LEAST_SLOTS: Final = 64
_LEAST_GREEN_SLOTS: Final = 16
_LEAST_THREADS: Final = 64
_GROWTH: Final = 3

log = logs.get_logger()


class RevisionPair(NamedTuple):
    """What one set of settings asks of both groups."""

    settings: Settings
    workers: Revision
    exporter: Revision
    seen: Sources  # what metrics pages are told


class Revisions:
    """Makes revisions, and remembers what is made only once."""

    def __init__(
        self,
        settings: Settings,
        listening: Listening,
        signals: SignalInbox,
        starting: Callable[[Settings, App], None],
        *,
        heir: bool = False,
        turn: int = 0,
    ) -> None:
        """Open the listeners and make the scoreboard; GthreadsrvError if that cannot be.

        `starting` is called when everything is in force and nothing listens yet.
        `heir`: a predecessor lives, and has the pid file's name; `turn`: how many there were.
        """
        self._listening = listening
        self._signals = signals
        self.heir = heir
        self.turn = turn
        self._preloaded: dict[str, App] = {}  # by name
        self._pidfile: PidFile | None = None
        self._app_directory: app_metrics.AppDirectory | None = None
        try:
            self.put_in_force(settings)
            starting(settings, self._app(settings))
            identity = resolve(settings)
            main, _ = self._open(settings, identity)
            self.board = _scoreboard(settings, main)
            self._app_directory = _app_directory(identity)
        except (GthreadsrvError, StopRequestedError):
            self.close()
            raise

    def make(self, settings: Settings) -> RevisionPair:
        """Revisions for these settings, which are in force afterwards; or GthreadsrvError.

        After an error `put_in_force` brings the settings before back.
        """
        check_greenlets(settings)
        self._check_room(settings)
        self.put_in_force(settings)
        identity = resolve(settings)
        tls = None
        if settings.is_ssl:
            from gthreadsrv.net.tls import make_context

            tls = make_context(settings)
        main, metrics = self._open(settings, identity)
        try:
            seen = sources(settings, main, self.app_directory)
        except ValueError as error:
            raise ConfigError(f"http_parser: {error}") from None
        # An application that shows the metrics page by itself may ask while it is imported.
        publish(self.board, seen)
        workers = Revision(
            settings=settings,
            listeners=main,
            identity=identity,
            app=self._preload(settings, identity) if settings.preload_app else self._app(settings),
            least=settings.least_workers,
            most=settings.most_workers,
            tls=tls,
        )
        exporter = Revision(
            settings=exporter_settings(settings),
            listeners=metrics,
            identity=identity,
            app=App(functools.partial(load_exporter, self.board, seen)),
            least=1 if metrics else 0,
            most=1 if metrics else 0,
            shown=main,
            told=seen,
        )
        return RevisionPair(settings, workers, exporter, seen)

    @property
    def app_directory(self) -> str | None:
        """Where the application's own metrics are kept."""
        return self._app_directory.path if self._app_directory else None

    def put_in_force(self, settings: Settings) -> None:
        """Pid file, logs, working directory, import path and variables of the whole server."""
        before = self._pidfile
        # Until the predecessor has left, under the name that gunicorn's new master uses.
        path = f"{settings.pidfile}.2" if settings.pidfile and self.heir else settings.pidfile
        if path != (before.path if before else None):
            self._pidfile = PidFile(path) if path else None
            if before is not None:
                before.remove()
        # A logging configuration may name classes of the application's.
        enter(settings)
        logs.configure(settings)
        identity = resolve(settings)
        if identity is not None and self._app_directory is not None:
            self._app_directory.give_to(identity.uid, identity.gid)

    def succeed(self, predecessor: int) -> None:
        """The predecessor has left: take over its pid file's name; GthreadsrvError if taken."""
        self.heir = False
        if self._pidfile is not None:
            self._pidfile.move(self._pidfile.path.removesuffix(".2"), predecessor)

    def install_app_metrics(self, slot: int | None) -> None:
        """Tell prometheus_client in this process where to keep the application's values."""
        if self._app_directory is not None:
            directory = self._app_directory
            app_metrics.install_app_metrics(slot, directory.path, self._app_turn)

    def clear_live(self, slot: int) -> None:
        """A worker is gone, and its live gauges with it."""
        if self._app_directory is not None:
            app_metrics.clear_live(slot, self._app_directory.path, self._app_turn)

    @property
    def _app_turn(self) -> int:
        return 0 if self._app_directory is None or self._app_directory.private else self.turn

    def close(self) -> None:
        """Leave nothing behind."""
        if self._pidfile is not None:
            self._pidfile.remove()
        if self._app_directory is not None:
            self._app_directory.remove()

    def publish(self, pair: RevisionPair) -> None:
        """Show the settings beside the usage, in the scoreboard and to metrics pages."""
        settings = pair.settings
        publish(self.board, pair.seen)
        self.board.master.set_config(
            {
                "workers": settings.least_workers,
                "max_workers": settings.most_workers,
                "threads": settings.threads,
                "worker_connections": settings.worker_connections,
                "backlog": settings.backlog,
                "keepalive_seconds": settings.keepalive,
                "timeout_seconds": settings.timeout,
            }
        )
        for name in self.board.listeners:
            self.board.master.set_backlog_limit(name, settings.backlog)

    def _check_room(self, settings: Settings) -> None:
        board = self.board
        if settings.threads > board.threads:
            raise ConfigError(
                f"threads: {settings.threads} is more than the {board.threads} this server has "
                "room for since its start; restart it to go beyond"
            )
        if settings.most_workers + 2 > board.slots:
            raise ConfigError(
                f"workers: {settings.most_workers} is more than the {board.slots - 2} this server "
                "has room for since its start; restart it to go beyond"
            )

    def _open(
        self, settings: Settings, identity: Identity | None
    ) -> tuple[tuple[Listener, ...], tuple[Listener, ...]]:
        owner = (identity.uid, identity.gid) if identity else (-1, -1)
        socket_file = SocketFile(settings.umask, *owner)

        main = self._listening.open(settings.bind, settings.backlog, socket_file, setting="bind")
        if settings.metrics_bind == "off":
            return main, ()
        metrics = self._listening.open(
            (settings.metrics_bind,), settings.backlog, socket_file, setting="metrics-bind"
        )
        return main, metrics

    def _app(self, settings: Settings) -> App:
        variables = settings.raw_paste_global_conf
        return App(functools.partial(load_app, settings.app, variables))

    def _preload(self, settings: Settings, identity: Identity | None) -> App:
        app = self._preloaded.get(settings.app)
        if app is not None:
            log.info(
                "application not imported again",
                detail="it was preloaded; restart the server to run new code",
            )
            return app
        if identity is not None:
            log.warning(
                "application imported as root",
                detail="with --preload the import comes before --user and --group take effect",
            )
        self.install_app_metrics(None)
        app = self._app(settings)
        with self._signals.interruptible():
            prepare_greenlets(settings.worker_class)
            app.wsgi()
        self._preloaded[settings.app] = app
        # Out of the collector's sight, the imported objects' pages stay shared with the workers:
        # a collection writes to the header of every object it looks at.
        gc.collect()
        gc.freeze()
        return app


def _scoreboard(settings: Settings, listeners: Sequence[Listener]) -> Scoreboard:
    # A thousand greenlets need no room to grow, and address space is not free everywhere.
    threads = settings.threads if settings.is_green else _GROWTH * settings.threads
    least = _LEAST_GREEN_SLOTS if settings.is_green else _LEAST_SLOTS
    try:
        return Scoreboard(
            max(least, _GROWTH * settings.most_workers),
            max(_LEAST_THREADS, threads),
            [str(listener.address) for listener in listeners],
        )
    except (OSError, OverflowError, ValueError):
        raise ConfigError(
            f"workers, threads: no memory for {settings.most_workers} x {settings.threads} "
            "threads' counters; ask for fewer"
        ) from None


def _app_directory(identity: Identity | None) -> app_metrics.AppDirectory | None:
    owner = (identity.uid, identity.gid) if identity else None
    try:
        return app_metrics.prepare_directory(os.environ, owner=owner)
    except OSError as error:
        raise ConfigError(
            f"{app_metrics.VARIABLE}: cannot make {error.filename}: {error.strerror}; name a "
            "directory that may be made, or leave the variable out"
        ) from None
