"""`server.log` and `worker.log`: texts with %-arguments into the server's log."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from gthreadsrv.log.logged import ACCESS, ERROR

if TYPE_CHECKING:
    from gthreadsrv.hooks.cfg import Cfg


class HookLog:
    """What gunicorn's logger offers: info, warning, error, exception, debug, critical, log."""

    def __init__(self, cfg: Cfg) -> None:
        self.cfg = cfg
        self.error_log = logging.getLogger(ERROR)
        self.access_log = logging.getLogger(ACCESS)

    @property
    def loglevel(self) -> int:
        """The least important level that is logged, as Python's logging counts."""
        return self.error_log.getEffectiveLevel()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["error_log"], name)
