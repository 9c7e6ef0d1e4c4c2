"""One call of a hook: what it raises is logged here, and becomes one kind of error.

Runs in whichever process and thread the hook belongs to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gthreadsrv import log as logs
from gthreadsrv.errors import GthreadsrvError, StopRequestedError
from gthreadsrv.log.trace import trace_of, words_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

log = logs.get_logger()


class HookError(GthreadsrvError):
    """A hook of the configuration file has raised; `traceback` is Python's text of it."""

    def __init__(self, name: str, error: BaseException) -> None:
        words = words_of(error)
        what = f"{type(error).__name__}: {words}" if words else type(error).__name__
        super().__init__(f"hook {name} failed: {what}; correct the configuration file")
        # From the hook's own first line on: the frames above are ours.
        own = error.__traceback__.tb_next if error.__traceback__ is not None else None
        self.traceback = trace_of(error, own)


def call(hooks: Mapping[str, Callable[..., Any]], name: str, *arguments: object) -> None:
    """Call a hook that something depends on, if there is one; HookError when it raises."""
    hook = hooks.get(name)
    if hook is None:
        return
    try:
        hook(*arguments)
    except StopRequestedError:
        raise
    # A hook may leave as well, or end as a task that was cancelled; whatever it raises means that
    # it did not do what it was to do. Signals become no exceptions here.
    except BaseException as error:  # noqa: BLE001  its traceback is kept
        raise HookError(name, error) from None


def tell(hooks: Mapping[str, Callable[..., Any]], name: str, *arguments: object) -> None:
    """Call a hook that nothing depends on; what it raises is logged."""
    try:
        call(hooks, name, *arguments)
    except HookError as error:
        report(name, error)


def report(name: str, error: HookError) -> None:
    """Log what a hook has raised."""
    log.error("hook failed", hook=name, detail=str(error), exception=error.traceback.rstrip("\n"))
