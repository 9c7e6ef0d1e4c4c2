"""`gthreadsrvctl status`: one look at the server, in words or as JSON."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from http import HTTPStatus
from typing import TYPE_CHECKING

from gthreadsrv.ctl import words
from gthreadsrv.ctl.asking import ask
from gthreadsrv.ctl.frame import Frame, frame
from gthreadsrv.ctl.pages import fetch

if TYPE_CHECKING:
    from gthreadsrv.net.address import TcpAddress, UnixAddress

__all__ = ["status"]


def status(where: TcpAddress | UnixAddress, timeout_s: float, *, as_json: bool) -> int:
    """Print what the server says of itself; 0 when it is ready for requests, else 1.

    Raises NoAnswerError.
    """
    ready = ask(where, "/readyz", timeout_s)
    page, _ = fetch(where, timeout_s)
    found = frame(page, time.time())
    is_ready = ready.status == HTTPStatus.OK
    if as_json:
        # Rates take two looks: they are `top`'s.
        known = {name: value for name, value in dataclasses.asdict(found).items() if _told(name)}
        for worker in known["workers"]:
            for name in [name for name in worker if not _told(name)]:
                del worker[name]
        known = {"ready": is_ready, "reason": "" if is_ready else ready.text, **known}
        sys.stdout.write(json.dumps(known, indent=2) + "\n")
    else:
        sys.stdout.write(plain(found, "yes" if is_ready else f"no: {ready.text}"))
    return 0 if is_ready else 1


def plain(found: Frame, ready: str) -> str:
    """The look in words, a fact a line."""
    bounds = f", {found.workers_least}:{found.workers_most} allowed"
    lines = {
        "ready": ready,
        "version": f"{found.version}, parser {found.parser}",
        "uptime": words.age(found.uptime_s),
        "workers": f"{found.workers_ready} ready of {found.workers_target} wanted, "
        f"{found.workers_booting} booting, {found.workers_draining} draining"
        + (bounds if found.workers_most > found.workers_least else ""),
        "threads": f"{found.threads_busy} of {found.threads} busy, "
        f"{words.share(found.utilisation)} over the last 15 s",
        "requests": f"{found.requests:.0f} answered, {found.responses_5xx:.0f} of them 5xx",
        "connections": words.counts(found.connections),
        "memory": f"{words.size(found.memory_bytes)} in workers, limit "
        f"{'none' if found.memory_limit_bytes is None else words.size(found.memory_limit_bytes)}",
        "exits": words.counts(found.exits),
    }
    for one in found.listeners:
        waiting = "?" if one.waiting is None else f"{one.waiting:.0f}"
        limit = "?" if one.limit is None else f"{one.limit:.0f}"
        lines[f"backlog of {one.name}"] = f"{waiting} of {limit}" + (
            f", {one.dropped:.0f} dropped" if one.dropped else ""
        )
    width = max(map(len, lines))
    return "".join(f"{name:<{width}}  {text}\n" for name, text in lines.items())


def _told(name: str) -> bool:
    """Whether one look is enough for it."""
    return not name.endswith("_per_s") and name not in {
        "queue_mean_s", "duration_mean_s", "cpu_cores", "throttled_share", "busy_share",
    }  # fmt: skip
