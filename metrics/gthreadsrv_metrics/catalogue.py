"""Every metric the server exports, once: name, type, labels, what it answers, how to ask.

One table. The collector takes names, types and help from it, the README reference is
written from it, and tests hold dashboards and alerts to it. A metric is added here first.
Plain data: no prometheus_client, no code that measures.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from gthreadsrv_metrics import labels

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["BY_NAME", "CATALOGUE", "PREFIX", "Metric"]

PREFIX: Final = "gthreadsrv_"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. ``name`` is without the prefix and, for a counter, with ``_total``."""

    name: str
    type: str  # gauge, counter or histogram
    help: str
    promql: str  # the query a reader would use it in
    labels: tuple[str, ...] = ()
    # Label -> all its values, each exported from the start. A label without an entry is
    # bounded by something else: worker slots, listeners, methods x codes seen.
    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    bounds: tuple[float, ...] = ()  # of a histogram

    @property
    def full_name(self) -> str:
        """The name of its series (without a histogram's suffixes)."""
        return PREFIX + self.name

    @property
    def series(self) -> tuple[str, ...]:
        """The names under which samples of it appear."""
        if self.type == "histogram":
            return tuple(self.full_name + suffix for suffix in ("_bucket", "_sum", "_count"))
        return (self.full_name,)


_WORKER: Final = ("worker",)


def _gauge(name: str, text: str, promql: str, *names: str, **values: tuple[str, ...]) -> Metric:
    return Metric(name, "gauge", text, promql, names, values)


def _counter(name: str, text: str, promql: str, *names: str, **values: tuple[str, ...]) -> Metric:
    return Metric(name, "counter", text, promql, names, values)


def _histogram(
    name: str,
    text: str,
    promql: str,
    bounds: tuple[float, ...],
    **values: tuple[str, ...],
) -> Metric:
    return Metric(name, "histogram", text, promql, tuple(values), values, bounds)


