"""How the dashboards ask for the server's metrics.

Every selector carries the dashboards' variables. A counter's rate is taken before anything is
added up, so that a restart of one instance is no fall of the sum; quotients have the same
labels on both sides; a divisor that can be 0 is compared first, so that nothing becomes NaN.
``worker`` is a slot and lives longer than its process; gauges of a free slot are absent.
"""

from __future__ import annotations

from typing import Final

from gthreadsrv_metrics.catalogue import PREFIX

SCOPE: Final = 'job=~"$job", namespace=~"$namespace", instance=~"$instance"'
WORKER: Final = 'worker=~"$worker"'
# Two jobs may scrape the same address, so an instance is both. The scope keeps namespaces apart.
INSTANCE: Final = "job, instance"
EACH_WORKER: Final = "job, instance, worker"
UNPLANNED_EXITS: Final = 'reason=~"boot_error|crash|heartbeat|oom|request_timeout|signal"'


def metric(name: str, *more: str) -> str:
    """The series of one of the server's metrics, of what the variables select."""
    return f"{PREFIX}{name}{{{', '.join((SCOPE, *more))}}}"


def rate(name: str, *more: str) -> str:
    """What a counter grows by in a second."""
    return f"rate({metric(name, *more)}[$__rate_interval])"


def increase(name: str, *more: str, over: str = "$__range") -> str:
    """What a counter has grown by."""
    return f"increase({metric(name, *more)}[{over}])"


def total(expression: str, by: str = "") -> str:
    """A sum, of all or for each."""
    return f"sum by ({by}) ({expression})" if by else f"sum({expression})"


def most(expression: str, by: str = "") -> str:
    """The largest, of all or for each."""
    return f"max by ({by}) ({expression})" if by else f"max({expression})"


def quantile(q: float, name: str, *more: str, by: str = "") -> str:
    """A quantile of a histogram; nothing where nothing was observed."""
    labels = f"le, {by}" if by else "le"
    buckets = total(rate(f"{name}_bucket", *more), labels)
    return f"histogram_quantile({q}, {buckets}) >= 0"


def share(part: str, whole: str) -> str:
    """A part of a whole that may be 0; the part is then 0 as well, and so is the share."""
    return f"{part} / ({whole} > 0) or {part}"


def server_errors(by: str = "") -> str:
    """The share of responses that are 5xx.

    Of the duration histogram, which has every class from the start, where requests_total has a
    code only once it was given; both count the same responses.
    """
    count = "request_duration_seconds_count"
    return share(total(rate(count, 'code_class="5xx"'), by), total(rate(count), by))


def utilisation(by: str = "", *more: str) -> str:
    """The share of thread time that went into requests: exact, running ones included."""
    return (
        f"{total(rate('thread_busy_seconds_total', *more), by)}"
        f" / {total(metric('threads', *more), by)}"
    )


def saturated(by: str = "") -> str:
    """The share of workers' time in which they had no free thread."""
    return f"{total(rate('saturated_seconds_total'), by)} / ({total(metric('worker_up'), by)} > 0)"


def backlog(*more: str) -> str:
    """How full the accept queues are."""
    return f"{metric('listener_backlog', *more)} / ({metric('listener_backlog_limit', *more)} > 0)"


def ready(by: str = "") -> str:
    """The share of wanted workers that is ready; during a reload there are more than wanted."""
    wanted = total(metric("workers_target"), by)
    are = total(metric("workers", 'state="ready"'), by)
    return f"clamp_max({are} / ({wanted} > 0), 1)"


def unplanned_exits(by: str = "", over: str = "$__range") -> str:
    """Workers that ended as nobody had planned."""
    return total(increase("worker_exits_total", UNPLANNED_EXITS, over=over), by)


def mean(name: str, *more: str, by: str = "") -> str:
    """The mean of what a histogram observed; nothing where nothing was."""
    count = total(rate(f"{name}_count", *more), by)
    return f"{total(rate(f'{name}_sum', *more), by)} / ({count} > 0)"
