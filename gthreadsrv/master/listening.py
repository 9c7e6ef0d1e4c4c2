"""The master's listeners over time: opened once, kept across reloads, shut before they close.

Runs in the master. Workers get the listeners of their revision through fork; the master keeps
its own copies so that the kernel's queue outlives any worker. Not here: who serves them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gthreadsrv import log as logs
from gthreadsrv.errors import GthreadsrvError
from gthreadsrv.net.address import Address, parse_bind
from gthreadsrv.net.drain import resume_new_connections, stop_new_connections
from gthreadsrv.net.listeners import (
    BindError,
    Listener,
    SocketFile,
    backlog_cap,
    bind,
    relisten,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

log = logs.get_logger()


class Listening:
    """All open listeners by the address the user wrote."""

    def __init__(self) -> None:
        self._open: dict[Address, Listener] = {}
        self._shut: set[Address] = set()
        self._warned: set[int] = set()

    def open(
        self,
        addresses: Sequence[str],
        backlog: int,
        socket_file: SocketFile,
        *,
        setting: str,
        metrics: bool = False,
    ) -> tuple[Listener, ...]:
        """Listeners for these addresses, the open ones kept; all of them, or GthreadsrvError."""
        wanted = list(dict.fromkeys(parse_bind(text) for text in addresses))
        missing = [address for address in wanted if not self._take_up(address)]
        try:
            opened = bind(missing, backlog, socket_file)
        except BindError as error:
            raise GthreadsrvError(
                f"{error} (set by --{setting}); choose another address or free this one"
            ) from None
        for listener in opened:
            self._open[listener.configured] = listener
            log.info("listening", listener=str(listener.address), metrics=metrics)
        self._warn_if_capped(backlog)
        return tuple(
            self._open[address]
            if address in missing
            else relisten(self._open[address], backlog, address)
            for address in wanted
        )

    def shut_all_but(self, needed: Collection[Listener]) -> None:
        """Turn new clients away from listeners that nobody will serve any more."""
        keep = {listener.configured for listener in needed}
        for address, listener in self._open.items():
            if address not in keep and address not in self._shut:
                self._shut.add(address)
                stop_new_connections(listener)

    def close_all_but(self, held: Collection[Listener]) -> None:
        """Close the master's copy of listeners that no process of ours holds."""
        keep = {listener.configured for listener in held}
        for address in [address for address in self._open if address not in keep]:
            listener = self._open.pop(address)
            if address not in self._shut:  # else the file, if there is one, is another's by now
                listener.unlink()
            listener.close()
            self._shut.discard(address)
            log.info("listener closed", listener=str(listener.address))

    def close_in_child(self, needed: Collection[Listener]) -> None:
        """Let go of what this child does not serve."""
        keep = {listener.fileno() for listener in needed}
        for listener in self._open.values():
            if listener.fileno() not in keep:
                listener.close()

    def _take_up(self, address: Address) -> bool:
        """Whether the address is open, also again; what cannot be reopened is let go."""
        listener = self._open.get(address)
        if listener is None:
            return False
        if address not in self._shut:
            return True
        self._shut.discard(address)
        if resume_new_connections(listener):
            return True
        del self._open[address]
        listener.close()
        return False

    def _warn_if_capped(self, backlog: int) -> None:
        cap = backlog_cap()
        if cap is not None and cap < backlog and backlog not in self._warned:
            self._warned.add(backlog)
            log.warning("backlog capped by the kernel", backlog=backlog, somaxconn=cap)
