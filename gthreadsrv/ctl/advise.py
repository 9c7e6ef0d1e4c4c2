"""`gthreadsrvctl advise`: what limits the server now, from two looks at its metrics page."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

from gthreadsrv.ctl.pages import fetch
from gthreadsrv.sizing import read_cpus
from gthreadsrv_metrics.advice import Window
from gthreadsrv_metrics.advice import advise as find

if TYPE_CHECKING:
    from gthreadsrv.net.address import TcpAddress, UnixAddress

__all__ = ["advise"]


def advise(where: TcpAddress | UnixAddress, timeout_s: float, seconds: float) -> int:
    """Watch for so many seconds and print what is found; 0, also when there is nothing to say.

    Raises NoAnswerError.
    """
    before, began = fetch(where, timeout_s)
    time.sleep(seconds)
    after, ended = fetch(where, timeout_s)
    cores = float(read_cpus(os.environ).count)
    for advice in find(Window(before, after, ended - began, cores)):
        sys.stdout.write(f"{advice}\n")
    return 0
