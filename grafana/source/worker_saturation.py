"""Worker saturation: why requests of one instance wait, worker by worker."""

from __future__ import annotations

from typing import Final

from grafana.source import palette
from grafana.source.frame import SATURATION_UID, Dashboard, Row
from grafana.source.panels import (
    Query,
    bars,
    by_worker,
    column,
    fixed,
    limit_line,
    lines,
    override,
    rising,
    stat,
    table,
)
from grafana.source.queries import (
    EACH_WORKER,
    WORKER,
    backlog,
    increase,
    mean,
    metric,
    most,
    quantile,
    rate,
    saturated,
    total,
    utilisation,
)

_SLOT: Final = "worker {{worker}}"
_TIMEOUT: Final = Query(most(metric("config_timeout_seconds")), "timeout")
# Of workers that were asked at all: an idle instance is not out of balance.
_BUSY_BY_WORKER: Final = total(rate("thread_busy_seconds_total", WORKER), "worker")
_LIVE: Final = f"{metric('worker_up', WORKER)} == 1"
_IMBALANCE: Final = (
    f"max({_BUSY_BY_WORKER} and on (worker) ({_LIVE}))"
    f" / (avg({_BUSY_BY_WORKER} and on (worker) ({_LIVE})) > 0)"
)

_NOW: Final = Row(
    "Is there room?",
    (
        stat(
            "Busy now",
            "Threads that serve a request at this moment, of all threads.",
            "At 100% the next request waits. A peak is a burst, a number that stays is saturation.",
            f"{total(metric('threads_busy', WORKER))} / {total(metric('threads', WORKER))}",
            unit="percentunit", limits=rising(0.8, 1), decimals=0,
            alerts=("ThreadPoolSaturated",),
        ),
        stat(
            "Last 15 s",
            "Share of the ready workers' thread time over the last 15 seconds, as the server"
            " measures it; made for autoscalers.",
            "Scale on this number; 60% to 70% is a good goal. Above 90% requests wait most of the"
            " time.",
            most(metric("thread_utilization_ratio")),
            unit="percentunit", limits=rising(0.7, 0.9), decimals=0,
        ),
        stat(
            "Saturated",
            "Share of workers' time in which every thread was busy.",
            "Add threads if CPU is left (see CPU share of busy time), else workers.",
            saturated(),
            unit="percentunit", limits=rising(0.1, 0.5), decimals=0,
            alerts=("ThreadPoolSaturated",),
        ),
        stat(
            "Queue p99",
            "99 of 100 requests wait less than this before the application starts.",
            "See Queue time by source and the accept queue for where they wait.",
            quantile(0.99, "request_queue_seconds"),
            unit="s", limits=rising(0.1, 0.5), none="idle", alerts=("QueueTimeHigh",),
        ),
        stat(
            "Backlog",
            "The fullest accept queue, of its limit.",
            "Above 0 for long: all workers are busy. Near 100% clients are about to be dropped.",
            most(backlog()),
            unit="percentunit", limits=rising(0.1, 0.8), decimals=0,
            alerts=("AcceptBacklogGrowing",),
        ),
        stat(
            "Dropped",
            "Connections that the kernel dropped at the listeners in the chosen time.",
            "Every one is a client that had to try again. Add capacity.",
            f"round({total(increase('listener_drops_total'))})",
            unit="short", limits=rising(1, 100), decimals=0, alerts=("ListenerDropping",),
            empty="where the server listens on unix sockets only: their clients wait instead.",
        ),
        stat(
            "Oldest",
            "Age of the request that has been running longest.",
            "Past the timeout the server logs its stack: look there. A thread that never returns is"
            " lost for others.",
            most(metric("oldest_request_age_seconds", WORKER)),
            unit="s", limits=rising(10, 30), alerts=("RequestStuck",),
        ),
        stat(
            "Imbalance",
            "Busy time of the busiest worker over the mean of all; 1 is even.",
            "Above 2 with many requests: long connections or long requests sit on one worker. See"
            " Requests by worker.",
            _IMBALANCE,
            unit="short", limits=rising(1.5, 2.5), decimals=1, none="idle",
            alerts=("WorkerImbalance",),
        ),
    ),
)  # fmt: skip

