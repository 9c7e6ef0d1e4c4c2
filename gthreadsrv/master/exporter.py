"""The exporter as the master sees it: a worker of another application, on another port.

Its settings and its application are made here; the processes are a group's business. The
application, and prometheus_client with it, is imported in the exporter process only. It has a
scoreboard of its own, so that scrapes never count as requests.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Final

from gthreadsrv import __version__
from gthreadsrv.errors import AppLoadError
from gthreadsrv.http.parser import load_parser
from gthreadsrv.sizing import read_cpus
from gthreadsrv.system import replaced_by
from gthreadsrv_metrics.scoreboard import Scoreboard
from gthreadsrv_metrics.sources import ListenerSource, Sources

if TYPE_CHECKING:
    from collections.abc import Sequence

    from _typeshed.wsgi import WSGIApplication

    from gthreadsrv.net.listeners import Listener
    from gthreadsrv.settings import Settings

# A few scrapers and probes at once; each answer takes milliseconds.
THREADS: Final = 8
# An application with very many series of its own makes scrapes slow; probes never wait for them.
_SCRAPERS: Final = THREADS - 2
# One that serves, one that replaces it, one that has not quite left.
SLOTS: Final = 3
# Scrapers and probes keep a connection each; the rest is room for those that died.
_CONNECTIONS: Final = 512
# A scraper is a neighbour and a machine: one that takes longer is not coming back.
_HEAD_S: Final = 2.0
_WRITE_S: Final = 2.0


def exporter_board() -> Scoreboard:
    """Where the exporter's own threads write."""
    return Scoreboard(SLOTS, THREADS, ())


def exporter_settings(settings: Settings) -> Settings:
    """The server's settings with what belongs to the application taken out."""
    # What a preloading master has replaced in the standard library is so in all its children.
    prepares = settings.is_green and settings.preload_app
    return settings._replace(
        bind=(settings.metrics_bind,),
        workers=1,
        threads=THREADS,
        worker_connections=_CONNECTIONS,
        worker_class=replaced_by() or (settings.worker_class if prepares else "gthread"),
        max_requests=0,
        accesslog=None,
        preload_app=False,
        hooks={},
        foreign={},
        debug_errors=False,
        reload=False,
        metrics_path=None,
        limit_request_body=1,
        header_timeout=_HEAD_S,
        body_timeout=_HEAD_S,
        write_timeout=_WRITE_S,
        forwarded_allow_ips=(),
        forwarded_client="off",
        proxy_protocol="off",
        certfile=None,
        keyfile=None,
        ssl_context=None,
    )


def load_exporter(board: Scoreboard, sources: Sources) -> WSGIApplication:
    """The metrics application; runs in the exporter process."""
    try:
        from gthreadsrv_metrics.exporter import make_app
    except ImportError as error:
        raise AppLoadError(
            f"the metrics application cannot be imported: {error}; "
            "install prometheus-client, or say --metrics-bind off"
        ) from error
    return make_app(board, sources, scrapers=_SCRAPERS)


def sources(
    settings: Settings, listeners: Sequence[Listener], app_directory: str | None
) -> Sources:
    """What the metrics application is told beside the scoreboard."""
    return Sources(
        listeners=tuple(
            ListenerSource(str(listener.address), listener.fileno()) for listener in listeners
        ),
        build={
            "version": __version__,
            "python": sys.version.partition(" ")[0],
            "parser": load_parser(settings.http_parser).name,
            "worker_class": settings.worker_class,
        },
        app_directory=app_directory,
        ready_max_saturation=settings.ready_max_saturation,
        cores=float(read_cpus(os.environ).count),
    )