CATALOGUE: Final = (
    # The server.
    _gauge(
        "build_info",
        "Always 1; the labels say which build serves.",
        "count by (version, python) (gthreadsrv_build_info)",
        "version", "python", "parser", "worker_class",
    ),
    _gauge(
        "start_time_seconds",
        "When the master started, in unix seconds.",
        "time() - gthreadsrv_start_time_seconds",
    ),
    _gauge(
        "config_workers",
        "Workers as configured; of a range (2:8) the fewest.",
        "gthreadsrv_workers_target - gthreadsrv_config_workers",
    ),
    _gauge(
        "config_max_workers",
        "The most workers that autoscaling may want; without it, config_workers.",
        "gthreadsrv_workers_target == on (instance) gthreadsrv_config_max_workers",
    ),
    _gauge(
        "config_threads",
        "Threads of each worker as configured.",
        "gthreadsrv_config_workers * gthreadsrv_config_threads",
    ),
    _gauge(
        "config_worker_connections",
        "Connections a worker holds at most.",
        "max by (instance, worker) (sum without (state) (gthreadsrv_connections))"
        " / on (instance) group_left gthreadsrv_config_worker_connections",
    ),
    _gauge(
        "config_backlog",
        "Accept queue length asked for; the kernel may cap it (see listener_backlog_limit).",
        "gthreadsrv_listener_backlog_limit < on (instance) group_left gthreadsrv_config_backlog",
    ),
    _gauge(
        "config_keepalive_seconds",
        "How long an idle connection is kept.",
        "gthreadsrv_config_keepalive_seconds < 61",
    ),
    _gauge(
        "config_timeout_seconds",
        "How long a request may run before the server acts.",
        "gthreadsrv_oldest_request_age_seconds"
        " > on (instance) group_left gthreadsrv_config_timeout_seconds",
    ),
    # The fleet.
    _gauge(
        "workers",
        "Worker processes by state.",
        'gthreadsrv_workers{state="ready"} / on (instance) gthreadsrv_workers_target',
        "state",
        state=labels.LIVE_STATES,
    ),
    _gauge(
        "workers_target",
        "Workers wanted now; autoscaling moves it.",
        "max_over_time(gthreadsrv_workers_target[1h])",
    ),
    _gauge(
        "worker_up",
        "Whether a process has this slot (0: used before, free now).",
        "sum by (instance) (gthreadsrv_worker_up)",
        *_WORKER,
    ),
    _gauge(
        "worker_start_time_seconds",
        "When the slot's process was started, in unix seconds.",
        "time() - gthreadsrv_worker_start_time_seconds",
        *_WORKER,
    ),
    _gauge(
        "worker_generation",
        "The generation of the slot's process; a reload starts a new one.",
        "count by (instance) (count by (instance, worker) (gthreadsrv_worker_generation)) > 1",
        *_WORKER,
    ),
    _counter(
        "worker_spawns_total",
        "Worker processes started, by why.",
        "sum by (reason) (increase(gthreadsrv_worker_spawns_total[1h]))",
        "reason",
        reason=labels.SPAWN_REASONS,
    ),
    _counter(
        "worker_exits_total",
        "Worker processes reaped, by why they went.",
        'increase(gthreadsrv_worker_exits_total{reason=~"crash|signal|oom|heartbeat"}[15m]) > 0',
        "reason",
        reason=labels.EXIT_REASONS,
    ),
    _histogram(
        "worker_boot_duration_seconds",
        "From a worker's fork to its readiness, the application's import included.",
        "rate(gthreadsrv_worker_boot_duration_seconds_sum[1h])"
        " / rate(gthreadsrv_worker_boot_duration_seconds_count[1h])",
        labels.BOOT_BOUNDS,
    ),
    _gauge(
        "worker_heartbeat_age_seconds",
        "Since the worker's watchdog last ran; grows while something holds the interpreter.",
        "max by (worker) (gthreadsrv_worker_heartbeat_age_seconds) > 5",
        *_WORKER,
    ),
    _counter(
        "reloads_total",
        "Reloads by result; a failed one leaves the old workers serving.",
        'increase(gthreadsrv_reloads_total{result="failed"}[1h]) > 0',
        "result",
        result=labels.RELOAD_RESULTS,
    ),
    _gauge(
        "last_reload_success_timestamp_seconds",
        "When a reload last succeeded, in unix seconds; absent before the first.",
        "time() - gthreadsrv_last_reload_success_timestamp_seconds",
    ),
    _counter(
        "scale_events_total",
        "Moves of the wanted number of workers.",
        "sum by (direction) (increase(gthreadsrv_scale_events_total[1h]))",
        "direction",
        direction=labels.SCALE_DIRECTIONS,
    ),
    _counter(
        "scale_refusals_total",
        "Spells in which more workers were wanted and not started, by what is full: the"
        " CPU (the container's, or the machine's by others' doing), the container's memory, or the"
        " number of workers itself.",
        "sum by (reason) (increase(gthreadsrv_scale_refusals_total[1h])) > 0",
        "reason",
        reason=labels.SCALE_REFUSALS,
    ),
    # Saturation.
    _gauge(
        "threads",
        "Threads of the worker's pool.",
        "sum by (instance) (gthreadsrv_threads)",
        *_WORKER,
    ),
    _gauge(
        "threads_busy",
        "Threads that are serving a request.",
        "sum by (instance) (gthreadsrv_threads_busy) / sum by (instance) (gthreadsrv_threads)",
        *_WORKER,
    ),
    _gauge(
        "thread_utilization_ratio",
        "Busy share of the ready workers' thread time over the last 15 s (a younger worker's"
        " life, a silent one's time since its last heartbeat before that).",
        "avg(gthreadsrv_thread_utilization_ratio)",
    ),
    _counter(
        "thread_busy_seconds_total",
        "Thread time spent serving requests, running ones included: exact over any window.",
        "sum by (instance) (rate(gthreadsrv_thread_busy_seconds_total[1m]))"
        " / sum by (instance) (gthreadsrv_threads)",
        *_WORKER,
    ),
    _counter(
        "saturated_seconds_total",
        "Time during which every thread of the worker was busy.",
        "rate(gthreadsrv_saturated_seconds_total[1m])",
        *_WORKER,
    ),
    _histogram(
        "request_queue_seconds",
        "From the arrival of a request's bytes to the start of the application; kernel: by the"
        " kernel's own time stamps, user: by what user space can see.",
        "histogram_quantile(0.99, sum by (le)"
        ' (rate(gthreadsrv_request_queue_seconds_bucket{source="kernel"}[5m])))',
        labels.QUEUE_BOUNDS,
        source=labels.QUEUE_SOURCES,
    ),
    _histogram(
        "proxy_queue_seconds",
        "From a trusted proxy's X-Request-Start to the start of the application.",
        "histogram_quantile(0.99, sum by (le) (rate(gthreadsrv_proxy_queue_seconds_bucket[5m])))",
        labels.QUEUE_BOUNDS,
    ),
    _gauge(
        "listener_backlog",
        "Connections in the accept queue, waiting for a worker.",
        "gthreadsrv_listener_backlog / gthreadsrv_listener_backlog_limit",
        "listener",
    ),
    _gauge(
        "listener_backlog_limit",
        "Length of the accept queue at which the kernel refuses more.",
        "gthreadsrv_listener_backlog_limit",
        "listener",
    ),
    _counter(
        "listener_drops_total",
        "Connections the kernel dropped at the listener, mostly for a full accept queue.",
        "rate(gthreadsrv_listener_drops_total[5m]) > 0",
        "listener",
    ),
    # Connections and requests.
    _gauge(
        "connections",
        "Open connections by state: reading a request or in a TLS handshake, in the application,"
        " writing, idle.",
        "sum by (state) (gthreadsrv_connections)",
        "worker", "state",
        state=labels.CONNECTION_STATES,
    ),
    _counter(
        "connections_accepted_total",
        "Connections accepted.",
        "sum(rate(gthreadsrv_connections_accepted_total[5m]))"
        " / sum(rate(gthreadsrv_requests_total[5m]))",
        *_WORKER,
    ),
    _counter(
        "connections_closed_total",
        "Connections closed, by why.",
        "sum by (reason) (rate(gthreadsrv_connections_closed_total[5m]))",
        "reason",
        reason=labels.CLOSE_REASONS,
    ),
    _counter(
        "requests_total",
        "Responses given, by method and status code (a class where a thread has met too many"
        " different pairs).",
        'sum(rate(gthreadsrv_requests_total{code=~"5.."}[5m]))'
        " / sum(rate(gthreadsrv_requests_total[5m]))",
        "method", "code",
    ),
    _counter(
        "worker_requests_total",
        "Responses given by each worker.",
        "max(rate(gthreadsrv_worker_requests_total[5m]))"
        " / avg(rate(gthreadsrv_worker_requests_total[5m]))",
        *_WORKER,
    ),
    _histogram(
        "request_duration_seconds",
        "From a request's first byte read to its response's last byte handed to the kernel.",
        "histogram_quantile(0.95, sum by (le)"
        " (rate(gthreadsrv_request_duration_seconds_bucket[5m])))",
        labels.DURATION_BOUNDS,
        code_class=labels.CODE_CLASSES,
    ),
    _histogram(
        "application_seconds",
        "Time in the WSGI callable and its iterable.",
        "rate(gthreadsrv_application_seconds_sum[5m])"
        " / rate(gthreadsrv_application_seconds_count[5m])",
        labels.DURATION_BOUNDS,
    ),
    _counter(
        "request_cpu_seconds_total",
        "CPU used by the pool's threads, as of the worker's last heartbeat.",
        "sum(rate(gthreadsrv_request_cpu_seconds_total[5m]))"
        " / sum(rate(gthreadsrv_thread_busy_seconds_total[5m]))",
        *_WORKER,
    ),
    _gauge(
        "oldest_request_age_seconds",
        "Age of the longest running request; 0 when none runs.",
        "max by (worker) (gthreadsrv_oldest_request_age_seconds)",
        *_WORKER,
    ),
    _counter(
        "request_timeouts_total",
        "What was done about requests past the timeout.",
        "sum by (action) (increase(gthreadsrv_request_timeouts_total[15m]))",
        "action",
        action=labels.TIMEOUT_ACTIONS,
    ),
    _counter(
        "request_errors_total",
        "Requests that went wrong, by how; tls: connections on which none could be made.",
        "sum by (reason) (rate(gthreadsrv_request_errors_total[5m]))",
        "reason",
        reason=labels.ERROR_REASONS,
    ),
    _counter(
        "request_body_bytes_total",
        "Bytes of request bodies received.",
        "rate(gthreadsrv_request_body_bytes_total[5m])",
    ),
    _counter(
        "response_body_bytes_total",
        "Bytes of response bodies sent.",
        "rate(gthreadsrv_response_body_bytes_total[5m])",
    ),
    # What the workers use and wait for.
    _counter(
        "interpreter_wait_seconds_total",
        "How much later than asked the watchdog ran: waiting for the interpreter or a CPU.",
        "rate(gthreadsrv_interpreter_wait_seconds_total[5m])",
        *_WORKER,
    ),
    _counter(
        "worker_cpu_seconds_total",
        "CPU used by the worker and by children it has waited for.",
        "sum by (worker) (rate(gthreadsrv_worker_cpu_seconds_total[5m]))",
        "worker", "mode",
        mode=labels.CPU_MODES,
    ),
    _counter(
        "worker_runqueue_wait_seconds_total",
        "Time the worker's threads were runnable without a CPU, as of its last heartbeat.",
        "rate(gthreadsrv_worker_runqueue_wait_seconds_total[5m])",
        *_WORKER,
    ),
    _gauge(
        "worker_resident_memory_bytes",
        "Memory the worker has in RAM, pages it shares included in full.",
        "sum by (instance) (gthreadsrv_worker_resident_memory_bytes)",
        *_WORKER,
    ),
    _gauge(
        "worker_proportional_memory_bytes",
        "The worker's memory with shared pages divided among their users; measured every 10 s.",
        "sum by (instance) (gthreadsrv_worker_proportional_memory_bytes)"
        " / on (instance) gthreadsrv_cgroup_memory_limit_bytes",
        *_WORKER,
    ),
    _gauge(
        "worker_open_fds",
        "Open file descriptors.",
        "gthreadsrv_worker_open_fds / gthreadsrv_worker_max_fds",
        *_WORKER,
    ),
    _gauge(
        "worker_max_fds",
        "File descriptors the worker may have open.",
        "gthreadsrv_worker_open_fds / gthreadsrv_worker_max_fds > 0.8",
        *_WORKER,
    ),
    _counter(
        "worker_gc_pause_seconds_total",
        "Time spent in Python's garbage collector, during which no thread runs.",
        "rate(gthreadsrv_worker_gc_pause_seconds_total[5m])",
        *_WORKER,
    ),
    _counter(
        "worker_gc_collections_total",
        "Garbage collections by generation.",
        'rate(gthreadsrv_worker_gc_collections_total{generation="2"}[5m])',
        "worker", "generation",
        generation=labels.GC_GENERATIONS,
    ),
    # The container.
    _gauge(
        "cgroup_cpu_limit_cores",
        "CPUs the container may use; absent without a limit.",
        "sum by (instance) (rate(gthreadsrv_worker_cpu_seconds_total[5m]))"
        " / on (instance) gthreadsrv_cgroup_cpu_limit_cores",
    ),
    _counter(
        "cgroup_cpu_throttled_seconds_total",
        "CPU time the container wanted and was refused.",
        "rate(gthreadsrv_cgroup_cpu_throttled_seconds_total[5m])",
    ),
    _counter(
        "cgroup_cpu_throttled_periods_total",
        "Scheduling periods in which the container was stopped at its limit.",
        "rate(gthreadsrv_cgroup_cpu_throttled_periods_total[5m])",
    ),
    _gauge(
        "cgroup_memory_usage_bytes",
        "Memory charged to the control group whose limit is nearest.",
        "gthreadsrv_cgroup_memory_usage_bytes / gthreadsrv_cgroup_memory_limit_bytes",
    ),
    _gauge(
        "cgroup_memory_limit_bytes",
        "Memory at which that group is out of memory; absent without a limit.",
        "gthreadsrv_cgroup_memory_usage_bytes / gthreadsrv_cgroup_memory_limit_bytes > 0.9",
    ),
    _counter(
        "cgroup_oom_kills_total",
        "Processes of the container killed for lack of memory.",
        "increase(gthreadsrv_cgroup_oom_kills_total[1h]) > 0",
    ),
    # The exporter itself.
    _gauge(
        "scrape_duration_seconds",
        "How long collecting this answer took.",
        "max_over_time(gthreadsrv_scrape_duration_seconds[1h])",
    ),
    _counter(
        "scrape_errors_total",
        "What could not be exported: app_file: a torn file of the application's metrics;"
        " app_metric: one whose name is the server's, or that cannot be rendered; proc, kernel,"
        " cgroup: a source that answered nonsense.",
        "sum by (source) (increase(gthreadsrv_scrape_errors_total[1h]))",
        "source",
        source=labels.SCRAPE_SOURCES,
    ),
    _gauge(
        "app_metric_files",
        "Files of the application's own metrics.",
        "deriv(gthreadsrv_app_metric_files[6h]) > 0",
    ),
    _gauge(
        "app_metric_bytes",
        "Bytes used in these files.",
        "gthreadsrv_app_metric_bytes",
    ),
)  # fmt: skip

BY_NAME: Final = {metric.name: metric for metric in CATALOGUE}
