"""The server's metrics page, fetched and read."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from gthreadsrv.ctl.asking import NoAnswerError, ask

if TYPE_CHECKING:
    from gthreadsrv.net.address import TcpAddress, UnixAddress
    from gthreadsrv_metrics.advice import Labels

__all__ = ["fetch"]


def fetch(
    where: TcpAddress | UnixAddress, timeout_s: float
) -> tuple[dict[str, dict[Labels, float]], float]:
    """The page, and when it came (CLOCK_MONOTONIC seconds). Raises NoAnswerError."""
    answer = ask(where, "/metrics", timeout_s)
    now = time.monotonic()
    if answer.status != 200:
        raise NoAnswerError(f"{where} answers /metrics with {answer.status}: {answer.text[:200]}")
    # Here: `gthreadsrvctl health`, which runs every few seconds, must not pay for the import.
    from gthreadsrv_metrics.page import parse_page

    try:
        return parse_page(answer.text), now
    except ValueError as error:
        raise NoAnswerError(f"{where} answers /metrics with something else: {error}") from None
