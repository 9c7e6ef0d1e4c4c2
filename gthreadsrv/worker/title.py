"""What `ps` and `top` show: role, slot, application and state of each process.

Called by the master for itself and by each child for itself; a title never holds anything
about a request.
"""

from __future__ import annotations

from setproctitle import setproctitle


def set_title(role: str, app: str, state: str, slot: int | None = None) -> None:
    """Name this process, as in "gthreadsrv: worker 2 [shop.wsgi:application] ready"."""
    setproctitle(title(role, app, state, slot))


def title(role: str, app: str, state: str, slot: int | None = None) -> str:
    """The text alone."""
    who = role if slot is None else f"{role} {slot}"
    return f"gthreadsrv: {who} [{app}] {state}"
