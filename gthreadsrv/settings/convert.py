"""From what a person wrote to a typed value, or a reason why not.

Pure functions used by the table: each takes a text (flag, variable) or a Python value
(configuration file) and returns the value a setting holds. It raises ValueError whose
text says what is wrong with the value; the loader adds the setting, the place and what
is allowed. Only account names ask the system; nothing else here does I/O.
"""

from __future__ import annotations

import grp
import ipaddress
import math
import pwd
import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from gthreadsrv.net.address import parse_bind
from gthreadsrv.settings.model import WorkerRange

T = TypeVar("T")

_TRUE = frozenset({"1", "true", "yes", "y", "on"})
_FALSE = frozenset({"0", "false", "no", "n", "off"})
# syslog(3), spelled as Python's logging.handlers spells them.
_FACILITIES = (
    "auth", "authpriv", "cron", "daemon", "ftp", "kern", "lpr", "mail", "news", "security",
    "syslog", "user", "uucp", "local0", "local1", "local2", "local3", "local4", "local5",
    "local6", "local7",
)  # fmt: skip
_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_FIELD_NAME = re.compile(r"[A-Za-z0-9-]+")
_UNDERSCORED = re.compile(r"[A-Z0-9_]+")
_SIZE = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,6})?)([KMGT]?)(?:i?B)?", re.IGNORECASE)
SIZES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def whole(minimum: int, maximum: int | None = None) -> Callable[[object], int]:
    """A whole number within bounds."""

    def convert(value: object) -> int:
        number = _int(value)
        if number < minimum or (maximum is not None and number > maximum):
            raise ValueError(f"{number} is out of range")
        return number

    return convert


def whole_or(word: str, meaning: int, minimum: int) -> Callable[[object], int]:
    """A whole number, or one word (None in a configuration file) that stands for `meaning`."""
    number = whole(minimum)

    def convert(value: object) -> int:
        if value is None or (isinstance(value, str) and value.strip() == word):
            return meaning
        return number(value)

    return convert


def workers(value: object) -> int | WorkerRange:
    """A number of workers, 0 for `auto`, or two with a colon: the fewest and the most."""
    if not (isinstance(value, str) and ":" in value):
        return whole_or("auto", 0, 1)(value)
    least, _, most = value.partition(":")
    found = WorkerRange(whole(1)(least), whole(1)(most))
    if found.least > found.most:
        raise ValueError(f"{value!r} has the larger number first")
    return found if found.least < found.most else found.least


def size(value: object) -> int:
    """A number of bytes; a text may end in K, M, G or T, in powers of 1024."""
    if not isinstance(value, str):
        return whole(0)(value)
    match = _SIZE.fullmatch(value.strip())
    if match is None:
        raise ValueError(f"{value!r} is not a number of bytes")
    return int(float(match[1]) * SIZES[match[2].upper()])


def limit(maximum: int, zero: int) -> Callable[[object], int]:
    """A size from 1 to `maximum`; 0 asks for no limit and gets `zero`, the most we take."""
    number = whole(0, maximum)

    def convert(value: object) -> int:
        return number(value) or zero

    return convert


def seconds(value: object) -> float:
    """A time of 0 or more seconds; parts of a second are fine."""
    try:
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise TypeError
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{value!r} is not a number of seconds") from None
    if not math.isfinite(number) or number < 0:
        raise ValueError(f"{value!r} is out of range")
    return number


def seconds_within(least: float, most: float) -> Callable[[object], float]:
    """A time between two others."""

    def convert(value: object) -> float:
        number = seconds(value)
        if not least <= number <= most:
            raise ValueError(f"{value!r} is out of range")
        return number

    return convert


def share(value: object) -> float:
    """A part of the whole: more than 0, 1 at most."""
    try:
        number = seconds(value)
    except ValueError:
        number = 0.0
    if not 0 < number <= 1:
        raise ValueError(f"{value!r} is not a share")
    return number


def octal(value: object) -> int:
    """File mode bits: a Python int as it is, a text read as octal whatever its prefix."""
    if isinstance(value, str):
        try:
            value = int(value.strip().removeprefix("0o"), 8)
        except ValueError:
            raise ValueError(f"{value!r} is not an octal number") from None
    return whole(0, 0o777)(value)


def switch(value: object) -> bool:
    """True or false, also as the words variables use."""
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower() if isinstance(value, (str, int)) else ""
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ValueError(f"{value!r} is neither true nor false")


def optional_switch(value: object) -> bool:
    """True or false; None, which gunicorn's default is, asks for what is usual: true."""
    return True if value is None else switch(value)


