"""One request's exchange with the application: start_response, write(), the iterable.

PEP 3333's side of a response; the bytes leave through a `Sink`, and heads are written by
`http.response`.  Runs in the thread that serves the request, and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from gthreadsrv.http.response import CHUNKED, EMPTY, LENGTH, HeadEncoder, ResponseHead
from gthreadsrv.wsgi.file_wrapper import FileWrapper

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from _typeshed import OptExcInfo

    from gthreadsrv.http.request import RequestHead


__all__ = ["Aside", "ClientGoneError", "Exchange", "Sink"]

# Below this a copy is cheaper than a second buffer for the kernel to gather.
_JOIN_MAX_BYTES = 16 * 1024


class ClientGoneError(ConnectionError):
    """The client does not take the response any more.

    A kind of its own: an application's ConnectionError speaks of its database.
    """


class Sink(Protocol):
    """Where a response's bytes go.  Raises ClientGoneError when nobody takes them."""

    def send(self, data: bytes) -> None:
        """Take ``data``; the part that the kernel does not take now is kept."""

    def send_pair(self, first: bytes, second: bytes) -> None:
        """Take both, in one system call where the kernel has room."""

    def send_file(self, head: bytes, fd: int, offset: int, count: int) -> None:
        """Take ``head`` and ``count`` bytes of a file; the caller may then close the file."""


@dataclass(slots=True)
class Aside:
    """What is seldom to be said of a response beside its bytes."""

    dropped: tuple[str, ...] = ()
    """Names of the application's header fields that were not sent."""
    trace_id: str = ""
    """The trace that the application says the request belongs to."""
    sampled: bool = False
    """Whether that is recorded."""


