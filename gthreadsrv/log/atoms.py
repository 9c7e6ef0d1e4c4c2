"""gunicorn's access-log atoms: `%(h)s "%(r)s" %({user-agent}i)s` compiled to calls.

A format is read once, when the logs are configured; a line is then one `%` with a tuple.
Every text from a client or the application is escaped as JSON escapes it, so a value
can neither leave its quotes nor its line, also in formats that spell JSON by hand; values
that are credentials by their name are never written. Pure: no I/O.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from json.encoder import encode_basestring_ascii

from gthreadsrv.log.render import SecondCache

COMBINED = '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s"'

Headers = Sequence[tuple[bytes, bytes]]

_NONE = "-"
_HIDDEN = "***"
_SECRET_FIELDS = frozenset({"authorization", "proxy-authorization", "cookie", "set-cookie"})
_SECRET_VARIABLES = frozenset(f"HTTP_{n.upper().replace('-', '_')}" for n in _SECRET_FIELDS)

_ATOM = re.compile(
    r"%(?:(?P<percent>%)"
    r"|\((?P<name>[^(){}]*|\{[^{}()]+\}[ioe])\)(?P<width>[-0]?[0-9]{0,3}(?:\.[0-9]{1,2})?)"
    r"(?P<kind>[sdif])"
    r"|(?P<wrong>))"
)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@dataclass(slots=True)
class Record:
    """One response, as the access log is told about it."""

    remote_addr: str
    method: str
    target: str
    version_minor: int
    status: int
    bytes_sent: int
    duration_s: float
    started_wall: float
    headers: Headers
    request_id: str
    trace_id: str
    response_headers: Sequence[tuple[str, str]]
    environ: Mapping[str, object]


Atom = Callable[[Record], object]


def compile_format(text: str) -> tuple[Callable[[Record], str], tuple[str, ...]]:
    """A function from record to line (without its end), and the atoms nobody knows.

    An unknown atom is a dash in each line, as with gunicorn. ValueError where the text
    is no format at all.
    """
    template: list[str] = []
    atoms: list[Atom] = []
    unknown: list[str] = []
    end = 0
    for match in _ATOM.finditer(text):
        template.append(text[end : match.start()])
        end = match.end()
        if match["percent"]:
            template.append("%%")
            continue
        if match["wrong"] is not None:
            raise ValueError(f"{text[match.start() :][:20]!r} is no atom, write as in %(h)s or %%")
        atom = _find(match["name"])
        if atom is None:
            unknown.append(match["name"])
            template.append(_NONE)
            continue
        if match["kind"] != "s" and match["name"] not in _NUMBERS:
            raise ValueError(f"{match[0]!r} is a text, write %({match['name']})s")
        template.append(f"%{match['width']}{match['kind']}")
        atoms.append(atom)
    template.append(text[end:])
    line, chosen = "".join(template), tuple(atoms)

    def render(record: Record) -> str:
        return line % tuple([atom(record) for atom in chosen])

    return render, tuple(unknown)


class Atoms(Mapping[str, object]):
    """One response's atoms by name, as formatters of Python's logging find them in `record.args`.

    Looked up when asked for; names that are not there are a dash, upper or lower case is one.
    """

    __slots__ = ("_record",)

    def __init__(self, record: Record) -> None:
        self._record = record

    def __getitem__(self, name: str) -> object:
        atom = _find(name) if _ATOM.fullmatch(f"%({name})s") else None
        return _NONE if atom is None else atom(self._record)

    def __iter__(self) -> Iterator[str]:
        return iter((*_TEXTS, *_NUMBERS))

    def __len__(self) -> int:
        return len(_TEXTS) + len(_NUMBERS)


def escaped(text: str) -> str:
    """The text as it may stand between double quotes in any line."""
    return encode_basestring_ascii(text)[1:-1]


def field(headers: Headers, name: bytes) -> str:
    """A request field's value, all its lines joined (RFC 9110 5.3), or a dash."""
    lines = [value for key, value in headers if key.lower() == name]
    return escaped(b", ".join(lines).decode("latin-1")) or _NONE


