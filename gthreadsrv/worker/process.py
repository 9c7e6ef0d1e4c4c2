"""A worker process from fork to exit: load, start the threads, watch, leave.

Runs on the child's main thread.  The master has already reset signals and privileges.
The exporter is run by this very code with another application and a scoreboard of its own.
What only some settings need is imported where they are found set.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import random
import sys
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Final

from gthreadsrv import log as logs
from gthreadsrv.errors import AppLoadError, ConfigError
from gthreadsrv.hooks.calling import HookError
from gthreadsrv.http.limits import Limits
from gthreadsrv.http.parser import make_parser
from gthreadsrv.http.recall import Recall, RecallingParser
from gthreadsrv.http.response import HeadEncoder
from gthreadsrv.net.drain import stop_new_connections
from gthreadsrv.net.peers import TrustedPeers
from gthreadsrv.worker import outbox, spool, upload
from gthreadsrv.worker.balance import Balance
from gthreadsrv.worker.channel import BootFailed, RetireRequested, WorkerReady
from gthreadsrv.worker.drain import Drain
from gthreadsrv.worker.greenlets import GreenThread, adopt, become
from gthreadsrv.worker.intake import Intake
from gthreadsrv.worker.offspring import let_go_in_children
from gthreadsrv.worker.overdue import Overdue
from gthreadsrv.worker.patience import patience_of
from gthreadsrv.worker.pool import SLOW_S, Pool
from gthreadsrv.worker.ports import Port
from gthreadsrv.worker.service import Service
from gthreadsrv.worker.thread import PoolThread
from gthreadsrv.worker.watchdog import Watchdog
from gthreadsrv.wsgi.fields import FieldTrust, mount_of
from gthreadsrv.wsgi.file_wrapper import FileWrapper, ReadFileWrapper
from gthreadsrv.wsgi.metrics_path import with_metrics
from gthreadsrv_metrics.cgroup import read_cgroup
from gthreadsrv_metrics.layout import M_SHARED_QUEUES, M_SHUTTING_DOWN
from gthreadsrv_metrics.proc import OwnTimes

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed.wsgi import WSGIApplication

    from gthreadsrv.net.listeners import Listener
    from gthreadsrv.settings import Settings
    from gthreadsrv.worker.channel import WorkerChannel
    from gthreadsrv.worker.context import WorkerContext
    from gthreadsrv.worker.greenlets import Hub
    from gthreadsrv_metrics.scoreboard import Scoreboard, SlotRow

__all__ = ["EXIT_NO_APPLICATION", "run_worker"]

EXIT_NO_APPLICATION: Final = 3

_JOIN_S: Final = 1.0

_SHARE: Final = 8
"""An eighth of the container's memory, divided by its workers, is what clients may fill with
bodies; as much with responses, and with files in memory. More than half is the application's."""


def run_worker(context: WorkerContext) -> int:
    """Serve until told to leave; return the process's exit status.

    0: retired.  3: the application could not be loaded, and the master has been told why.
    """
    # SIGABRT is how the master asks a wedged interpreter for its stacks, before it kills.
    faulthandler.enable(file=sys.__stderr__ or 2, all_threads=True)
    try:
        hub = become(context.settings.worker_class)
    except ConfigError as error:
        context.channel.send(BootFailed(str(error)))
        return EXIT_NO_APPLICATION
    app = _application(context)
    if app is None:
        return EXIT_NO_APPLICATION
    hub = hub or adopt()
    slot = context.board.slot(context.slot)
    settings = context.settings
    fit_into(read_cgroup().memory_limit_bytes, settings.most_workers)
    pool = Pool(
        slot,
        _request_limit(settings) if context.role == "worker" else 0,
        # With greenlets nobody could take the lead from one that computes, and handing it on
        # costs no system call.
        fast_s=SLOW_S if hub is None else 0.0,
    )
    ports = _ports(context, pool)
    drain = Drain(
        pool,
        [port for port in ports.values() if port.owned],
        patience_of(settings).idle_s,
        context.show_state,
        whole=lambda: _last_to_serve(context.board),
        shut_ways_in=lambda: _shut(context),
    )
    threads = _threads(context, app, pool, ports, drain, hub)
    overdue = Overdue(threads, settings.timeout, context.channel, logs.get_logger())
    balance = None
    if settings.most_workers > settings.least_workers:
        services = [thread.service for thread in threads]
        balance = Balance(context.board, context.slot, services)
    beat = _Beat(context.channel, pool, slot, overdue, balance)
    watchdog = Watchdog(
        pool,
        slot,
        context.channel,
        drain,
        threads=len(threads) if hub is None else 1,
        reopen_logs=logs.reopen,
        beat=beat,
    )
    gc.callbacks.append(_GcWatch(slot))
    slot.heartbeat(monotonic())
    watchdog.arm()
    if settings.reload and context.role == "worker":
        from gthreadsrv.worker.code_watch import CodeWatch

        CodeWatch(settings, context.channel).start()
    let_go_in_children(pool, ports.values(), watchdog, context.channel)
    hooks = context.hooks
    if hooks is not None:
        hooks.serving()
    pool.paused = True  # the first leader opens the ports
    for thread in threads:
        thread.start()
    context.show_state("ready")
    context.channel.send(WorkerReady())
    if watchdog.run():
        for thread in threads:
            thread.join(_JOIN_S)
    elif hooks is not None:
        hooks.interrupted()
    beat()
    return 0


