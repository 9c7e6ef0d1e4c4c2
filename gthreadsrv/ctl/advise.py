"""`gthreadsrvctl advise`: what limits the server now, from two looks at its metrics page."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

from gthreadsrv.ctl.asking import NoAnswerError, ask
from gthreadsrv.sizing import read_cpus
from gthreadsrv_metrics.advice import Window
from gthreadsrv_metrics.advice import advise as find

if TYPE_CHECKING:
    from gthreadsrv.net.address import TcpAddress, UnixAddress
    from gthreadsrv_metrics.advice import Labels

__all__ = ["advise"]


def advise(where: TcpAddress | UnixAddress, timeout_s: float, seconds: float) -> int:
    """Watch for so many seconds and print what is found; 0, also when there is nothing to say.

    Raises NoAnswerError.
    """
    before, began = _page(where, timeout_s)
    time.sleep(seconds)
    after, ended = _page(where, timeout_s)
    cores = float(read_cpus(os.environ).count)
    for advice in find(Window(before, after, ended - began, cores)):
        sys.stdout.write(f"{advice}\n")
    return 0


def _page(
    where: TcpAddress | UnixAddress, timeout_s: float
) -> tuple[dict[str, dict[Labels, float]], float]:
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
