"""One GET to the metrics port, over TCP or a unix socket.

Where the port is comes from the same settings as the server's: `ctl` is started where the
server is, with the same environment and configuration file.
"""

from __future__ import annotations

import http.client
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass

from gthreadsrv.errors import ConfigError, GthreadsrvError
from gthreadsrv.net.address import FdAddress, TcpAddress, UnixAddress, parse_bind

__all__ = ["Answer", "NoAnswerError", "ask", "metrics_port"]

_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1", "*": "127.0.0.1", "": "127.0.0.1"}

_READ_MAX_BYTES = 64 * 1024 * 1024


class NoAnswerError(GthreadsrvError):
    """Nobody answers on the metrics port, or it is not HTTP that comes back."""

    exit_code = 1


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    body: bytes

    @property
    def text(self) -> str:
        """The body as text, without the line's end."""
        return self.body.decode("utf-8", "replace").strip()


def metrics_port(metrics_bind: str) -> TcpAddress | UnixAddress:
    """Return where to ask.  Raises ConfigError when the setting names no such place."""
    if metrics_bind == "off":
        raise ConfigError("metrics_bind: off; there is no port to ask, so turn it on")
    address = parse_bind(metrics_bind)
    if isinstance(address, FdAddress) or (isinstance(address, TcpAddress) and not address.port):
        raise ConfigError(
            f"metrics_bind: {metrics_bind} does not tell where the server listens; name the "
            "address it logs as listening"
        )
    if isinstance(address, TcpAddress):
        return TcpAddress(_ANY.get(address.host, address.host), address.port)
    return address


def ask(address: TcpAddress | UnixAddress, path: str, timeout_s: float) -> Answer:
    """GET ``path`` within ``timeout_s``.  Raises NoAnswerError."""
    connection = http.client.HTTPConnection("localhost")
    # The socket's own timeout is for each step, and a server may take any number of them.
    late = threading.Event()
    watch = threading.Timer(timeout_s, _hang_up, (connection, late))
    watch.daemon = True
    watch.start()
    try:
        connection.sock = _connect(address, timeout_s)
        connection.request("GET", path)
        response = connection.getresponse()
        answer = Answer(response.status, response.read(_READ_MAX_BYTES))
        if late.is_set():
            raise TimeoutError
        return answer
    except TimeoutError:
        raise NoAnswerError(f"{address} does not answer within {timeout_s:g} s") from None
    except (OSError, UnicodeError, http.client.HTTPException) as error:
        # By what ended it: a clock read here may disagree with the timer's by a moment.
        if late.is_set():
            raise NoAnswerError(f"{address} does not answer within {timeout_s:g} s") from None
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise NoAnswerError(f"{address} does not answer: {why}") from None
    finally:
        watch.cancel()
        connection.close()


def _hang_up(connection: http.client.HTTPConnection, late: threading.Event) -> None:
    late.set()
    sock = connection.sock
    if sock is not None:
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)


def _connect(address: TcpAddress | UnixAddress, timeout_s: float) -> socket.socket:
    if isinstance(address, TcpAddress):
        return socket.create_connection((address.host, address.port), timeout_s)
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.settimeout(timeout_s)
        sock.connect(address.path)
    except BaseException:
        sock.close()
        raise
    return sock
