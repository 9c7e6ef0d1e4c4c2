"""What a master hands to its successor: the listening sockets, and a line between the two.

Descriptors keep their numbers over exec; a variable says which is which. Sockets that a service
manager passed, or that were given as fd://N, are not in it: they go on as they came. Written by
the old master, read by the new one before it opens anything.
"""

from __future__ import annotations

import json
import os
import socket
from typing import TYPE_CHECKING, NamedTuple

from gthreadsrv.errors import ConfigError
from gthreadsrv.net.address import UnixAddress, parse_bind
from gthreadsrv.net.listeners import Listener
from gthreadsrv.started import UPGRADE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gthreadsrv.master.listening import Key


class Inheritance(NamedTuple):
    """What comes from a predecessor."""

    pid: int
    link: socket.socket
    listeners: dict[Key, Listener]
    # Masters take turns with the names of files in a directory that both write to.
    turn: int


def write(
    pid: int, link: socket.socket, listeners: Mapping[Key, Listener], turn: int
) -> tuple[str, list[int]]:
    """The variable's value, and the descriptors that exec must leave open."""
    own = {key: listener for key, listener in listeners.items() if listener.owned}
    told = {
        "pid": pid,
        "link": link.fileno(),
        "turn": turn,
        "listeners": [
            {
                "setting": setting,
                "configured": str(configured),
                "address": str(listener.address),
                "fd": listener.fileno(),
                "file": listener.file,
            }
            for (setting, configured), listener in own.items()
        ],
    }
    fds = [link.fileno(), *(listener.fileno() for listener in own.values())]
    return json.dumps(told), fds


def read(told: str) -> Inheritance:
    """Take up what was handed over; ConfigError when it is not what a master has written."""
    try:
        found = json.loads(told)
        listeners = dict(_listener(entry) for entry in found["listeners"])
        return Inheritance(
            int(found["pid"]), _take(int(found["link"])), listeners, int(found["turn"])
        )
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise ConfigError(
            f"{UPGRADE}: this is no inheritance of a running server ({error}); unset it, "
            "only a server that starts its successor sets it"
        ) from None


def _listener(entry: dict[str, object]) -> tuple[Key, Listener]:
    configured = parse_bind(str(entry["configured"]))
    address = parse_bind(str(entry["address"]))
    file = entry["file"]
    listener = Listener(
        _take(int(str(entry["fd"]))),
        address,
        "unix" if isinstance(address, UnixAddress) else "tcp",
        configured,
        file=(int(file[0]), int(file[1])) if isinstance(file, list) else None,
    )
    return (str(entry["setting"]), configured), listener


def _take(fd: int) -> socket.socket:
    os.set_inheritable(fd, False)
    sock = socket.socket(fileno=fd)
    sock.setblocking(False)
    return sock
