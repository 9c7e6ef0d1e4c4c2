"""Which reports of changed code are news: every worker watches, and each change is one reload."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from gthreadsrv import log as logs

if TYPE_CHECKING:
    from collections.abc import Iterable

log = logs.get_logger()


class Changes:
    """The state of each file at the reload it has caused. The master's."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}

    def news(self, paths: Iterable[str]) -> bool:
        """Whether one of these files is not as it was when it was last reported."""
        found = False
        for path in paths:
            try:
                stamp = os.stat(path).st_mtime_ns
            except OSError:  # gone again; whoever looks next sees what is there then
                continue
            if self._known.get(path) != stamp:
                self._known[path] = stamp
                log.info("code changed", path=path)
                found = True
        return found