class Exchange:
    """The state of one response."""

    __slots__ = (
        "_encoder",
        "_framing",
        "_head",
        "_remaining",
        "_second",
        "_sink",
        "aside",
        "code",
        "complaint",
        "cut",
        "headers",
        "keep_alive",
        "sent",
        "started",
        "status",
    )

    @property
    def head(self) -> RequestHead:
        """The request's."""
        return self._head

    # Bound by `_encode`, before `started` is set: a store less for each is worth it here.
    _framing: int
    _remaining: int
    code: int
    headers: list[tuple[str, str]]

    def __init__(
        self, head: RequestHead, sink: Sink, encoder: HeadEncoder, second: int, keep_alive: bool
    ) -> None:
        """Begin a response; ``second`` is the wall clock's, for its Date."""
        self._head = head
        self._sink = sink
        self._encoder = encoder
        self._second = second
        self.status = ""
        self.keep_alive = keep_alive
        """Whether the connection may carry another request after this response."""
        self.started = False
        """Whether the head has left: from then on the status is what the client saw."""
        self.sent = 0
        """Body bytes handed on, chunk framing not counted."""
        self.complaint = ""
        """What the application did wrong without the response failing, for the log."""
        self.cut = False
        """Whether the response ends, by the application's doing, before it is whole."""
        self.aside: Aside | None = None

    def make_aside(self) -> Aside:
        """Return where to say it."""
        if self.aside is None:
            self.aside = Aside()
        return self.aside

    def start_response(
        self,
        status: str,
        headers: list[tuple[str, str]],
        exc_info: OptExcInfo | None = None,
    ) -> Callable[[bytes], None]:
        """Take the application's status and headers (PEP 3333)."""
        if exc_info is not None:
            try:
                if self.started and exc_info[1] is not None:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # break the cycle through this frame
        elif self.status:
            raise AssertionError("start_response() was called twice without exc_info")
        self.status = status
        self.headers = list(headers)
        return self.write

    def write(self, data: bytes) -> None:
        """Send ``data`` now: the imperative API that PEP 3333 keeps for old applications."""
        if not isinstance(data, bytes):
            raise TypeError(f"write() takes bytes, not {type(data).__name__}")
        try:
            if self.started:
                self._send(data)
            else:
                self._start(-1, data)
        except ClientGoneError:
            raise
        except BaseException:
            if self.started:
                # The application may catch this and go on: the client must not take what
                # comes out of that, with a piece missing, for a whole body.
                self.complaint = "a piece of the body was lost; connection closed"
                self.cut = True
                self.keep_alive = False
                self._framing = EMPTY
            raise

    def send_result(self, result: Iterable[bytes]) -> None:
        """Send what the application returned."""
        if type(result) is list or type(result) is tuple:
            if len(result) == 1 and type(result[0]) is bytes and not self.started:
                self._send_whole(result[0])
                return
            self._send_sequence(result)
        elif isinstance(result, FileWrapper) and not self.started and self._send_file(result):
            return
        else:
            for data in result:
                if not isinstance(data, bytes):
                    raise TypeError(
                        f"the application's iterable gave {type(data).__name__}, not bytes"
                    )
                if not data:
                    continue
                if self.started:
                    self._send(data)
                else:
                    self._start(-1, data)
                if self._framing == EMPTY or self.complaint:
                    # HEAD of an endless stream must not run the stream, nor must a
                    # Content-Length that it has outgrown.
                    break
            if not self.started:
                self._start(0, b"")
        self._finish()

    def _send_whole(self, body: bytes) -> None:
        """Send head and body in one piece: what most responses are."""
        framed = self._encode(len(body))
        if framed.length == len(body) <= _JOIN_MAX_BYTES and framed.framing == LENGTH:
            self.started = True
            self.sent = framed.length
            # As `_finish` does.
            self._framing = EMPTY
            self._sink.send(framed.data + body)
        else:
            self._begin(framed, body)
            self._finish()

    def _send_sequence(self, result: list[bytes] | tuple[bytes, ...]) -> None:
        """Send a body that is all there: its length is known, so nothing need be chunked."""
        for data in result:
            if not isinstance(data, bytes):
                raise TypeError(f"the application gave {type(data).__name__}, not bytes")
        if len(result) == 1:
            body = result[0]
            if self.started:
                self._send(body)
            else:
                self._start(len(body), body)
            return
        total = sum(map(len, result))
        if total <= _JOIN_MAX_BYTES:
            body = b"".join(result)
            if self.started:
                self._send(body)
            else:
                self._start(total, body)
            return
        for data in result:
            if self.started:
                self._send(data)
            else:
                self._start(total, data)

    def _start(self, length: int, data: bytes) -> None:
        """Send the head, and the first bytes of the body with it."""
        self._begin(self._encode(length), data)

    def _begin(self, framed: ResponseHead, data: bytes) -> None:
        self.started = True
        if framed.framing == EMPTY:
            self._sink.send(framed.data)
            return
        if framed.framing == CHUNKED:
            if data:
                self.sent = len(data)
                data = b"%x\r\n%b\r\n" % (len(data), data)
        elif framed.framing == LENGTH:
            data = self._cut(data)
        else:
            self.sent = len(data)
        if len(data) <= _JOIN_MAX_BYTES:
            self._sink.send(framed.data + data)
        else:
            self._sink.send_pair(framed.data, data)

    def _encode(self, length: int) -> ResponseHead:
        if not self.status:
            raise AssertionError("the application sent a body before start_response()")
        head = self._head
        framed = self._encoder.encode(
            self.status,
            self.headers,
            self._second,
            head.method,
            head.minor,
            self.keep_alive,
            length,
        )
        self.keep_alive = framed.keep_alive
        self.code = framed.code
        if framed.dropped:
            self.make_aside().dropped = framed.dropped
        self._framing = framed.framing
        self._remaining = framed.length
        return framed

    def _send(self, data: bytes) -> None:
        """Send a further piece of the body."""
        framing = self._framing
        if framing == EMPTY or not data:
            return
        if framing == CHUNKED:
            self.sent += len(data)
            self._sink.send(b"%x\r\n%b\r\n" % (len(data), data))
            return
        if framing == LENGTH:
            data = self._cut(data)
            if not data:
                return
        else:
            self.sent += len(data)
        self._sink.send(data)

    def _cut(self, data: bytes) -> bytes:
        """Hold the body to its Content-Length: a byte more would start the next response."""
        if len(data) > self._remaining:
            self.complaint = "the body is longer than its Content-Length; cut"
            data = data[: self._remaining]
        self._remaining -= len(data)
        self.sent += len(data)
        return data

    def _send_file(self, wrapper: FileWrapper) -> bool:
        """Send a real file by sendfile; False leaves it to iteration."""
        span = wrapper.span()
        if span is None:
            return False
        fd, offset, count = span
        framed = self._encode(count)
        self.started = True
        if framed.framing == LENGTH:
            count = min(count, framed.length)
            self._sink.send_file(framed.data, fd, offset, count)
            self._remaining -= count
            self.sent = count
        else:
            # EMPTY: HEAD, 204, 304.  A known length is never chunked.
            self._sink.send(framed.data)
        self._finish()
        return True

    def _finish(self) -> None:
        """End the body; a promise the application did not keep costs the connection."""
        if self._framing == CHUNKED:
            self._sink.send(b"0\r\n\r\n")
        elif self._framing == LENGTH and self._remaining:
            self.complaint = (
                f"the body is {self._remaining} bytes shorter than its Content-Length; "
                "connection closed"
            )
            self.cut = True
            self.keep_alive = False
        self._framing = EMPTY

    def end(self) -> None:
        """Take nothing more, whatever has been sent.

        An application may keep write() and call it later: the connection is another's then.
        """
        self.started = True
        self._framing = EMPTY


def close_result(result: object, failure: BaseException | None) -> BaseException | None:
    """Call the iterable's close() (PEP 3333); return what has failed of both, the later one."""
    try:
        # The look for it may fail as well: an object that stands in for another asks that one.
        close = getattr(result, "close", None)
        if close is not None:
            close()
    except BaseException as error:  # noqa: BLE001 - it is the application's
        if failure is not None and error is not failure:
            error.__context__ = failure
        return error
    return failure