_THREADS: Final = Row(
    "Threads",
    (
        lines(
            "Threads busy by worker",
            "Threads that serve a request, for each worker, below the threads each has.",
            "Lines that lie on the limit are saturated workers. All: add threads, workers or"
            " instances. One: see Oldest request by worker.",
            [
                Query(total(metric("threads_busy", WORKER), "worker"), _SLOT),
                Query(most(metric("threads", WORKER)), "threads of a worker"),
            ],
            unit="short", colors=(*by_worker(), limit_line("threads of a worker")), width=10,
            alerts=("ThreadPoolSaturated",),
        ),
        lines(
            "Busy share by worker",
            "Share of each worker's thread time that went into requests: exact, not sampled.",
            "The mean is your load; the spread is balance. A worker far below the others may hang:"
            " see Heartbeat age.",
            [Query(utilisation("worker", WORKER), _SLOT)],
            unit="percentunit", colors=by_worker(), top=1, width=9,
            alerts=("ThreadPoolSaturated", "WorkerImbalance"),
        ),
        bars(
            "Threads now",
            "Share of each worker's threads that serve a request at this moment.",
            "The picture of the moment: all full is a lack of capacity, one full is that worker's.",
            [
                Query(
                    f"{total(metric('threads_busy', WORKER), 'worker')}"
                    f" / {total(metric('threads', WORKER), 'worker')}",
                    _SLOT,
                )
            ],
            unit="percentunit", limits=rising(0.8, 1), top=1, width=5,
        ),
        lines(
            "Time without a free thread by worker",
            "Share of time in which every thread of the worker was busy.",
            "While this is above 0 the worker accepts nothing; others take over if they can.",
            [Query(total(rate("saturated_seconds_total", WORKER), "worker"), _SLOT)],
            unit="percentunit", colors=by_worker(), top=1, alerts=("ThreadPoolSaturated",),
        ),
        lines(
            "Oldest request by worker",
            "Age of each worker's longest running request; the broken line is the timeout.",
            "A line that climbs is one request that does not end. Its stack is logged at the"
            " timeout; py-spy shows it before.",
            [Query(most(metric("oldest_request_age_seconds", WORKER), "worker"), _SLOT), _TIMEOUT],
            unit="s", colors=(*by_worker(), limit_line("timeout")), alerts=("RequestStuck",),
        ),
        lines(
            "Heartbeat age by worker",
            "Time since each worker's watchdog last ran; about a second is well.",
            "A line that climbs is an interpreter that stands still: a C extension holds it. Past"
            " the timeout the worker is replaced and its stacks are in the log.",
            [
                Query(most(metric("worker_heartbeat_age_seconds", WORKER), "worker"), _SLOT),
                _TIMEOUT,
            ],
            unit="s", colors=(*by_worker(), limit_line("timeout")), alerts=("InterpreterBound",),
        ),
    ),
)  # fmt: skip

_QUEUES: Final = Row(
    "Queues",
    (
        lines(
            "Queue time by source",
            "Quantiles of the time from the arrival of a request's bytes to the start of the"
            " application; kernel: by its own time stamps, user: by what user space can see.",
            "kernel includes the accept queue. user alone is what unix sockets and pipelined"
            " requests have, and may hide time in the kernel.",
            [
                Query(
                    quantile(q, "request_queue_seconds", by="source"),
                    f"p{q * 100:g} {{{{source}}}}",
                )
                for q in (0.5, 0.95, 0.99)
            ],
            unit="s",
            colors=(
                override("/p50 .*/", color={"mode": "fixed", "fixedColor": palette.SKY}),
                override("/p95 .*/", color={"mode": "fixed", "fixedColor": palette.BLUE}),
                override("/p99 .*/", color={"mode": "fixed", "fixedColor": palette.PURPLE}),
                override("/.* user/", custom__lineStyle={"fill": "dash", "dash": [2, 6]}),
            ),
            alerts=("QueueTimeHigh",),
        ),
        lines(
            "Accept queue by listener",
            "Connections that wait in the kernel, and how many may.",
            "Far below the limit and back to 0 is a burst. A climb is too little capacity; at the"
            " limit clients are dropped.",
            [
                Query(most(metric("listener_backlog"), "listener"), "{{listener}}"),
                Query(most(metric("listener_backlog_limit"), "listener"), "limit of {{listener}}"),
            ],
            unit="short", colors=(limit_line("/limit of .*/"),),
            alerts=("AcceptBacklogGrowing",),
        ),
        lines(
            "Connections dropped by listener",
            "Connections per second that the kernel dropped, mostly for a full accept queue.",
            "Add capacity. If the accept queue was not full, see nstat -az for the kernel's own"
            " reasons.",
            [Query(total(rate("listener_drops_total"), "listener"), "{{listener}}")],
            unit="cps", colors=fixed({"/.*/": palette.VERMILION}), top=1,
            alerts=("ListenerDropping",),
            empty="where the server listens on unix sockets only: their clients wait instead.",
        ),
        lines(
            "Queue time before the proxy",
            "Quantiles of the time from a trusted proxy's X-Request-Start to the start of the"
            " application.",
            "Longer than Queue time by source: requests wait in the proxy or on the way.",
            [
                Query(quantile(q, "proxy_queue_seconds"), f"p{q * 100:g}")
                for q in (0.5, 0.95, 0.99)
            ],
            unit="s", colors=fixed(palette.QUANTILES),
            empty="without a trusted proxy that sends X-Request-Start.",
        ),
        lines(
            "Where the time goes",
            "Means per request: in the queue, in the application, and in the rest (reading what"
            " was still to come, and writing).",
            "queue: capacity. application: your code and what it waits for. rest: slow clients or"
            " large bodies.",
            [
                Query(mean("request_queue_seconds"), "queue"),
                Query(mean("application_seconds"), "application"),
                Query(
                    f"clamp_min({mean('request_duration_seconds')}"
                    f" - {mean('application_seconds')}, 0)",
                    "rest",
                ),
            ],
            unit="s", stack=True,
            colors=fixed(
                {"queue": palette.VERMILION, "application": palette.BLUE, "rest": palette.SKY}
            ),
        ),
        lines(
            "Requests past the timeout",
            "Per minute, what was done about requests that ran past the timeout.",
            "Each has its stack in the log. worker_replaced means that the request could not be"
            " interrupted and its worker was given up.",
            [Query(f"60 * {total(rate('request_timeouts_total'), 'action')}", "{{action}}")],
            unit="cpm", top=1,
            colors=fixed(
                {
                    "logged": palette.BLUE,
                    "interrupted": palette.GOLD,
                    "worker_replaced": palette.VERMILION,
                }
            ),
            alerts=("RequestTimeouts",),
        ),
    ),
)  # fmt: skip

