"""The line from a worker to its master: a socket pair and a closed set of messages.

A worker reports, the master never asks: health is a time in shared memory, orders are
signals. The worker's end also tells it that the master died, since the kernel then reports
the end of the stream; nobody has to poll getppid().

Runs in both processes; neither end ever blocks. Messages travel as JSON lines on a stream
socket, which macOS has as well as Linux (it lacks SEQPACKET pairs). A frame is far smaller
than the socket's buffer, so the kernel queues each one whole and threads may send side by side.

Not here: orders from the master, and request data of any kind.
"""

from __future__ import annotations

import json
import socket
from typing import Final, Literal, NamedTuple, TypeAlias, get_args

from gthreadsrv.system import POLLIN, system_poll

RetireReason: TypeAlias = Literal["max_requests", "max_lifetime", "max_rss", "request_timeout"]

# One text field; two of them, escaped at worst sixfold, still fit the default buffer of 208 KiB.
_TEXT_LIMIT: Final = 8_000
_RECEIVE_SIZE: Final = 65_536
_RECEIVES_MAX: Final = 16
"""At a time: one worker that writes without end must not hold up the others' master."""
_FRAME_MAX: Final = 256 * 1024


class WorkerReady(NamedTuple):
    """The application is loaded and the worker accepts connections."""


class BootFailed(NamedTuple):
    """The application could not be loaded; the worker exits with status 3 next.

    The master logs it, so the worker need not: `detail` is one line, `traceback` what the
    application's own import raised.
    """

    detail: str
    traceback: str = ""


class RetireRequested(NamedTuple):
    """The worker goes on serving, and asks to be replaced and then told to leave."""

    reason: RetireReason


class CodeChanged(NamedTuple):
    """A file of the application's code is not what it was when this worker imported it."""

    path: str


class Garbled(NamedTuple):
    """What came was no message: code of the application's has written to our descriptor.

    Never sent; the master's end says it, once in a line's life.
    """


Message: TypeAlias = WorkerReady | BootFailed | RetireRequested | CodeChanged | Garbled

_REASONS: Final = frozenset(get_args(RetireReason))
_KINDS: Final[dict[str, type[WorkerReady | BootFailed | RetireRequested | CodeChanged]]] = {
    kind.__name__: kind for kind in (WorkerReady, BootFailed, RetireRequested, CodeChanged)
}


class WorkerChannel:
    """The worker's end. `send` may be called by any thread."""

    __slots__ = ("_sock",)

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock

    def fileno(self) -> int:
        """For a poller: readable means that the master is gone."""
        return self._sock.fileno()

    def send(self, message: Message) -> bool:
        """Report to the master; False when it is gone or has stopped reading."""
        try:
            self._sock.sendall(_encode(message))
        except OSError:
            return False
        return True

    def master_gone(self) -> bool:
        """Whether the other end was closed, which only the master's death does."""
        poll = system_poll()
        poll.register(self._sock, POLLIN)
        if not poll.poll(0):
            return False
        try:
            return self._sock.recv(1) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True

    def close(self) -> None:
        """Close this end; the master takes no notice, it waits for the process to exit."""
        self._sock.close()


class MasterChannel:
    """The master's end, read from its loop."""

    __slots__ = ("_buffer", "_sock", "_told", "ended")

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._buffer = b""
        self._told = False
        self.ended = False

    def fileno(self) -> int:
        """For the master's poll."""
        return self._sock.fileno()

    def receive(self) -> list[Message]:
        """The messages that have arrived, in order; sets `ended` once nothing more can come."""
        for _ in range(_RECEIVES_MAX):
            if self.ended:
                break
            try:
                data = self._sock.recv(_RECEIVE_SIZE)
            except BlockingIOError:
                break
            except ConnectionError:
                data = b""
            self.ended = not data
            self._buffer += data
        *frames, self._buffer = self._buffer.split(b"\n")
        messages = [_decode(frame) for frame in frames if frame]
        garbled = None in messages
        if len(self._buffer) > _FRAME_MAX:
            self._buffer = b""
            garbled = True
        understood: list[Message] = [message for message in messages if message is not None]
        if garbled and not self._told:
            self._told = True
            understood.append(Garbled())
        return understood

    def close(self) -> None:
        """Close this end: a worker still running reads it as the master's death."""
        self._sock.close()


def open_channel() -> tuple[MasterChannel, WorkerChannel]:
    """Both ends of a new line; each process closes the end that is not its own."""
    master, worker = socket.socketpair()
    return MasterChannel(master), WorkerChannel(worker)


def _encode(message: Message) -> bytes:
    fields = {name: str(text)[-_TEXT_LIMIT:] for name, text in message._asdict().items()}
    # On a line of its own, also behind what somebody has written there by mistake.
    return b"\n" + json.dumps([type(message).__name__, fields]).encode() + b"\n"


def _decode(frame: bytes) -> Message | None:
    """The message of a frame; None when it is none."""
    try:
        name, fields = json.loads(frame)
        if not all(type(text) is str for text in fields.values()):
            return None
        message = _KINDS[name](**fields)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    if isinstance(message, RetireRequested) and message.reason not in _REASONS:
        return None
    return message
