"""What a connection makes of a byte stream, written down so that two readings can be compared.

The loop of a worker without its sockets: heads, bodies, what is left over, the next head. It
goes on after requests that end a connection, which asks more of a parser than a worker does.
"""

from __future__ import annotations

from dataclasses import astuple, replace
from typing import TYPE_CHECKING, Any

from gthreadsrv.http import HeadBuffer, ProtocolError, make_body, split_head

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gthreadsrv.http import BodyDecoder, HeadParser, Limits

# ("request", every field of the head) when a head ends, ("body", bytes, offset of the next
# request) when a message does, and last ("refused", status, reason) or ("open", offset of the
# unfinished message).
Event = tuple[Any, ...]


def converse(parser: HeadParser, limits: Limits, pieces: Iterable[bytes]) -> list[Event]:
    """Every request of the stream, and how it ended."""
    events: list[Event] = []
    taken = 0
    try:
        taken = _run(parser, limits, pieces, events)
    except ProtocolError as error:
        assert error.detail
        events.append(("refused", error.status, error.reason))
    else:
        events.append(("open", taken))
    return events


def _run(parser: HeadParser, limits: Limits, pieces: Iterable[bytes], events: list[Event]) -> int:
    buffer: HeadBuffer | None = None
    body: BodyDecoder | None = None
    content: list[bytes] = []
    fed = 0
    message_end = 0
    for piece in pieces:
        fed += len(piece)
        data = piece
        while data:
            if body is None:
                raw = None
                if buffer is None:
                    end = split_head(data, limits)
                    if end > 0:
                        raw, data = data[:end], data[end:]
                    else:
                        buffer = HeadBuffer(limits)
                if buffer is not None:
                    raw = buffer.feed(data)
                    if raw is None:
                        break
                    data = buffer.rest
                    buffer = None
                assert raw is not None
                head = parser.parse(raw)
                events.append(("request", *astuple(replace(head, section=None))))
                body = make_body(head, limits)
            else:
                content += body.feed(data)
                data = body.rest
            if body is None or body.done:
                message_end = fed - len(data)
                joined = b"".join(content)
                assert body is None or body.received == len(joined)
                events.append(("body", joined, message_end))
                content.clear()
                body = None
    return message_end
