"""What can be wrong with the bytes of a request, and how each fault is answered.

Every error knows the status of its answer, the label it is counted under
(`gthreadsrv_request_errors_total{reason}`) and a sentence for the log, so nobody further up
has to translate. All of them are the peer's fault; none of them leaves the connection
usable, because after one it is unknown where the next request would start: the answer to
each is followed by a close.

Raised on the thread that parses, in a worker. Nothing about sockets or applications here.
"""

from __future__ import annotations


class ProtocolError(Exception):
    """A request that is refused; use one of the subclasses, which fix `reason`."""

    reason = "bad_request"
    advice = ""
    """A line more for the client, who may be a person."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


class BadRequestError(ProtocolError):
    """Broken grammar or framing, or something this server does not speak (501, 505, 417)."""

    def __init__(self, detail: str, status: int = 400) -> None:
        super().__init__(status, detail)


class HeadTooLargeError(ProtocolError):
    """A request line (414), a field, the number of fields or the whole head (431)."""

    reason = "headers_too_large"

    def __init__(self, detail: str, status: int = 431) -> None:
        super().__init__(status, detail)


class BodyTooLargeError(ProtocolError):
    """A body over the limit: announced so, or grown so chunk by chunk."""

    reason = "body_too_large"

    def __init__(self, detail: str) -> None:
        super().__init__(413, detail)


class ReadTimeoutError(ProtocolError):
    """A head or body that did not come in time; raised by whoever holds the clock."""

    reason = "read_timeout"

    def __init__(self, detail: str) -> None:
        super().__init__(408, detail)


class ProxyHeaderError(ProtocolError):
    """A connection without the PROXY header it must begin with, or one nobody may send (403)."""

    reason = "proxy_protocol"

    def __init__(self, detail: str, status: int = 400) -> None:
        super().__init__(status, detail)


class PlainHttpError(ProtocolError):
    """Plain HTTP where TLS is spoken."""

    reason = "tls"
    advice = "This port speaks HTTPS.\n"

    def __init__(self) -> None:
        super().__init__(400, "plain HTTP on a port that speaks TLS")
