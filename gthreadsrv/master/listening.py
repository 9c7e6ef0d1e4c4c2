"""The master's listeners over time: opened once, kept across reloads, shut before they close.

Runs in the master. Workers get the listeners of their revision through fork; the master keeps
its own copies so that the kernel's queue outlives any worker. Not here: who serves them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

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
)

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

log = logs.get_logger()


# The setting beside the address: 127.0.0.1:0 asked for twice is two listeners.
Key: TypeAlias = tuple[str, Address]


class Listening:
    """All open listeners by who asked for them and what was asked for."""

    def __init__(self, inherited: Mapping[Key, Listener] | None = None) -> None:
        """`inherited` are open already; those nobody asks for are closed like any other."""
        self._open: dict[Key, Listener] = dict(inherited or {})
        self._inherited = set(self._open)
        self.shared = False
        """Whether another master serves them too: then no way in is shut and no file removed."""
        self._shut: set[Key] = set()
        self._warned: set[int] = set()

    def open(
        self,
        addresses: Sequence[str],
        backlog: int,
        socket_file: SocketFile,
        *,
        setting: Literal["bind", "metrics-bind"],
    ) -> tuple[Listener, ...]:
        """Listeners for these addresses, the open ones kept; all of them, or GthreadsrvError."""
        wanted = list(dict.fromkeys(parse_bind(text) for text in addresses))
        missing = [address for address in wanted if not self._take_up((setting, address))]
        about = {"metrics": True} if setting == "metrics-bind" else {}
        try:
            opened = bind(missing, backlog, socket_file)
        except BindError as error:
            raise GthreadsrvError(
                f"{error} (set by --{setting}); choose another address or free this one"
            ) from None
        for listener in opened:
            self._open[setting, listener.configured] = listener
            log.info("listening", listener=str(listener.address), **about)
        self._warn_if_capped(backlog)
        found = [self._open[setting, address] for address in wanted]
        for listener in found:
            if listener not in opened:
                listener.set_backlog(backlog)
            if (setting, listener.configured) in self._inherited:
                self._inherited.discard((setting, listener.configured))
                log.info("listening", listener=str(listener.address), inherited=True, **about)
        return tuple(found)

    def shut_all_but(self, needed: Collection[Listener]) -> None:
        """Turn new clients away from listeners that nobody will serve any more."""
        if self.shared:
            return
        keep = {listener.fileno() for listener in needed}
        for key, listener in self._open.items():
            if listener.fileno() not in keep and key not in self._shut:
                self._shut.add(key)
                stop_new_connections(listener)

    def close_all_but(self, held: Collection[Listener]) -> None:
        """Close the master's copy of listeners that no process of ours holds."""
        keep = {listener.fileno() for listener in held}
        for key, listener in list(self._open.items()):
            if listener.fileno() in keep:
                continue
            # Shut before, the file, if there is one, is another's by now.
            if key not in self._shut and not self.shared:
                listener.unlink()
            del self._open[key]
            self._shut.discard(key)
            listener.close()
            log.info("listener closed", listener=str(listener.address))

    def all_open(self) -> Mapping[Key, Listener]:
        """All of them, for a successor."""
        return self._open

    def close_in_child(self, needed: Collection[Listener]) -> None:
        """Let go of what this child does not serve."""
        keep = {listener.fileno() for listener in needed}
        for listener in self._open.values():
            if listener.fileno() not in keep:
                listener.close()

    def _take_up(self, key: Key) -> bool:
        """Whether the address is open, also again; what cannot be reopened is let go."""
        listener = self._open.get(key)
        if listener is None:
            return False
        if key not in self._shut:
            return True
        self._shut.discard(key)
        if resume_new_connections(listener):
            return True
        del self._open[key]
        listener.close()
        return False

    def _warn_if_capped(self, backlog: int) -> None:
        cap = backlog_cap()
        if cap is not None and cap < backlog and backlog not in self._warned:
            self._warned.add(backlog)
            log.warning("backlog capped by the kernel", backlog=backlog, somaxconn=cap)