_CONNECTIONS: Final = Row(
    "Connections and balance",
    (
        lines(
            "Connections by state",
            "Open connections: in the application, reading a request, writing a response, idle.",
            "Many reading: slow or hostile clients. Many writing: slow readers. Many idle is"
            " keep-alive and costs no thread.",
            [Query(total(metric("connections", WORKER), "state"), "{{state}}")],
            unit="short", colors=fixed(palette.CONNECTION_STATES), stack=True,
        ),
        lines(
            "Connections of the fullest worker",
            "Open connections of the worker that has most, below the limit for each.",
            "At the limit the worker accepts no more: raise --worker-connections, or lower"
            " --keep-alive.",
            [
                Query(
                    most(total(metric("connections", WORKER), EACH_WORKER)), "fullest worker"
                ),
                Query(most(metric("config_worker_connections")), "limit"),
            ],
            unit="short",
            colors=(*fixed({"fullest worker": palette.BLUE}), limit_line("limit")),
        ),
        lines(
            "Connections opened and closed",
            "Connections accepted per second, and closed by why.",
            "accepted near the rate of requests means that clients do not keep connections:"
            " check the proxy's keep-alive. limit, error and timeout should be rare.",
            [
                Query(total(rate("connections_accepted_total", WORKER)), "accepted"),
                Query(total(rate("connections_closed_total"), "reason"), "{{reason}}"),
            ],
            unit="cps",
            colors=fixed(
                {
                    "accepted": palette.BLUE,
                    "client": palette.SKY,
                    "keepalive_timeout": palette.TEAL,
                    "max_requests": palette.GREY,
                    "shutdown": palette.GREY,
                    "rebalance": palette.GREY,
                    "limit": palette.GOLD,
                    "timeout": palette.PURPLE,
                    "error": palette.VERMILION,
                }
            ),
        ),
        lines(
            "Requests by worker",
            "Responses per second of each worker.",
            "Workers share the load by who is free first. One far above: few clients with many"
            " requests on kept connections.",
            [Query(total(rate("worker_requests_total", WORKER), "worker"), _SLOT)],
            unit="reqps", colors=by_worker(), width=12, alerts=("WorkerImbalance",),
        ),
        lines(
            "CPU share of busy time",
            "CPU time that threads used of the time they were busy, for each worker.",
            "Near 0: requests wait for others, so more threads pay. Near 100%: they compute, so"
            " only more workers and CPUs do.",
            [
                Query(
                    f"{total(rate('request_cpu_seconds_total', WORKER), 'worker')}"
                    f" / ({_BUSY_BY_WORKER} > 0)",
                    _SLOT,
                )
            ],
            unit="percentunit", colors=by_worker(), top=1, width=12, alerts=("InterpreterBound",),
        ),
        table(
            "Configured",
            "What this instance was started with, and how many workers are wanted now.",
            "A backlog limit below the backlog asked for: raise net.core.somaxconn. A keep-alive"
            " below the load balancer's makes it reuse closed connections.",
            [
                most(metric("config_workers"), "instance"),
                most(metric("config_max_workers"), "instance"),
                most(metric("workers_target"), "instance"),
                most(metric("config_threads"), "instance"),
                most(metric("config_worker_connections"), "instance"),
                most(metric("config_backlog"), "instance"),
                f"min by (instance) ({metric('listener_backlog_limit')})",
                most(metric("config_keepalive_seconds"), "instance"),
                most(metric("config_timeout_seconds"), "instance"),
            ],
            [
                column("Value #A", "Workers", "none", width=136),
                column("Value #B", "At most", "none", width=136),
                column("Value #C", "Wanted", "none", width=136),
                column("Value #D", "Threads", "none", width=136),
                column("Value #E", "Connections", "none", width=136),
                column("Value #F", "Backlog", "none", width=136),
                column("Value #G", "Limit", "none", width=136),
                column("Value #H", "Keep-alive", "s", width=136),
                column("Value #I", "Timeout", "s", width=136),
            ],
            width=24, height=4,
        ),
    ),
)  # fmt: skip

WORKER_SATURATION: Final = Dashboard(
    SATURATION_UID,
    "gthreadsrv / Worker saturation",
    "Why requests of one instance wait: threads, queues, connections and balance of its workers.",
    (_NOW, _THREADS, _QUEUES, _CONNECTIONS),
    one_instance=True,
)
