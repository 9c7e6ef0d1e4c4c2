"""Bind addresses: the text a user writes, and the canonical text logs and metrics show.

Pure: parses and prints, opens nothing. Runs in whichever process reads settings.
`str(address)` is stable and is the `listener` label of the metrics.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final, NamedTuple, TypeAlias

DEFAULT_PORT: Final = 8000

# sun_path of sockaddr_un holds 108 bytes on Linux, the last of them a NUL; macOS has 104.
UNIX_PATH_LIMIT: Final = 107

_FORMS: Final = "HOST, HOST:PORT, [IPV6]:PORT, unix:PATH, unix:@NAME or fd://N"
_HOST_NAME: Final = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?")


class TcpAddress(NamedTuple):
    """Host (a name or an address, IPv6 without brackets) and port; 0 lets the kernel choose."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


class UnixAddress(NamedTuple):
    """A socket file, or a name in Linux's abstract namespace when the path starts with NUL."""

    path: str

    @property
    def abstract(self) -> bool:
        """Whether no file belongs to this socket."""
        return self.path.startswith("\0")

    def __str__(self) -> str:
        return "unix:@" + self.path[1:] if self.abstract else f"unix:{self.path}"


class FdAddress(NamedTuple):
    """A listening socket that whoever started the server has left open for it."""

    fd: int

    def __str__(self) -> str:
        return f"fd://{self.fd}"


Address: TypeAlias = TcpAddress | UnixAddress | FdAddress


def parse_bind(text: str) -> Address:
    """Read one bind address; ValueError says in a few words what is wrong and what is allowed."""
    text = text.strip()
    scheme, _, rest = text.partition(":")
    if scheme.lower() == "unix":
        return _parse_unix(rest)
    if scheme.lower() == "fd" and rest.startswith("//"):
        return _parse_fd(rest[2:])
    if scheme.lower() == "tcp" and rest.startswith("//"):
        text = rest[2:]
    return _parse_tcp(text)


def _parse_unix(path: str) -> UnixAddress:
    # "unix:/run/x", "unix:x" and the URL form "unix:///run/x" name a file.
    path = path.removeprefix("//")
    if path.startswith("@"):
        path = "\0" + path[1:]
    if path.strip("\0/") == "":
        raise ValueError("a unix socket needs a path, as in unix:/run/app.sock")
    if "\0" in path[1:]:
        raise ValueError("the path of a unix socket holds no NUL byte")
    if len(path.encode(errors="surrogateescape")) > UNIX_PATH_LIMIT:
        raise ValueError(f"the path of a unix socket has at most {UNIX_PATH_LIMIT} bytes")
    return UnixAddress(path)


def _parse_fd(number: str) -> FdAddress:
    if not (number.isascii() and number.isdigit()) or len(number) > 9:
        raise ValueError(f"{number!r} is not a file descriptor, write fd://3")
    return FdAddress(int(number))


def _parse_tcp(text: str) -> TcpAddress:
    if text == "":
        raise ValueError(f"an address is empty, write {_FORMS}")
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if bracket == "" or (rest and not rest.startswith(":")):
            raise ValueError(f"{text!r} is not an address, an IPv6 host is written [::1]:8000")
        _check_ipv6(host)
        return TcpAddress(host.lower(), _parse_port(rest[1:]) if rest else DEFAULT_PORT)
    if text.count(":") > 1:
        _check_ipv6(text)
        return TcpAddress(text.lower(), DEFAULT_PORT)
    host, colon, port = text.partition(":")
    if host in {"", "*"}:
        host = "0.0.0.0"
    if not _HOST_NAME.fullmatch(host):
        raise ValueError(f"{host!r} is not a host, write {_FORMS}")
    return TcpAddress(host.lower(), _parse_port(port) if colon else DEFAULT_PORT)


def _check_ipv6(host: str) -> None:
    try:
        ipaddress.IPv6Address(host)
    except ValueError as error:
        raise ValueError(f"{host!r} is not an IPv6 address, write [::1]:8000") from error


def _parse_port(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 5 or int(text) > 65535:
        raise ValueError(f"{text!r} is not a port, allowed is 0 to 65535")
    return int(text)
