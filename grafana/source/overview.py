"""Overview: is the fleet well? One row of numbers says yes or no, the rest says where not."""

from __future__ import annotations

from typing import Final

from grafana.source import palette
from grafana.source.frame import (
    EXPORTER_UID,
    OVERVIEW_UID,
    RESOURCES_UID,
    SATURATION_UID,
    Dashboard,
    Row,
)
from grafana.source.panels import (
    Query,
    column,
    drill_down,
    falling,
    fixed,
    limit_line,
    lines,
    rising,
    stat,
    table,
)
from grafana.source.queries import (
    INSTANCE,
    SCOPE,
    UNPLANNED_EXITS,
    backlog,
    metric,
    most,
    quantile,
    rate,
    ready,
    saturated,
    server_errors,
    total,
    unplanned_exits,
    utilisation,
)

_TO_INSTANCE: Final = drill_down(
    "Worker saturation of this instance",
    SATURATION_UID,
    instance="var-instance=${__data.fields.instance}",
)

# An alert on a sum over instances carries no instance.
_FIRING: Final = (
    'ALERTS{alertname=~"Gthreadsrv.*", alertstate="firing", job=~"$job|", instance=~"$instance|"}'
)

_WELL: Final = Row(
    "Is it well?",
    (
        stat(
            "Down",
            "Targets of the selected jobs that Prometheus cannot scrape now.",
            "Look at the process and its last log lines. If it runs, its metrics port does not"
            " answer: see Exporter.",
            f"count(up{{{SCOPE}}} == 0) or vector(0)",
            unit="short", limits=rising(1, 2), to=EXPORTER_UID, alerts=("Down",),
        ),
        stat(
            "Ready",
            "Workers that are ready, of those wanted.",
            "Below 100% for longer than a boot takes: the log says why workers end or do not boot;"
            " Resources has their exits by reason.",
            ready(),
            unit="percentunit", limits=falling(0.5, 1), decimals=0, to=RESOURCES_UID,
            alerts=("NoReadyWorkers", "WorkerCrashLoop"),
        ),
        stat(
            "Requests",
            "Responses given per second, of all selected instances.",
            "A sudden fall with clients still there: look to the right, then at what stands in"
            " front of the server.",
            total(rate("requests_total")),
            unit="reqps", to=SATURATION_UID,
        ),
        stat(
            "Errors",
            "Share of responses that are 5xx.",
            "See which codes and which instances below. 500 is the application's: its traceback is"
            " in the log. 503 is the server's own.",
            server_errors(),
            unit="percentunit", limits=rising(0.001, 0.01), decimals=2,
            alerts=("HighErrorRate",),
        ),
        stat(
            "p95",
            "19 of 20 requests are answered within this time, queue time not included.",
            "Compare with Queue time: if that is short, the application itself is slow. The limits"
            " (0.5 s, 2 s) are a guess; put your own goal here.",
            quantile(0.95, "request_duration_seconds"),
            unit="s", limits=rising(0.5, 2), none="idle", to=SATURATION_UID,
        ),
        stat(
            "Busiest",
            "Share of thread time that went into requests, on the instance where it is largest: a"
            " mean would hide it.",
            "From 70% on, bursts have to wait; from 90% on, everybody. Worker saturation says"
            " whether more threads, more workers or a faster application helps.",
            most(utilisation(INSTANCE)),
            unit="percentunit", limits=rising(0.7, 0.9), decimals=0, to=SATURATION_UID,
            alerts=("ThreadPoolSaturated",),
        ),
        stat(
            "Queue p99",
            "99 of 100 requests wait less than this between the arrival of their bytes and the"
            " start of the application.",
            "This is time that users wait for nothing. Add threads if the CPU is idle, workers or"
            " CPUs if it is not.",
            quantile(0.99, "request_queue_seconds"),
            unit="s", limits=rising(0.1, 0.5), none="idle", to=SATURATION_UID,
            alerts=("QueueTimeHigh",),
        ),
        stat(
            "Exits",
            "Workers in the chosen time that crashed, were killed, hung or did not boot.",
            "Resources has the reasons; the log has a line for each with its last request.",
            f"round({unplanned_exits()})",
            unit="short", limits=rising(1, 5), decimals=0, to=RESOURCES_UID,
            alerts=("WorkerCrashLoop", "WorkerOOMKilled"),
        ),
        table(
            "Instances",
            "One line for each instance: its age, workers, load and state now.",
            "Look for the coloured cell, then click the instance for its Worker saturation.",
            [
                total(f"time() - {metric('start_time_seconds')}", "instance"),
                ready("instance"),
                total(rate("requests_total"), "instance"),
                server_errors("instance"),
                utilisation("instance"),
                quantile(0.99, "request_queue_seconds", by="instance"),
                most(metric("oldest_request_age_seconds"), "instance"),
                f"round({unplanned_exits('instance')})",
            ],
            [
                column("instance", "Instance", width=190, link=_TO_INSTANCE),
                column("Value #A", "Age", "s", decimals=0, width=128),
                column("Value #B", "Ready", "percentunit", falling(0.5, 1), decimals=0, width=128),
                column("Value #C", "Requests", "reqps", width=128),
                column("Value #D", "5xx", "percentunit", rising(0.001, 0.01), width=128),
                column("Value #E", "Busy", "percentunit", rising(0.7, 0.9), decimals=0, width=128),
                column("Value #F", "Queue p99", "s", rising(0.1, 0.5), width=128),
                column("Value #G", "Oldest", "s", rising(10, 30), width=128),
                column("Value #H", "Exits", "short", rising(1, 5), decimals=0, width=128),
            ],
            sort="Busy", descending=True, height=6, alerts=("RequestStuck",),
        ),
    ),
)  # fmt: skip

