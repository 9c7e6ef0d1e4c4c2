"""The whole grammar of a head, step by step: the last word on every refusal.

Parsers stop at different faults of a head that has several, and name them differently. This
reading goes through a head in the order of its bytes, as `HeadBuffer` does with one that
comes in pieces; so the answer to a bad head depends on its bytes alone, not on the parser or
on how the network cut it. h11 gets only what passes here; the fast parser comes here only
with what it refused. On the thread that parses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gthreadsrv.http.errors import BadRequestError
from gthreadsrv.http.grammar import BLANKS
from gthreadsrv.http.head import HeadBuffer
from gthreadsrv.http.lines import read_field, read_request_line
from gthreadsrv.http.screen import screen

if TYPE_CHECKING:
    from gthreadsrv.http.limits import Limits
    from gthreadsrv.http.request import RequestHead


def read_head(head: bytes, limits: Limits) -> RequestHead:
    """The request, or the refusal that every parser must give for these bytes."""
    if HeadBuffer(limits).feed(head) != head:
        raise BadRequestError("not one complete request head")
    request_line, *field_lines = head[:-4].split(b"\r\n")
    method, target, minor = read_request_line(request_line)
    headers = []
    for line in field_lines:
        name, value = read_field(line)
        blanks = line[len(line.rstrip(BLANKS)) :]
        if b"\t" in blanks and name.lower() == b"transfer-encoding":
            # llhttp does not see the coding then; nobody sends this but to confuse a reader.
            raise BadRequestError("HTAB after a transfer coding")
        headers.append((name, value))
    return screen(method, target, minor, headers, limits)