def _find(name: str) -> Atom | None:
    if not name.startswith("{"):
        return _NUMBERS.get(name) or _TEXTS.get(name)
    inner, kind = name[1:-2], name[-1]
    if kind == "e":
        return _variable(inner)
    if inner.lower() in _SECRET_FIELDS:
        return lambda record: _hidden(record, inner.lower(), kind)
    if kind == "i":
        wanted = inner.lower().encode("latin-1", "replace")
        return lambda record: field(record.headers, wanted)
    return lambda record: _response_field(record, inner.lower())


def _variable(name: str) -> Atom:
    if name in _SECRET_VARIABLES:
        return lambda record: _HIDDEN if name in record.environ else _NONE
    return lambda record: _shown(record.environ[name]) if name in record.environ else _NONE


def _shown(value: object) -> str:
    """What the application has put there; a dash where that cannot be shown."""
    try:
        return escaped(str(value))
    except Exception:  # noqa: BLE001 - it is the application's, and its response has left
        return _NONE


def _hidden(record: Record, name: str, kind: str) -> str:
    """That there was such a field, without its value."""
    if kind == "i":
        there = field(record.headers, name.encode("ascii"))
    else:
        there = _response_field(record, name)
    return there if there == _NONE else _HIDDEN


def _response_field(record: Record, name: str) -> str:
    for key, value in record.response_headers:
        if key.lower() == name:
            return escaped(value) or _NONE
    return _NONE


def _clf_time(second: int) -> str:
    # Not %b: month names follow the locale, and log readers expect English ones.
    now = time.localtime(second)
    month = _MONTHS[now.tm_mon - 1]
    return time.strftime(f"[%d/{month}/%Y:%H:%M:%S %z]", now)


_clf = SecondCache(_clf_time)


def _user(record: Record) -> str:
    """The name in Basic credentials, never the password."""
    for key, value in record.headers:
        if key.lower() != b"authorization":
            continue
        scheme, _, word = value.partition(b" ")
        if scheme.lower() != b"basic":
            continue
        try:
            name, colon, _ = base64.b64decode(word.strip(), validate=True).partition(b":")
        except (binascii.Error, ValueError):
            continue
        # Without a colon the whole might be a token.
        if colon and name:
            return escaped(name.decode("latin-1")).replace(" ", "\\u0020")
    return _NONE


_TEXTS: dict[str, Atom] = {
    "h": lambda r: escaped(r.remote_addr) or _NONE,
    "l": lambda _: _NONE,
    "u": _user,
    "t": lambda r: _clf.text(int(r.started_wall)),
    "r": lambda r: escaped(f"{r.method} {r.target} HTTP/1.{r.version_minor}"),
    "m": lambda r: escaped(r.method),
    "U": lambda r: escaped(r.target.partition("?")[0]),
    "q": lambda r: escaped(r.target.partition("?")[2]),
    "H": lambda r: f"HTTP/1.{r.version_minor}",
    "f": lambda r: field(r.headers, b"referer"),
    "a": lambda r: field(r.headers, b"user-agent"),
    "p": lambda _: f"<{os.getpid()}>",
}
_NUMBERS: dict[str, Atom] = {
    "s": lambda r: r.status,
    "B": lambda r: r.bytes_sent,
    "b": lambda r: r.bytes_sent,
    "T": lambda r: int(r.duration_s),
    "M": lambda r: int(r.duration_s * 1e3),
    "D": lambda r: int(r.duration_s * 1e6),
    "L": lambda r: _Seconds(r.duration_s),
}


class _Seconds(float):
    """A duration that is `1.234567` as a text and a number for those who format it."""

    __slots__ = ()

    def __str__(self) -> str:
        return f"{self:.6f}"
