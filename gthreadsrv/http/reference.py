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
from gthreadsrv.http.grammar import BLANKS, FRAMING_FIELDS
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
        if b"\t" in line[len(line.rstrip(BLANKS)) :] and name.lower() in FRAMING_FIELDS:
            # Versions of llhttp differ in what they make of it; nobody sends this but to have
            # two readers disagree.
            raise BadRequestError("HTAB after a length or transfer coding")
        headers.append((name, value))
    return screen(method, target, minor, headers, limits)
