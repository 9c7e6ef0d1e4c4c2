"""What a head parser is, and which ones there are.

The rest of the server knows this interface only. h11 is the reference and always there;
httptools is the fast one, an optional dependency.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from gthreadsrv.http.h11_parser import H11Parser
    from gthreadsrv.http.httptools_parser import HttptoolsParser
    from gthreadsrv.http.limits import Limits
    from gthreadsrv.http.request import RequestHead

ParserName = Literal["h11", "httptools"]


class HeadParser(Protocol):
    """Parses heads, one after the other; one object per thread, without state between heads."""

    @property
    def name(self) -> str:
        """Which one it is, as metrics show it."""

    def parse(self, head: bytes) -> RequestHead:
        """The request of one exactly delimited head; raises ProtocolError and nothing else."""


def resolve_parser(name: str) -> ParserName:
    """The parser that a setting of `auto`, `h11` or `httptools` stands for on this system."""
    installed = find_spec("httptools") is not None
    if name == "h11" or (name == "auto" and not installed):
        return "h11"
    if name not in ("auto", "httptools"):
        raise ValueError(f"no HTTP parser is called {name!r}: use auto, h11 or httptools")
    if not installed:
        raise ValueError(
            "the httptools parser is not installed: pip install 'gthreadsrv[fast]', or use h11"
        )
    return "httptools"


def load_parser(name: str) -> type[H11Parser | HttptoolsParser]:
    """The parser's class, imported now: before workers are forked, so that they share it.

    The other one stays out of memory: h11 is 15 ms of a start and 400 kB.
    """
    if resolve_parser(name) == "h11":
        from gthreadsrv.http.h11_parser import H11Parser

        return H11Parser
    from gthreadsrv.http.httptools_parser import HttptoolsParser

    return HttptoolsParser


def make_parser(name: str, limits: Limits) -> HeadParser:
    """A parser for the calling thread."""
    return load_parser(name)(limits)
