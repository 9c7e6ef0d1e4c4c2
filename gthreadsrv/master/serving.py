"""`serve`: put the master together, run it, and leave nothing behind.

Runs in the process that becomes the master, from settings to exit code. Also holds what a
forked child does first: let go of the master's things, take on its own identity.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gthreadsrv import log as logs
from gthreadsrv.errors import StopRequestedError
from gthreadsrv.master.arbiter import Arbiter
from gthreadsrv.master.exporter import exporter_board
from gthreadsrv.master.group import Group
from gthreadsrv.master.listening import Listening
from gthreadsrv.master.reap import OomCounter
from gthreadsrv.master.revisions import Revisions
from gthreadsrv.master.signals import SignalInbox
from gthreadsrv.master.switchboard import Switchboard
from gthreadsrv.worker.process import run_worker
from gthreadsrv.worker.title import set_title
from gthreadsrv_metrics import app_metrics

if TYPE_CHECKING:
    from collections.abc import Callable

    from gthreadsrv.master.group import Revision, RunWorker
    from gthreadsrv.master.slots import Vacancy
    from gthreadsrv.settings import Loaded


def serve(loaded: Loaded, reload: Callable[[], Loaded], run: RunWorker = run_worker) -> int:
    """Be the master until told to stop; the exit code.

    GthreadsrvError when it cannot start. `reload` reads all settings anew and raises it when they
    are wrong; `run` is the life of a worker.
    """
    settings = loaded.settings
    signals = SignalInbox()
    listening = Listening()
    revisions = None
    try:
        logs.bind_process(role="master")
        set_title("master", settings.proc_name or settings.app, "starting")
        revisions = Revisions(settings, listening, signals)
        directory = revisions.app_directory
        switchboard = Switchboard(signals)
        pair = revisions.make(settings)
        revisions.publish(pair)

        def enter_worker(vacancy: Vacancy, revision: Revision) -> None:
            switchboard.close_in_child()
            listening.close_in_child(revision.listeners)
            _become("worker", vacancy, revision)
            if directory is not None:
                app_metrics.install_app_metrics(vacancy.slot, directory)

        def enter_exporter(vacancy: Vacancy, revision: Revision) -> None:
            # It keeps the application's listeners too: it reports what waits in them.
            switchboard.close_in_child()
            listening.close_in_child((*revision.listeners, *revision.shown))
            _become("exporter", vacancy, revision)

        def forget_worker(slot: int) -> None:
            if directory is not None:
                app_metrics.clear_live(slot, directory)

        oom = OomCounter()
        workers = Group(
            "worker",
            revisions.board,
            pair.workers,
            run=run,
            enter=enter_worker,
            forget=forget_worker,
            switchboard=switchboard,
            signals=signals,
            oom=oom,
        )
        exporter = Group(
            "exporter",
            exporter_board(),
            pair.exporter,
            run=run,
            enter=enter_exporter,
            forget=lambda _slot: None,
            switchboard=switchboard,
            signals=signals,
            oom=oom,
        )
        arbiter = Arbiter(
            pair,
            reload,
            workers=workers,
            exporter=exporter,
            revisions=revisions,
            listening=listening,
            switchboard=switchboard,
            signals=signals,
        )
        return arbiter.run()
    except StopRequestedError:  # during a preloading import: nobody has been served yet
        return 0
    finally:
        listening.close_all_but(())
        if revisions is not None:
            revisions.close()
        signals.close()


def _become(role: str, vacancy: Vacancy, revision: Revision) -> None:
    logs.bind_process(role=role, worker=vacancy.slot, generation=vacancy.generation)
    if role == "exporter":
        logs.close_access_log()
    # CPython has seeded `random` anew in the child by itself (os.register_at_fork).
    if revision.identity is not None:
        revision.identity.assume()