def text(value: object) -> str:
    """A text that is not empty and holds no control characters."""
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not a text")  # noqa: TRY004  the loader's contract
    if not value.strip():
        raise ValueError("it is empty")
    if not value.isprintable():
        raise ValueError(f"{value!r} holds control characters")
    return value


def line(value: object) -> str:
    """A text that stays on one line; tabs are fine."""
    if not isinstance(value, str) or not value or re.search(r"[\r\n\0]", value):
        raise ValueError(f"{value!r} is not one line of text")
    return value


def optional(convert: Callable[[object], T]) -> Callable[[object], T | None]:
    """None, which only a configuration file can say, or what `convert` makes."""

    def convert_or_none(value: object) -> T | None:
        return None if value is None else convert(value)

    return convert_or_none


def choice(*words: str) -> Callable[[object], str]:
    """One of a few words, upper or lower case."""

    def convert(value: object) -> str:
        word = value.strip().lower() if isinstance(value, str) else ""
        if word not in words:
            raise ValueError(f"{value!r} is not one of them")
        return word

    return convert


def choice_or_switch(on: str, *words: str) -> Callable[[object], str]:
    """One of a few words, or true for `on` and false for `off`."""
    word = choice(*words)

    def convert(value: object) -> str:
        try:
            return word(value)
        except ValueError:
            try:
                return on if switch(value) else "off"
            except ValueError:
                raise ValueError(f"{value!r} is not one of them") from None

    return convert


def log_target(value: object) -> str:
    """A path or `-`; None in a file asks for no other than the usual place."""
    return "-" if value is None else text(value)


def mapping(value: object) -> Mapping[str, object]:
    """A dictionary, which only a configuration file can say; None is an empty one."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ValueError(f"{_kind(value)} is not a dictionary")  # noqa: TRY004
    return value


def worker_class(value: object) -> str:
    """One of our classes, also by gunicorn's names of those."""
    name = value if isinstance(value, str) else getattr(value, "__qualname__", repr(value))
    word = name.strip().removeprefix("gunicorn.workers.").lower()
    if word in {"gthread", "gthread.threadworker", "threadworker"}:
        return "gthread"
    if word in {"sync", "sync.syncworker", "syncworker"}:
        return "sync"
    # The other two differ in whose HTTP code they use.
    if word in {"gevent", "gevent_wsgi", "gevent_pywsgi"} or re.fullmatch(
        r"(ggevent\.)?gevent(pywsgi)?worker", word
    ):
        return "gevent"
    if word in {"eventlet", "geventlet.eventletworker", "eventletworker"}:
        return "eventlet"
    if "uvicorn" in word or "asgi" in word:
        raise ValueError(
            f"{name!r} serves ASGI and this server WSGI; wrap the application, as with "
            "a2wsgi.ASGIMiddleware, and leave worker_class out"
        )
    raise ValueError(
        f"there is no worker class {name!r} here; leave worker_class out and raise threads, or say "
        "gevent"
    )


def http_parser(value: object) -> str:
    """A parser's name; gunicorn's two mean the one in Python and the fastest there is."""
    word = {"python": "h11", "fast": "auto"}.get(value, value) if isinstance(value, str) else value
    return choice("auto", "h11", "httptools")(word)


def many(
    convert: Callable[[object], str], separator: str = ""
) -> Callable[[object], tuple[str, ...]]:
    """Several texts: a list, or one text cut at `separator` where there is one."""

    def convert_all(value: object) -> tuple[str, ...]:
        items: Iterable[object]
        if isinstance(value, str):
            items = [value]
        elif isinstance(value, Sequence):
            items = value
        else:
            # It may be a dictionary of secrets, which a line in the log must not show.
            what = repr(value) if isinstance(value, (int, float)) else _kind(value)
            raise ValueError(f"{what} is neither a text nor a list of texts")  # noqa: TRY004
        if separator:
            items = [
                part.strip()
                for item in items
                # An empty text is how a flag says: none of them.
                for part in ("" if item == "" else text(item)).split(separator)
                if part.strip()
            ]
        return tuple(convert(item) for item in items)

    return convert_all


def bind(value: object) -> str:
    """One listener's address, in the words it will be known by."""
    return str(parse_bind(text(value)))


def bind_or_off(value: object) -> str:
    """A listener's address, or `off`."""
    return "off" if value == "off" or value is None else bind(value)