def fit_into(memory_bytes: int | None, workers: int) -> None:
    """Have what clients may fill follow the container's memory, where it has a limit."""
    if memory_bytes is None:
        return
    for allowance in (outbox.ALLOWANCE, spool.ALLOWANCE, upload.ALLOWANCE):
        allowance.limit = min(allowance.limit, memory_bytes // (_SHARE * workers))


def _last_to_serve(board: Scoreboard) -> bool:
    """Say whether the whole server goes, and no other master serves what is in the queues."""
    cells = board.master_cells
    return bool(cells[M_SHUTTING_DOWN]) and not cells[M_SHARED_QUEUES]


def _application(context: WorkerContext) -> WSGIApplication | None:
    app = context.app
    if app is None:
        try:
            app = context.load()
        except AppLoadError as error:
            context.channel.send(BootFailed(str(error), error.traceback))
            return None
    if context.hooks is not None:
        try:
            app = context.hooks.loaded(app)
        except HookError as error:
            context.channel.send(BootFailed(str(error), error.traceback))
            return None
    path = context.settings.metrics_path
    return app if path is None else with_metrics(app, path)


def _request_limit(settings: Settings) -> int:
    """Return after how many requests to ask for a replacement; 0 never.

    The jitter keeps workers that started together from leaving together.
    """
    if not settings.max_requests:
        return 0
    jitter = settings.max_requests_jitter
    return settings.max_requests + (random.randint(0, jitter) if jitter else 0)  # noqa: S311


def _ports(context: WorkerContext, pool: Pool) -> dict[int, Port]:
    settings = context.settings
    trusted = TrustedPeers(settings.forwarded_allow_ips)
    multithread, multiprocess = settings.threads > 1, settings.most_workers > 1
    fields = FieldTrust(
        settings.header_map,
        settings.forwarder_headers,
        settings.secure_scheme_headers,
        settings.forwarded_client,
        # The exporter is nobody's application.
        mount_of(os.environ) if context.role == "worker" else "",
    )
    secure = None
    if context.tls is not None:
        from gthreadsrv.worker.tls_wire import securing

        secure = securing(context.tls, patience_of(settings).write_s)
    file_wrapper = FileWrapper if settings.sendfile else ReadFileWrapper
    make: Callable[[Listener], Port]
    if settings.proxy_protocol == "off":
        make = partial(
            Port,
            trusted=trusted,
            multithread=multithread,
            multiprocess=multiprocess,
            fields=fields,
            file_wrapper=file_wrapper,
            secure=secure,
        )
    else:
        from gthreadsrv.worker.preface import VERSIONS, PrefacedPort

        make = partial(
            PrefacedPort,
            trusted=trusted,
            proxies=TrustedPeers(settings.proxy_allow_ips),
            versions=VERSIONS[settings.proxy_protocol],
            pool=pool,
            patience=patience_of(settings),
            multithread=multithread,
            multiprocess=multiprocess,
            fields=fields,
            file_wrapper=file_wrapper,
            secure=secure,
        )
    ports = [make(listener) for listener in context.listeners]
    return {port.fd: port for port in ports}


def _shut(context: WorkerContext) -> bool:
    """Turn new clients away; False where another master's workers serve them."""
    if context.board.master_cells[M_SHARED_QUEUES]:
        return False
    for listener in context.listeners:
        # A worker that runs as another user may not remove the socket's file.
        with suppress(OSError):
            stop_new_connections(listener)
    return True


def _threads(
    context: WorkerContext,
    app: WSGIApplication,
    pool: Pool,
    ports: dict[int, Port],
    drain: Drain,
    hub: Hub | None,
) -> list[PoolThread]:
    settings = context.settings
    limits = Limits(
        settings.limit_request_line,
        settings.limit_request_fields,
        settings.limit_request_field_size,
        settings.limit_request_body,
    )
    encoder = HeadEncoder("gthreadsrv")
    recall = Recall()
    log = logs.get_logger()
    hooks = context.hooks
    threads: list[PoolThread] = []
    for index in range(settings.threads):
        row = context.board.thread(context.slot, index)
        service: Service
        if hooks is not None and hooks.of_requests:
            from gthreadsrv.worker.hooked import HookedService

            service = HookedService(hooks, app, pool, row, settings, encoder, log)
        else:
            service = Service(app, pool, row, settings, encoder, log)
        parser = RecallingParser(
            make_parser(settings.http_parser, limits),
            recall,
            underscored=settings.forwarder_headers if settings.header_map == "refuse" else None,
        )
        intake = Intake(pool, settings, limits, ports, parser, service, drain)
        name = f"gthreadsrv-{index}"
        threads.append(
            PoolThread(name, pool, intake, service)
            if hub is None
            else GreenThread(name, pool, intake, service, hub=hub)
        )
    return threads


class _Beat:
    """What goes with a heartbeat: the kernel's numbers, and the limits of requests."""

    def __init__(
        self,
        channel: WorkerChannel,
        pool: Pool,
        slot: SlotRow,
        overdue: Overdue,
        balance: Balance | None,
    ) -> None:
        self._overdue = overdue
        self._balance = balance
        self._channel = channel
        self._pool = pool
        self._times = OwnTimes(slot)
        self._asked = False

    def __call__(self) -> None:
        self._times.record()
        now = monotonic()
        self._overdue.look(now)
        if self._balance is not None:
            self._balance.look(now)
        if self._pool.limit_reached and not self._asked:
            self._asked = True
            self._channel.send(RetireRequested("max_requests"))


class _GcWatch:
    """Times garbage collections.  They never overlap, so one start is enough."""

    def __init__(self, slot: SlotRow) -> None:
        self._slot = slot
        self._started = 0.0

    def __call__(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._started = monotonic()
        elif self._started:
            self._slot.gc_pause(monotonic() - self._started, info["generation"])