_REQUESTS: Final = Row(
    "Requests and answers",
    (
        lines(
            "Responses by class",
            "Responses per second by class of status code, one on the other.",
            "4xx that rise alone are clients' (or a broken link of yours); 5xx are yours. Compare"
            " with Restart and Reload marks.",
            [Query(total(rate("request_duration_seconds_count"), "code_class"), "{{code_class}}")],
            unit="reqps", colors=fixed(palette.CODE_CLASSES), stack=True,
            alerts=("HighErrorRate",),
        ),
        lines(
            "Request duration",
            "Quantiles of the time from a request's first byte read to its response's last byte"
            " handed to the kernel. Points are single requests that carried a trace.",
            "Click a point to open its trace. If p99 rises alone, few requests are slow: see the"
            " oldest request. If p50 rises with it, everything is: see threads and CPU.",
            [
                Query(quantile(q, "request_duration_seconds"), f"p{q * 100:g}", exemplar=True)
                for q in (0.5, 0.95, 0.99)
            ],
            unit="s", colors=fixed(palette.QUANTILES),
        ),
        lines(
            "5xx share by instance",
            "Share of each instance's responses that are 5xx.",
            "One instance alone: take it out and look at its log. All of them: the last release,"
            " or something they all depend on.",
            [Query(server_errors(INSTANCE), "{{instance}}")],
            unit="percentunit", limits=rising(0.001, 0.01), top=0.02, alerts=("HighErrorRate",),
        ),
        lines(
            "Requests that went wrong",
            "Requests per second by what was wrong with them.",
            "application_error: a traceback in the log. client_disconnect and read_timeout: slow or"
            " impatient clients. The rest was refused by the server.",
            [Query(total(rate("request_errors_total"), "reason"), "{{reason}}")],
            unit="reqps", top=1,
            colors=fixed(
                {
                    "application_error": palette.VERMILION,
                    "client_disconnect": palette.SKY,
                    "read_timeout": palette.GOLD,
                    "bad_request": palette.BLUE,
                    "headers_too_large": palette.TEAL,
                    "body_too_large": palette.PURPLE,
                    "tls": palette.GREY,
                    "proxy_protocol": palette.GREY,
                }
            ),
        ),
        lines(
            "Bodies",
            "Bytes per second of request bodies received and response bodies sent.",
            "A rise without more requests: look for large downloads or uploads; they belong to a"
            " proxy or an object store.",
            [
                Query(total(rate("request_body_bytes_total")), "received"),
                Query(total(rate("response_body_bytes_total")), "sent"),
            ],
            unit="Bps", colors=fixed({"received": palette.GOLD, "sent": palette.BLUE}),
        ),
        table(
            "Responses by method and code",
            "Responses per second now.",
            "Look for codes that should not be there: 408, 413, 414 and 431 are limits of the"
            " server, 500 the application's exceptions, 503 a server on its way out.",
            [f"sort_desc({total(rate('requests_total'), 'method, code')} > 0)"],
            [
                column("method", "Method", width=110),
                column("code", "Code", width=90),
                column("Value", "Rate", "reqps"),
            ],
            sort="Rate", descending=True, width=8,
        ),
    ),
)  # fmt: skip

