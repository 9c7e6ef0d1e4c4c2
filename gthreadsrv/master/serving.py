"""`serve`: put the master together, run it, and leave nothing behind.

Runs in the process that becomes the master, from settings to exit code. Also holds what a
forked child does first: let go of the master's things, take on its own identity.
"""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

from gthreadsrv import log as logs
from gthreadsrv.errors import StopRequestedError
from gthreadsrv.hooks import MasterHooks
from gthreadsrv.master.arbiter import Arbiter
from gthreadsrv.master.exporter import exporter_board
from gthreadsrv.master.group import Group
from gthreadsrv.master.handover import Handover
from gthreadsrv.master.inheritance import read
from gthreadsrv.master.listening import Listening
from gthreadsrv.master.notify import Notifier
from gthreadsrv.master.oom import go_before_master
from gthreadsrv.master.reap import OomCounter
from gthreadsrv.master.revisions import Revisions
from gthreadsrv.master.signals import SignalInbox
from gthreadsrv.master.succession import Succession
from gthreadsrv.master.switchboard import Switchboard
from gthreadsrv.worker.process import run_worker
from gthreadsrv.worker.title import set_title

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Literal

    from gthreadsrv.master.group import Revision, RunWorker
    from gthreadsrv.master.slots import Vacancy
    from gthreadsrv.net.listeners import Listener
    from gthreadsrv.settings import Loaded
    from gthreadsrv.started import Started


def serve(
    loaded: Loaded,
    reload: Callable[[], Loaded],
    started: Started,
    run: RunWorker = run_worker,
) -> int:
    """Be the master until told to stop; the exit code.

    GthreadsrvError when it cannot start. `reload` reads all settings anew and raises it when they
    are wrong; `started` is what a successor is started from; `run` is the life of a worker.
    """
    settings = loaded.settings
    inheritance = read(started.told) if started.told else None
    signals = SignalInbox()
    listening = Listening(inheritance.listeners if inheritance else None)
    listening.shared = inheritance is not None
    revisions = None
    try:
        logs.bind_process(role="master")
        set_title("master", settings.proc_name or settings.app, "starting")
        hooks = MasterHooks(signals)
        revisions = Revisions(
            settings,
            listening,
            signals,
            hooks.starting,
            heir=inheritance is not None,
            turn=inheritance.turn if inheritance else 0,
        )
        switchboard = Switchboard(signals)
        succession = Succession(switchboard, inheritance)
        notifier = Notifier(started.environ, revisions.board, main=inheritance is None)
        pair = revisions.make(settings)
        revisions.publish(pair)
        hooks.adopt(settings, pair.workers.app, pair.workers.listeners)
        hooks.ready()

        def let_go(needed: tuple[Listener, ...]) -> None:
            for lines in (switchboard, succession, notifier):
                lines.close_in_child()
            listening.close_in_child(needed)

        install_app_metrics = revisions.install_app_metrics

        def enter_worker(vacancy: Vacancy, revision: Revision) -> None:
            let_go(revision.listeners)
            _become("worker", vacancy, revision)
            install_app_metrics(vacancy.slot)

        def enter_exporter(vacancy: Vacancy, revision: Revision) -> None:
            # It keeps the application's listeners too: it reports what waits in them.
            let_go((*revision.listeners, *revision.shown))
            _become("exporter", vacancy, revision)

        oom = OomCounter()
        workers = Group(
            "worker",
            revisions.board,
            pair.workers,
            run=run,
            enter=enter_worker,
            forget=revisions.clear_live,
            switchboard=switchboard,
            signals=signals,
            oom=oom,
            hooks=hooks,
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
        handover = Handover(
            started,
            succession,
            workers=workers,
            exporter=exporter,
            revisions=revisions,
            listening=listening,
            notifier=notifier,
            signals=signals,
            hooks=hooks,
        )
        arbiter = Arbiter(
            pair,
            reload,
            handover=handover,
            notifier=notifier,
            workers=workers,
            exporter=exporter,
            revisions=revisions,
            listening=listening,
            switchboard=switchboard,
            signals=signals,
            hooks=hooks,
        )
        # Else the children's collections would write to the header of every object of ours, and
        # so copy the pages: 4 MiB in each.
        gc.freeze()
        code = arbiter.run()
        hooks.exiting()
        return code
    except StopRequestedError:  # during a preloading import or a hook: nobody was served yet
        return 0
    finally:
        listening.close_all_but(())
        if revisions is not None:
            revisions.close()
        signals.close()


def _become(role: Literal["worker", "exporter"], vacancy: Vacancy, revision: Revision) -> None:
    logs.bind_process(role=role, worker=vacancy.slot, generation=vacancy.generation)
    if role == "exporter":
        logs.close_access_log()
    go_before_master(role)
    # CPython has seeded `random` anew in the child by itself (os.register_at_fork).
    if revision.identity is not None:
        revision.identity.assume()
