"""Turn new clients away from a listener while those already queued are still served.

Closing a listener resets every connection in its accept queue, and while the queue is being
emptied new ones join it. So the way in is shut first: then the queue only shrinks.

Runs in the master, before it tells workers to leave. Not here: closing, and accepting.
"""

from __future__ import annotations

import errno
import socket
import struct
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from gthreadsrv.net.listeners import Listener

SO_ATTACH_FILTER: Final = 26  # asm-generic/socket.h
SO_DETACH_FILTER: Final = 27

# Classic BPF, struct sock_filter {u16 code; u8 jt; u8 jf; u32 k} (linux/filter.h). The kernel runs
# a TCP listener's filter on segments from the TCP header on, so byte 13 is the flags (RFC 9293
# 3.1). A bare SYN opens a connection and is dropped: the client's kernel tries again later and
# finds whoever listens then. All other segments pass, among them the ACK that completes a
# handshake: whoever has its SYN-ACK is in. Accepted sockets inherit the filter, harmlessly.
_BARE_SYN_FILTER: Final = (
    (0x30, 0, 0, 13),  # ldb [13]
    (0x54, 0, 0, 0x12),  # and SYN|ACK
    (0x15, 0, 1, 0x02),  # jeq SYN, else skip one
    (0x06, 0, 0, 0),  # ret 0: drop
    (0x06, 0, 0, 0xFFFFFFFF),  # ret all: pass
)


def stop_new_connections(listener: Listener) -> bool:
    """Shut the way in; False where that cannot be done without harm, or at all.

    A socket that somebody else opened and keeps (socket activation) is left alone: its queue
    waits for the next server and is not ours to close.
    """
    if not listener.owned:
        return False
    if listener.kind == "unix":
        listener.unlink()
        return True
    return _drop_syns(listener.sock)


def _drop_syns(sock: socket.socket) -> bool:
    if sys.platform != "linux":
        return False
    import ctypes  # costs every start 4 ms, and is needed at the end only

    program = ctypes.create_string_buffer(
        b"".join(struct.pack("=HBBI", *instruction) for instruction in _BARE_SYN_FILTER)
    )
    # struct sock_fprog {u16 len; struct sock_filter *filter;} in native layout.
    header = struct.pack("@HP", len(_BARE_SYN_FILTER), ctypes.addressof(program))
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, header)
    except OSError:
        return False
    return True


def resume_new_connections(listener: Listener) -> bool:
    """Open the way in again; False where it was not only shut but taken away (an unlinked file)."""
    if not listener.owned:
        return True
    if listener.kind == "unix" or sys.platform != "linux":
        return False
    try:
        listener.sock.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)
    except OSError as error:
        return error.errno == errno.ENOENT  # there was no filter
    return True
