"""A frame as `top` draws it, with rich: a few lines on the whole server, a line for each worker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

from gthreadsrv.ctl import words

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

    from gthreadsrv.ctl.frame import Frame, WorkerLine

__all__ = ["draw"]

_GRID_MOST = 32
"""Threads of a worker that are drawn one by one; more are a bar of this width."""

_BETWEEN = "   "
_BUSY_LOOK, _BUSY_ACT = 0.7, 0.9
_SILENT_S = 5.0
_WAIT_LOOK_S, _WAIT_ACT_S = 0.02, 0.1


def draw(found: Frame, where: str, trouble: str = "") -> Group:
    """The picture. `trouble` is why it is not of now."""
    parts: list[Text | _Facts] = [_head(found, where), _numbers(found), _fleet(found)]
    parts += [_backlog(found)] if found.listeners else []
    if trouble:
        parts.append(Text(trouble, style="bold red"))
    return Group(*parts, _workers(found))


def _head(found: Frame, where: str) -> Text:
    text = Text("gthreadsrv ", style="bold")
    text.append(f"{found.version}  {where}  up {words.age(found.uptime_s)}", style="default")
    return text


def _numbers(found: Frame) -> _Facts:
    now = found.threads_busy / found.threads if found.threads else 0.0
    return _Facts(
        Text.assemble("requests ", (words.rate(found.requests_per_s), "bold")),
        Text.assemble(
            "5xx ",
            (
                words.rate(found.responses_5xx_per_s),
                "bold red" if found.responses_5xx_per_s else "",
            ),
        ),
        Text.assemble("threads ", (f"{found.threads_busy}/{found.threads}", _busy_style(now))),
        Text(f"busy {words.share(found.utilisation)}"),
        Text.assemble(
            "queue ", (words.milliseconds(found.queue_mean_s), _wait_style(found.queue_mean_s))
        ),
        Text(f"duration {words.milliseconds(found.duration_mean_s)}"),
    )


def _fleet(found: Frame) -> _Facts:
    limit = found.memory_limit_bytes
    bounds = f" ({found.workers_least}:{found.workers_most})"
    workers = Text(f"workers {found.workers_ready}/{found.workers_target}")
    workers.append(bounds if found.workers_most > found.workers_least else "")
    for name, number in (
        ("booting", found.workers_booting),
        ("draining", found.workers_draining),
    ):
        if number:
            workers.append(f" {name} {number}", style="yellow")
    memory = Text(f"memory {words.size(found.memory_bytes)}")
    memory.append("" if limit is None else f" of {words.size(limit)}")
    cpu = Text(f"CPU {words.cores(found.cpu_cores)}")
    cpu.append("" if found.cpu_limit_cores is None else f" of {found.cpu_limit_cores:g}")
    if found.throttled_share:
        cpu.append(f" throttled {found.throttled_share:.0%}", style="bold red")
    return _Facts(workers, memory, cpu, Text(f"exits {words.counts(found.exits)}"))


def _backlog(found: Frame) -> Text:
    text = Text("backlog")
    for one in found.listeners:
        waiting = "?" if one.waiting is None else f"{one.waiting:.0f}"
        limit = "?" if one.limit is None else f"{one.limit:.0f}"
        text.append(f" {one.name} {waiting}/{limit}", style="yellow" if one.waiting else "")
        if one.dropped:
            text.append(f" dropped {one.dropped:.0f}", style="bold red")
    return text


class _Facts:
    """Facts side by side, as many in a line as the terminal is wide; none is torn."""

    def __init__(self, *facts: Text) -> None:
        self._facts = facts

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        line = self._facts[0]
        for fact in self._facts[1:]:
            if len(line) + len(_BETWEEN) + len(fact) <= options.max_width:
                line = Text.assemble(line, _BETWEEN, fact)
            else:
                yield line
                line = fact
        yield line


def _workers(found: Frame) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("worker", justify="right")
    table.add_column("threads", no_wrap=True)
    for name in ("busy", "req/s", "CPU", "oldest", "memory", "age", "gen", "heard"):
        table.add_column(name, justify="right", no_wrap=True)
    for line in found.workers:
        table.add_row(
            str(line.slot),
            _grid(line),
            Text(words.share(line.busy_share), style=_busy_style(line.busy_share or 0.0)),
            words.rate(line.requests_per_s).removesuffix("/s"),
            words.cores(line.cpu_cores),
            words.age(line.oldest_request_s) if line.threads_busy else "-",
            words.size(line.memory_bytes),
            words.age(line.age_s),
            str(line.generation),
            Text(words.age(line.heartbeat_age_s), style=_silent_style(line.heartbeat_age_s)),
        )
    return table


def _grid(line: WorkerLine) -> Text:
    """A square for each thread, full where it is busy."""
    shown = min(line.threads, _GRID_MOST)
    # The two numbers are of two instants: a worker may have got fewer threads in between.
    busy = min(-(-line.threads_busy * shown // line.threads), shown) if line.threads else 0
    share = line.threads_busy / line.threads if line.threads else 0.0
    text = Text("■" * busy, style=_busy_style(share) or "green")
    text.append("·" * (shown - busy), style="dim")
    if line.threads > _GRID_MOST:
        text.append(f" {line.threads_busy}/{line.threads}", style="default")
    return text


def _busy_style(share: float) -> str:
    return "bold red" if share >= _BUSY_ACT else "yellow" if share >= _BUSY_LOOK else ""


def _wait_style(seconds: float | None) -> str:
    if seconds is None or seconds < _WAIT_LOOK_S:
        return ""
    return "bold red" if seconds >= _WAIT_ACT_S else "yellow"


def _silent_style(seconds: float) -> str:
    return "bold red" if seconds > _SILENT_S else ""