def variable(value: object) -> str:
    """`NAME=value` for the process environment."""
    if not isinstance(value, str) or "\0" in value:
        raise ValueError("it is not a text")
    name, equals, _ = value.partition("=")
    # What follows may be a secret, and without "=" the whole may: only a name is shown.
    if not equals:
        raise ValueError("there is no '=' in it")
    if not _VARIABLE.fullmatch(name):
        raise ValueError(f"{name!r} is not a variable's name")
    return value


def syslog_address(value: object) -> str:
    """Where a syslog daemon listens, as gunicorn writes it."""
    address = text(value)
    if not re.fullmatch(r"unix://[^#]+(#(dgram|stream))?|(udp|tcp)://\S+", address):
        raise ValueError(f"{address!r} is not an address of syslog")
    return address


def syslog_facility(value: object) -> str:
    """A facility's name."""
    name = text(value).strip().lower()
    if name not in _FACILITIES:
        raise ValueError(f"{name!r} is not a facility")
    return name


def assignment(value: object) -> str:
    """`NAME=value`, whatever the name."""
    if not isinstance(value, str) or not value.partition("=")[0].strip() or "=" not in value:
        raise ValueError("it is not NAME=VALUE")
    return value


def words(value: str) -> list[str]:
    """A variable's value cut into words as a shell would."""
    return shlex.split(value)


def network(value: object) -> str:
    """An IP address or network, or `*` for any."""
    word = text(value).strip()
    if word == "*":
        return word
    try:
        net = ipaddress.ip_network(word)
    except ValueError:
        raise ValueError(f"{word!r} is not an IP address or network") from None
    return str(net.network_address) if net.num_addresses == 1 else str(net)


def scheme_headers(value: object) -> tuple[tuple[str, str], ...]:
    """Fields and what each says when the client came by https: a dict, or NAME=VALUE texts."""
    pairs: list[tuple[object, object]]
    if isinstance(value, str):
        pairs = [(*part.partition("=")[::2],) for part in value.split(",") if part.strip()]
    elif isinstance(value, dict):
        pairs = list(value.items())
    else:
        raise ValueError(f"{value!r} is no dict of names and values")  # noqa: TRY004
    made = []
    for name, word in pairs:
        if not isinstance(name, str) or not _FIELD_NAME.fullmatch(name.strip()):
            raise ValueError(f"{name!r} is not the name of a field")
        made.append((name.strip().upper(), text(word).strip()))
    return tuple(made)


def underscored(value: object) -> str:
    """The name of a field that holds `_`, in capitals."""
    name = text(value).strip().upper()
    if "_" not in name or not _UNDERSCORED.fullmatch(name):
        raise ValueError(f"{name!r} is not a name with _ in it")
    return name


def tls_version(value: object) -> str:
    """1.2 or 1.3, also by OpenSSL's names and as the number that a file may hold."""
    word = value if isinstance(value, str) else repr(value)
    number = word.strip().lower().removeprefix("tlsv").replace("_", ".")
    if number not in {"1.2", "1.3"}:
        raise ValueError(f"{value!r} is not one of them")
    return number


def anything(value: object) -> str | None:
    """Whatever another program's configuration has here, as a text."""
    return None if value is None else line(str(value))


def function(value: object) -> Callable[..., object] | None:
    """A function, which only a configuration file can give."""
    if value is not None and not callable(value):
        raise ValueError(f"{value!r} is not a function")
    return value


def url_path(value: object) -> str:
    """The path part of a URL."""
    path = text(value)
    if not path.startswith("/") or path.startswith("//") or re.search(r"[^!-~]|[?#%]", path):
        raise ValueError(f"{path!r} is not a plain path that starts with '/'")
    return path


def account(value: object) -> str:
    """A user of this system, by name or number."""
    return _known(value, "user", pwd.getpwnam)


def account_group(value: object) -> str:
    """A group of this system, by name or number."""
    return _known(value, "group", grp.getgrnam)


def _kind(value: object) -> str:
    return f"a value of type {type(value).__name__}"


def _known(value: object, kind: str, look_up: Callable[[str], object]) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    name = text(value).strip()
    # A container may run as a number that no account has.
    if name.isdecimal():
        # uid_t and gid_t have 32 bits; the last value means "leave as it is" (chown(2)).
        if int(name) >= 2**32 - 1:
            raise ValueError(f"{name} is out of range")
        return name
    try:
        look_up(name)
    except KeyError:
        raise ValueError(f"there is no {kind} {name!r} here") from None
    return name


def _int(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value)  # of ssl.CERT_REQUIRED the number, not the name
    # int() alone would take 1_000 and digits of other scripts.
    if isinstance(value, str) and _WHOLE.fullmatch(value.strip()):
        return int(value)
    raise ValueError(f"{value!r} is not a whole number")
