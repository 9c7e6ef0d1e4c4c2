"""`gthreadsrvctl health`: a container's health check in one word and an exit code."""

from __future__ import annotations

import sys
from http import HTTPStatus
from typing import TYPE_CHECKING

from gthreadsrv.ctl.asking import ask

if TYPE_CHECKING:
    from gthreadsrv.net.address import TcpAddress, UnixAddress

__all__ = ["health"]


def health(where: TcpAddress | UnixAddress, timeout_s: float, *, ready: bool) -> int:
    """Print the server's own word on its health; 0 when it is well, else 1.

    Raises NoAnswerError.
    """
    answer = ask(where, "/readyz" if ready else "/livez", timeout_s)
    sys.stdout.write(f"{answer.text}\n")
    return 0 if answer.status == HTTPStatus.OK else 1
