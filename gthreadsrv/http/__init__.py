"""HTTP/1.1 as bytes in, messages out: no socket, thread, clock or log is touched here."""

from gthreadsrv.http.body import BodyDecoder, ChunkedBody, LengthBody, make_body
from gthreadsrv.http.errors import (
    BadRequestError,
    BodyTooLargeError,
    HeadTooLargeError,
    ProtocolError,
    ReadTimeoutError,
)
from gthreadsrv.http.head import HeadBuffer, split_head
from gthreadsrv.http.limits import Limits
from gthreadsrv.http.parser import HeadParser, make_parser, resolve_parser
from gthreadsrv.http.request import RequestHead

__all__ = [
    "BadRequestError",
    "BodyDecoder",
    "BodyTooLargeError",
    "ChunkedBody",
    "HeadBuffer",
    "HeadParser",
    "HeadTooLargeError",
    "LengthBody",
    "Limits",
    "ProtocolError",
    "ReadTimeoutError",
    "RequestHead",
    "make_body",
    "make_parser",
    "resolve_parser",
    "split_head",
]
