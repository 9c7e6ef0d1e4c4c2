"""Heads whose fields have been seen before: only the request line is read again.

Clients repeat themselves: most requests on a connection differ from the one before in their
request line alone. What a parser and `screen` have made of a section of fields once, they
would make of the same bytes again, so it is kept; the line is read by one expression that takes
nothing the parsers would not take. Everything else goes to the parser.

The table belongs to a worker and is shared by its threads: a lookup, an insertion and `clear`
are one step each for the interpreter.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from gthreadsrv.http.errors import BadRequestError
from gthreadsrv.http.grammar import METHODS
from gthreadsrv.http.request import RequestHead

if TYPE_CHECKING:
    from collections.abc import Collection

    from gthreadsrv.http.parser import HeadParser

__all__ = ["KNOWN_MAX", "FieldSection", "Recall", "RecallingParser"]

KNOWN_MAX: Final = 128
"""Sections kept; a worker's clients are more, but those that just asked ask again."""

_SECTION_MAX_BYTES: Final = 2048

# origin-form in HTTP/1.1: `grammar.TARGET`, a path first. Any other line is the parser's.
_LINE: Final = re.compile(
    rb"(" + b"|".join(name.encode("ascii") for name in sorted(METHODS)) + rb") "
    rb"(/[!-\"$-~]*) HTTP/1\.1\r\n"
).match
_TRACES: Final = frozenset(
    {b"x-request-id", b"traceparent", b"x-request-start", b"x-amzn-trace-id"}
)
_NAMES: Final = {name.encode("ascii"): name for name in METHODS}


class FieldSection:
    """The fields of a request without a body, screened; shared by all requests that send them."""

    __slots__ = ("environ", "headers", "host", "keep_alive", "logged", "traced")

    def __init__(self, request: RequestHead) -> None:
        self.headers = request.headers
        self.keep_alive = request.keep_alive
        self.host = request.host
        # Names with "_" may become the same variables.
        names = (name.lower().replace(b"_", b"-") for name, _ in request.headers)
        self.traced = not _TRACES.isdisjoint(names)
        """Whether one of the fields is about the request's way here."""
        self.environ: tuple[object, dict[str, Any]] | None = None
        """What `wsgi.environ` has made of them, and for whom; replaced as one."""
        self.logged = ""
        """What the access log has made of them."""


class Recall:
    """The sections that a worker's clients have sent of late."""

    __slots__ = ("_known", "find")

    def __init__(self) -> None:
        self._known: dict[bytes, FieldSection] = {}
        self.find = self._known.get

    def keep(self, section: bytes, request: RequestHead) -> None:
        """Remember what ``section`` means, if that is worth it."""
        # A body's framing is decided anew each time.
        if request.content_length >= 0 or request.chunked or len(section) > _SECTION_MAX_BYTES:
            return
        if len(self._known) >= KNOWN_MAX:
            self._known.clear()
        self._known[section] = FieldSection(request)


class RecallingParser:
    """A `HeadParser` that asks another one only for what is new."""

    __slots__ = ("_find", "_parser", "_recall", "_underscored")

    def __init__(
        self, parser: HeadParser, recall: Recall, *, underscored: Collection[str] | None = None
    ) -> None:
        """``underscored``: the only names with ``_`` that are no bad request; None: all."""
        self._parser = parser
        self._underscored = underscored
        self._recall = recall
        self._find = recall.find

    @property
    def name(self) -> str:
        """The other one's: it decides."""
        return self._parser.name

    def parse(self, head: bytes) -> RequestHead:
        """See `HeadParser.parse`."""
        recalled = self.recall(head)
        if recalled is not None:
            return recalled
        request = self._parser.parse(head)
        underscored = self._underscored
        if underscored is not None:
            for name, _ in request.headers:
                if b"_" in name and name.decode("latin-1").upper() not in underscored:
                    raise BadRequestError(f"field name {name.decode('latin-1')!r} holds _")
        match = _LINE(head)
        if match is not None:
            self._recall.keep(head[match.end() :], request)
        return request

    def recall(self, data: bytes) -> RequestHead | None:
        """Return the request of ``data``, if that is one whole head with known fields."""
        match = _LINE(data)
        if match is None:
            return None
        # What is kept ends as a head does and has no body: a hit is all of the data.
        known = self._find(data[match.end() :])
        if known is None:
            return None
        method, line_target = match.groups()
        target = line_target.decode("ascii")
        path, _, query = target.partition("?")
        return RequestHead(
            _NAMES[method], target, 1, known.headers, -1, False, known.keep_alive, False,
            path, query, known.host, known,
        )  # fmt: skip
