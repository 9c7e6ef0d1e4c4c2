"""Exporter: whether the numbers on the other dashboards can be trusted, and what they cost."""

from __future__ import annotations

from typing import Final

from grafana.source import palette
from grafana.source.frame import EXPORTER_UID, Dashboard, Row
from grafana.source.panels import (
    Query,
    column,
    falling,
    fixed,
    lines,
    rising,
    stat,
    table,
)
from grafana.source.queries import INSTANCE, SCOPE, increase, metric, most, rate, total

_AGE: Final = f"time() - {metric('start_time_seconds')}"
_RELOADED: Final = f"time() - {metric('last_reload_success_timestamp_seconds')}"

_NOW: Final = Row(
    "Can the numbers be trusted?",
    (
        stat(
            "Targets up",
            "Share of the selected jobs' targets that Prometheus can scrape.",
            "The exporter answers while every thread is busy, so a target that is down is a"
            " process that is gone or a port that is not reached.",
            f"avg(up{{{SCOPE}}})",
            unit="percentunit", limits=falling(0.5, 1), decimals=0, width=4, alerts=("Down",),
        ),
        stat(
            "Collecting, slowest",
            "Time that the slowest instance needs to collect its answer.",
            "Above half a second: too many files of the application's metrics (below), or no CPU.",
            most(metric("scrape_duration_seconds")),
            unit="s", limits=rising(0.5, 2), width=4,
        ),
        stat(
            "Scrape errors",
            "What could not be exported in the chosen time.",
            "See Scrape errors by source; the log says it in words.",
            f"round({total(increase('scrape_errors_total'))})",
            unit="short", limits=rising(1, 100), decimals=0, width=4,
        ),
        stat(
            "Series, most",
            "Samples in the largest answer, the application's own included.",
            "The server has under a thousand and never grows. Thousands more are the"
            " application's: look for labels with ids in them.",
            f"max(scrape_samples_scraped{{{SCOPE}}})",
            unit="none", limits=rising(5000, 20000), decimals=0, width=4,
        ),
        stat(
            "App's files, most",
            "Files of the application's own metrics on the instance that has most.",
            "Bounded by workers. Growth is an application that forks and counts in its children.",
            most(metric("app_metric_files")),
            unit="short", limits=rising(100, 1000), decimals=0, width=4,
            alerts=("MetricFilesGrowing",),
        ),
        stat(
            "App's bytes, most",
            "Bytes used in these files.",
            "Kept in memory (/dev/shm) where possible, so it counts as memory: fewer labels.",
            most(metric("app_metric_bytes")),
            unit="bytes", width=4,
        ),
    ),
)  # fmt: skip

_COST: Final = Row(
    "Cost of a scrape",
    (
        lines(
            "Collecting by instance",
            "Time that the exporter needs to collect an answer.",
            "Grows with workers and with the application's files. It costs the exporter process,"
            " never a request's thread.",
            [Query(most(metric("scrape_duration_seconds"), INSTANCE), "{{instance}}")],
            unit="s", limits=rising(0.5, 2),
        ),
        lines(
            "Scrapes as Prometheus sees them",
            "Time from Prometheus' request to the end of the answer.",
            "Much longer than collecting: the network, or an exporter that waits for a CPU.",
            [Query(f"max by ({INSTANCE}) (scrape_duration_seconds{{{SCOPE}}})", "{{instance}}")],
            unit="s", limits=rising(0.5, 2), alerts=("Down",),
        ),
        lines(
            "Series by instance",
            "Samples in each answer.",
            "Flat is right: slots bound the server's series whatever is restarted. A climb is the"
            " application's labels.",
            [Query(f"max by ({INSTANCE}) (scrape_samples_scraped{{{SCOPE}}})", "{{instance}}")],
            unit="short", limits=rising(5000, 20000),
        ),
    ),
)  # fmt: skip

_FILES: Final = Row(
    "Errors and files",
    (
        lines(
            "Scrape errors by source",
            "Errors per minute: app_file is a torn file of the application's metrics, app_metric"
            " a name that is the server's, the rest a source that answered nonsense.",
            "app_file now and then is a worker that was killed. app_metric: rename the metric."
            " proc, kernel, cgroup: say which kernel in a bug report.",
            [Query(f"60 * {total(rate('scrape_errors_total'), 'source')}", "{{source}}")],
            unit="cpm", top=1,
            colors=fixed(
                {
                    "app_file": palette.GOLD,
                    "app_metric": palette.PURPLE,
                    "proc": palette.BLUE,
                    "kernel": palette.VERMILION,
                    "cgroup": palette.TEAL,
                }
            ),
        ),
        lines(
            "Files of the application's metrics",
            "How many there are on each instance.",
            "One set for each worker slot. A climb is an application that forks and counts in its"
            " children: see metrics/README.md.",
            [Query(most(metric("app_metric_files"), INSTANCE), "{{instance}}")],
            unit="short", limits=rising(100, 1000), top=10, alerts=("MetricFilesGrowing",),
        ),
        lines(
            "Bytes of the application's metrics",
            "Bytes used in these files on each instance.",
            "Every set of label values costs bytes for ever: labels with few values only.",
            [Query(most(metric("app_metric_bytes"), INSTANCE), "{{instance}}")],
            unit="bytes", limits=rising(32 * 2**20, 256 * 2**20), top=2**20,
            alerts=("MetricFilesGrowing",),
        ),
        table(
            "Builds",
            "What each instance is: version, Python, parser; its age; and how long ago it was"
            " last reloaded.",
            "Different versions for long are a rollout that stopped. h11 instead of httptools"
            " costs CPU: install gthreadsrv[fast].",
            [
                most(metric("build_info"), "instance, version, python, parser, worker_class"),
                most(_AGE, "instance"),
                most(_RELOADED, "instance"),
            ],
            [
                column("instance", "Instance", width=190),
                column("version", "Version"),
                column("python", "Python"),
                column("parser", "Parser"),
                column("worker_class", "Class"),
                column("Value #B", "Age", "s", decimals=0),
                column("Value #C", "Reloaded ago", "s", decimals=0),
            ],
            sort="Instance", height=7,
        ),
    ),
)  # fmt: skip

EXPORTER: Final = Dashboard(
    EXPORTER_UID,
    "gthreadsrv / Exporter",
    "Whether the numbers can be trusted, and what it costs to have them.",
    (_NOW, _COST, _FILES),
)
