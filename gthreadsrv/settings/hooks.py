"""The server hooks: gunicorn's names, what each is called with, and where it runs.

A hook is a function of the configuration file with one of these names. Read by the loader;
`gthreadsrv.hooks` calls them. Nothing here runs anything of the file's.
"""

from __future__ import annotations

import importlib
import inspect
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable


class Hook(NamedTuple):
    """One hook: its parameters, of which the last `optional` may be left out."""

    name: str
    parameters: tuple[str, ...]
    when: str
    failing: str
    optional: int = 0


_NOT_STARTED = "the server does not start, exit code 1; as with gunicorn"
_NOT_BOOTED = (
    "the worker cannot boot: as with an application that cannot be imported, and as with gunicorn"
)
_GOES_ON = "logged; the server goes on"

HOOKS: tuple[Hook, ...] = (
    Hook("nworkers_changed", ("server", "new", "old"),
         "master: at the start (`old` is None), at `TTIN`, `TTOU` and each reload; with "
         "`--workers 2:8` at each step, too", _GOES_ON),
    Hook("on_starting", ("server",), "master: once, before it listens and before `--preload` "
         "imports", _NOT_STARTED),
    Hook("when_ready", ("server",), "master: once, when it listens, before the first worker",
         _NOT_STARTED),
    Hook("on_reload", ("server",), "master: at `HUP`, with the new settings, before any worker is "
         "replaced", "the reload is given up, the old settings and workers go on"),
    Hook("pre_fork", ("server", "worker"), "master: before each worker is forked",
         "logged; the worker is not forked, and tried again after a pause"),
    Hook("post_fork", ("server", "worker"), "worker: first thing, already as `user`, before the "
         "application is imported", _NOT_BOOTED),
    Hook("post_worker_init", ("worker",), "worker: when the application is imported, before it "
         "serves; what `worker.wsgi` is afterwards is served", _NOT_BOOTED),
    Hook("pre_request", ("worker", "req"), "worker, in the thread of the request: before the "
         "application", "logged; the request is answered 500; as with gunicorn"),
    Hook("post_request", ("worker", "req", "environ", "resp"), "worker, in the thread of the "
         "request: when the response has been handed to the kernel", _GOES_ON, optional=2),
    Hook("worker_int", ("worker",), "worker: told to leave at once (`INT`, `QUIT`)", _GOES_ON),
    Hook("worker_abort", ("worker",), "worker: on `ABRT`, which the master sends to one that is "
         "silent or boots too long; its threads' stacks are in the log by then", _GOES_ON),
    Hook("worker_exit", ("server", "worker"), "worker: last thing, unless a signal ends it",
         _GOES_ON),
    Hook("child_exit", ("server", "worker"), "master: when a worker is gone, however it ended",
         _GOES_ON),
    Hook("pre_exec", ("server",), "a child of the master: at `USR2`, before it becomes the next "
         "master", _GOES_ON),
    Hook("on_exit", ("server",), "master: when all workers are gone", _GOES_ON),
)  # fmt: skip

HOOKS_BY_NAME = {hook.name: hook for hook in HOOKS}


def read_hook(hook: Hook, value: object) -> Callable[..., Any] | None:
    """What the file says as a callable that takes all of the hook's parameters.

    A text names one as MODULE.FUNCTION, None is no hook. ValueError says what is wrong.
    """
    if value is None:
        return None
    if isinstance(value, str):
        value = _imported(value)
    if not callable(value):
        raise ValueError(f"{value!r} cannot be called")  # noqa: TRY004  the loader's contract
    accepted = _accepted(hook, value)
    if accepted == len(hook.parameters):
        return value
    function = value

    def with_fewer(*arguments: object) -> object:
        return function(*arguments[:accepted])

    return with_fewer


def _imported(path: str) -> object:
    module, _, name = path.strip().rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"{path!r} cannot be imported: {error}") from None


def _accepted(hook: Hook, function: Callable[..., Any]) -> int:
    most = len(hook.parameters)
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # written in C: only calling it would tell
        return most
    for count in range(most, most - hook.optional - 1, -1):
        try:
            signature.bind(*hook.parameters[:count])
        except TypeError:
            continue
        return count
    raise ValueError(f"it takes {signature}, and is called with ({', '.join(hook.parameters)})")
