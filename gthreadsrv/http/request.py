"""The head of one request, parsed and screened: what a parser hands to the worker.

A plain record without behaviour. Its strings are ISO 8859-1 text of the bytes on the wire,
as PEP 3333 wants them; nothing is percent-decoded here. One is made per request, on the
thread that parses it, so it is kept small and is built by position.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gthreadsrv.http.recall import FieldSection


@dataclass(slots=True)
class RequestHead:
    """A request head that passed every check; its framing can be trusted."""

    method: str
    target: str  # as sent
    minor: int  # 0 or 1: HTTP/1.0 or HTTP/1.1
    # Names as sent, values without surrounding blanks, in order. Two values are put right:
    # Host after an absolute-form target (RFC 9112 3.2.2), the case of `chunked`.
    headers: list[tuple[bytes, bytes]]
    content_length: int  # -1: none was sent
    chunked: bool
    keep_alive: bool  # what the client's version and Connection field ask for
    expect_continue: bool  # the client waits for 100 (Continue) before it sends its body
    path: str  # of the target, still percent-encoded; "*" for OPTIONS *
    query: str  # of the target, without the "?"
    host: bytes  # the authority: from the target when it has one, else the Host field, else b""
    # Where the headers are kept for the next request with the same.
    section: FieldSection | None = field(default=None, compare=False, repr=False)