_SATURATION: Final = Row(
    "Saturation",
    (
        lines(
            "Threads busy by instance",
            "Share of each instance's thread time that went into requests.",
            "All high: too little capacity. One high: its load balancer favours it, or it is slow:"
            " open it in Worker saturation.",
            [Query(utilisation(INSTANCE), "{{instance}}")],
            unit="percentunit", limits=rising(0.7, 0.9), top=1,
            alerts=("ThreadPoolSaturated",),
        ),
        lines(
            "Time without a free thread",
            "Share of workers' time in which every thread of the worker was busy.",
            "Anything above 0 means that requests waited. Add threads while CPU is left, else"
            " workers or instances.",
            [Query(saturated(INSTANCE), "{{instance}}")],
            unit="percentunit", limits=rising(0.1, 0.5), alerts=("ThreadPoolSaturated",),
        ),
        lines(
            "Queue time p99 by instance",
            "99 of 100 requests wait less than this before the application starts.",
            "Rises before durations do. Compare with the two panels on the left: without"
            " saturation it is the CPU or the interpreter (see Resources).",
            [Query(quantile(0.99, "request_queue_seconds", by=INSTANCE), "{{instance}}")],
            unit="s", limits=rising(0.1, 0.5), alerts=("QueueTimeHigh",),
        ),
        lines(
            "Accept queue filled",
            "Fullest accept queue of each instance, of its limit.",
            "Above 0 for long: no worker has a free thread to accept with. At 100% the kernel"
            " drops connections.",
            [Query(most(backlog(), INSTANCE), "{{instance}}")],
            unit="percentunit", limits=rising(0.1, 0.8), top=0.01,
            alerts=("AcceptBacklogGrowing",),
        ),
        lines(
            "Connections dropped",
            "Connections per second that the kernel dropped at a listener.",
            "Users see refused or timed-out connections. Add capacity; a longer --backlog only"
            " makes them wait.",
            [Query(total(rate("listener_drops_total"), INSTANCE), "{{instance}}")],
            unit="cps", limits=rising(0.01, 1), top=1, alerts=("ListenerDropping",),
            empty="where the server listens on unix sockets only: their clients wait instead.",
        ),
        lines(
            "Workers by state",
            "Workers ready, and wanted, of all instances.",
            "The gap is workers that boot or do not. During a reload there are more than wanted"
            " for a moment.",
            [
                Query(total(metric("workers_target")), "wanted"),
                Query(total(metric("workers", 'state="ready"')), "ready"),
                Query(total(metric("workers", 'state="booting"')), "booting"),
                Query(total(metric("workers", 'state="draining"')), "draining"),
            ],
            unit="short",
            colors=(
                *fixed(
                    {
                        "ready": palette.BLUE,
                        "booting": palette.GOLD,
                        "draining": palette.PURPLE,
                    }
                ),
                limit_line("wanted"),
            ),
            alerts=("NoReadyWorkers",),
        ),
    ),
)  # fmt: skip

_CHANGES: Final = Row(
    "Changes and alerts",
    (
        lines(
            "Unplanned exits by reason",
            "Workers per minute that crashed, were killed, hung or did not boot.",
            "The reason names the entry in the log. A steady line is a crash loop: the server backs"
            " off by itself, the cause does not go by itself.",
            [
                Query(
                    f"60 * {total(rate('worker_exits_total', UNPLANNED_EXITS), 'reason')}",
                    "{{reason}}",
                )
            ],
            unit="cpm",
            colors=fixed(
                {
                    "crash": palette.VERMILION,
                    "signal": palette.GOLD,
                    "heartbeat": palette.PURPLE,
                    "request_timeout": palette.SKY,
                    "oom": palette.GREY,
                    "boot_error": palette.TEAL,
                }
            ),
            alerts=("WorkerCrashLoop",), height=7,
        ),
        lines(
            "Reloads and moves of scale",
            "Reloads by result and moves of the wanted number of workers, per minute.",
            "A failed reload left the old workers serving the old code: the log says why the new"
            " ones did not boot. A refusal names what is full: CPU, memory, or the limit of"
            " --workers itself.",
            [
                Query(f"60 * {total(rate('reloads_total'), 'result')}", "reload {{result}}"),
                Query(
                    f"60 * {total(rate('scale_events_total'), 'direction')}", "scale {{direction}}"
                ),
                Query(
                    f"60 * {total(rate('scale_refusals_total'), 'reason')}",
                    "no more: {{reason}} full",
                ),
            ],
            unit="cpm",
            colors=fixed(
                {
                    "reload ok": palette.BLUE,
                    "reload failed": palette.VERMILION,
                    "scale up": palette.GOLD,
                    "scale down": palette.PURPLE,
                    "no more: cpu full": palette.TEAL,
                    "no more: memory full": palette.SKY,
                    "no more: limit full": palette.GREY,
                }
            ),
            alerts=("ReloadFailed",), height=7,
        ),
        table(
            "Alerts that fire",
            "The server's alerts that Prometheus holds to be firing now.",
            "Open the runbook at the alert's name: it says what it means and what to do.",
            [
                most(_FIRING, "alertname, instance, severity"),
            ],
            [
                column("severity", "Severity", width=90),
                column("alertname", "Alert"),
                column("instance", "Instance"),
            ],
            width=8, height=7,
            empty="when nothing fires, or while metrics/rules is not loaded in Prometheus.",
        ),
    ),
)  # fmt: skip

OVERVIEW: Final = Dashboard(
    OVERVIEW_UID,
    "gthreadsrv / Overview",
    "Whether a fleet of gthreadsrv is well, at a glance; then where it is not.",
    (_WELL, _REQUESTS, _SATURATION, _CHANGES),
)
