"""Resources: what workers use and wait for, and why they were replaced."""

from __future__ import annotations

from typing import Final

from grafana.source import palette
from grafana.source.frame import RESOURCES_UID, Dashboard, Row
from grafana.source.panels import (
    Query,
    by_worker,
    column,
    fixed,
    limit_line,
    lines,
    rising,
    stat,
    table,
    thresholds,
)
from grafana.source.queries import (
    INSTANCE,
    WORKER,
    increase,
    mean,
    metric,
    most,
    rate,
    total,
)

_SLOT: Final = "{{instance}} worker {{worker}}"
_PLACE: Final = "instance, worker"
_NO_LIMIT: Final = "where the container has no such limit."

_CPU: Final = total(rate("worker_cpu_seconds_total", WORKER), INSTANCE)
_CPU_LIMIT: Final = most(metric("cgroup_cpu_limit_cores"), INSTANCE)
_MEMORY_SHARE: Final = (
    f"{metric('cgroup_memory_usage_bytes')} / ({metric('cgroup_memory_limit_bytes')} > 0)"
)
_FDS: Final = f"{metric('worker_open_fds', WORKER)} / ({metric('worker_max_fds', WORKER)} > 0)"

_NOW: Final = Row(
    "Is there enough?",
    (
        stat(
            "CPU used",
            "CPUs that all selected workers use.",
            "Compare with what the machine or container has. One worker cannot use much more than"
            " one CPU.",
            total(rate("worker_cpu_seconds_total", WORKER)),
            unit="short", decimals=2,
        ),
        stat(
            "CPU share",
            "CPU used by the workers, of the container's limit; of the instance nearest to it.",
            "Near 100% the kernel stops the container for parts of each period: raise the limit or"
            " add instances.",
            f"max({_CPU} / ({_CPU_LIMIT} > 0))",
            unit="percentunit", limits=rising(0.8, 0.95), decimals=0, none="no limit",
            empty=_NO_LIMIT, alerts=("CPUThrottled",),
        ),
        stat(
            "CPU wait",
            "Time per second in which workers' threads were runnable without a CPU; of the"
            " instance that waits most.",
            "Above 0.5 with the CPU share near 100% or a busy machine: more CPU. It adds to every"
            " request's duration.",
            most(total(rate("worker_runqueue_wait_seconds_total", WORKER), INSTANCE)),
            unit="s", limits=rising(0.5, 2), decimals=2, alerts=("CPUThrottled",),
        ),
        stat(
            "Memory",
            "Memory of the selected workers, shared pages counted once.",
            "A steady climb is a leak: --max-rss bounds it while you look for it.",
            total(metric("worker_proportional_memory_bytes", WORKER)),
            unit="bytes", decimals=0,
        ),
        stat(
            "Mem share",
            "Memory charged to the container, of its limit; of the instance nearest to it.",
            "At 100% the kernel kills a worker: fewer workers, --preload to share more, or a higher"
            " limit.",
            most(_MEMORY_SHARE),
            unit="percentunit", limits=rising(0.8, 0.9), decimals=0, none="no limit",
            empty=_NO_LIMIT, alerts=("MemoryNearLimit",),
        ),
        stat(
            "Files",
            "Open file descriptors of the worker nearest to its limit.",
            "Find what is not closed (ls -l /proc/PID/fd), or raise the limit (ulimit -n).",
            most(_FDS),
            unit="percentunit", limits=rising(0.7, 0.9), decimals=1,
        ),
        stat(
            "GC pause",
            "Share of time that the garbage collector stops the worker which it stops most.",
            "Above 5%: freeze what was loaded at the start (gc.freeze), raise the thresholds, or"
            " make fewer objects that refer to each other.",
            most(rate("worker_gc_pause_seconds_total", WORKER)),
            unit="percentunit", limits=rising(0.05, 0.1), decimals=1,
        ),
        stat(
            "OOM kills",
            "Processes of the containers that the kernel killed for lack of memory in the chosen"
            " time.",
            "Each was a worker with its running requests. See memory by worker for who grew.",
            f"round({total(increase('cgroup_oom_kills_total'))})",
            unit="short", limits=rising(1, 2), decimals=0, none="unknown",
            empty="where the kernel does not count them (no memory control group).",
            alerts=("WorkerOOMKilled",),
        ),
    ),
)  # fmt: skip

_CPU_ROW: Final = Row(
    "CPU",
    (
        lines(
            "CPU by mode",
            "CPUs used by the selected workers in Python and C (user) and in the kernel (system).",
            "Much system time: many small writes, or page faults. Much user time: profile with"
            " py-spy.",
            [Query(total(rate("worker_cpu_seconds_total", WORKER), "mode"), "{{mode}}")],
            unit="short", stack=True,
            colors=fixed({"user": palette.BLUE, "system": palette.GOLD}),
        ),
        lines(
            "CPU by instance",
            "CPUs used by each instance's workers; the broken line is the container's limit.",
            "An instance at its limit is throttled: raise the limit, or run fewer workers so that"
            " each gets its turn.",
            [Query(_CPU, "{{instance}}"), Query(_CPU_LIMIT, "limit of {{instance}}")],
            unit="short", colors=(limit_line("/limit of .*/"),), alerts=("CPUThrottled",),
            empty="of limits, where the container has none.",
        ),
        lines(
            "Throttled",
            "CPU time per second that containers wanted and were refused.",
            "Any steady line makes requests slow in bursts of up to 100 ms. Raise the limit, or"
            " take it away and set a request only.",
            [
                Query(
                    total(rate("cgroup_cpu_throttled_seconds_total"), INSTANCE),
                    "{{instance}}",
                )
            ],
            unit="s", limits=rising(0.05, 0.5), top=0.1, alerts=("CPUThrottled",),
            empty="where the container has no CPU limit.",
        ),
        lines(
            "Throttled periods",
            "Scheduling periods per second (of ten) in which containers were stopped at their"
            " limit.",
            "Many periods with little refused time: short bursts; a little more CPU removes them.",
            [
                Query(
                    total(rate("cgroup_cpu_throttled_periods_total"), INSTANCE),
                    "{{instance}}",
                )
            ],
            unit="cps", limits=rising(1, 5), top=1, alerts=("CPUThrottled",),
            empty="where the container has no CPU limit.",
        ),
        lines(
            "Waiting: interpreter or CPU",
            "Time per second that watchdogs ran late (for the interpreter or a CPU), and that"
            " threads waited for a CPU.",
            "interpreter high and CPU low: threads fight for the GIL, so fewer threads and more"
            " workers. Both high: too few CPUs.",
            [
                Query(total(rate("interpreter_wait_seconds_total", WORKER)), "interpreter or CPU"),
                Query(total(rate("worker_runqueue_wait_seconds_total", WORKER)), "CPU"),
            ],
            unit="s",
            colors=fixed({"interpreter or CPU": palette.PURPLE, "CPU": palette.GOLD}),
            alerts=("InterpreterBound",),
        ),
        lines(
            "Interpreter wait by worker",
            "Share of time that each worker's watchdog ran late.",
            "One worker alone: a request in it holds the interpreter (see its oldest request)."
            " All: they compute.",
            [Query(total(rate("interpreter_wait_seconds_total", WORKER), _PLACE), _SLOT)],
            unit="percentunit", colors=by_worker(), alerts=("InterpreterBound",),
        ),
    ),
)  # fmt: skip

_MEMORY: Final = Row(
    "Memory and files",
    (
        lines(
            "Memory by worker (RSS)",
            "Memory of each worker in RAM, shared pages counted in full.",
            "All climb together: a cache or a leak of every request. One: a single large request."
            " A saw is max_requests at work.",
            [Query(total(metric("worker_resident_memory_bytes", WORKER), _PLACE), _SLOT)],
            unit="bytes", colors=by_worker(), alerts=("MemoryNearLimit",),
        ),
        lines(
            "Memory by worker (PSS)",
            "Memory of each worker with shared pages divided among their users; measured every"
            " 10 seconds.",
            "Far below RSS: --preload pays. If the two meet, sharing is lost: see gc.freeze.",
            [Query(total(metric("worker_proportional_memory_bytes", WORKER), _PLACE), _SLOT)],
            unit="bytes", colors=by_worker(), alerts=("MemoryNearLimit",),
        ),
        lines(
            "Memory against the limit",
            "All workers' RSS and PSS, what is charged to the control group whose limit is nearest,"
            " and that limit.",
            "charged is what the kernel compares, page cache included. Near the limit: fewer"
            " workers, --preload, --max-requests.",
            [
                Query(total(metric("worker_resident_memory_bytes", WORKER)), "RSS"),
                Query(total(metric("worker_proportional_memory_bytes", WORKER)), "PSS"),
                Query(total(metric("cgroup_memory_usage_bytes")), "charged"),
                Query(total(metric("cgroup_memory_limit_bytes")), "limit"),
            ],
            unit="bytes",
            colors=(
                *fixed({"RSS": palette.SKY, "PSS": palette.BLUE, "charged": palette.PURPLE}),
                limit_line("limit"),
            ),
            alerts=("MemoryNearLimit",),
            empty="of charged and limit, where there is no memory control group or no limit.",
        ),
        lines(
            "Open files by worker",
            "Open file descriptors of each worker, of its limit.",
            "A climb that does not follow the connections is something that is not closed.",
            [Query(total(_FDS, _PLACE), _SLOT)],
            unit="percentunit", colors=by_worker(),
        ),
        lines(
            "Garbage collector's pauses",
            "Share of time in which the collector stops each worker.",
            "No thread runs meanwhile. Peaks with generation 2 on the right are full collections.",
            [Query(total(rate("worker_gc_pause_seconds_total", WORKER), _PLACE), _SLOT)],
            unit="percentunit", colors=by_worker(),
        ),
        lines(
            "Garbage collections",
            "Collections per second by generation.",
            "Many of generation 2 with a large heap are what costs: gc.freeze after loading, or"
            " higher thresholds.",
            [
                Query(
                    total(rate("worker_gc_collections_total", WORKER), "generation"),
                    "generation {{generation}}",
                )
            ],
            unit="cps",
            colors=fixed(
                {
                    "generation 0": palette.SKY,
                    "generation 1": palette.BLUE,
                    "generation 2": palette.VERMILION,
                }
            ),
        ),
    ),
)  # fmt: skip

_RESTARTS: Final = Row(
    "Restarts",
    (
        lines(
            "Exits by reason",
            "Workers per minute that ended, by why.",
            "reload, scale_down, max_requests and shutdown were planned. For the others the log has"
            " a line with the worker's last request.",
            [Query(f"60 * {total(rate('worker_exits_total'), 'reason')} > 0", "{{reason}}")],
            unit="cpm", colors=fixed(palette.EXIT_REASONS), stack=True,
            alerts=("WorkerCrashLoop", "WorkerOOMKilled"),
            empty="while no worker ends.",
        ),
        lines(
            "Starts by reason",
            "Workers per minute that were started, by why.",
            "respawn follows an exit nobody planned. boot and reload belong to you.",
            [Query(f"60 * {total(rate('worker_spawns_total'), 'reason')} > 0", "{{reason}}")],
            unit="cpm", colors=fixed(palette.SPAWN_REASONS), stack=True,
            alerts=("WorkerCrashLoop",),
            empty="while no worker starts.",
        ),
        lines(
            "Boot duration",
            "Mean time from a worker's fork to its readiness.",
            "Slow boots make reloads and recoveries slow: --preload, or lighter imports (python -X"
            " importtime).",
            [Query(mean("worker_boot_duration_seconds", by=INSTANCE), "{{instance}}")],
            unit="s", limits=thresholds((10, palette.LOOK), (60, palette.ACT)),
            empty="while no worker boots.",
        ),
        table(
            "Workers",
            "One line for each worker slot: the generation and age of its process, and its"
            " memory, files and CPU now.",
            "Ages that differ within one generation are workers that were replaced; different"
            " generations for long are a reload that does not end.",
            [
                total(metric("worker_generation", WORKER), _PLACE),
                total(f"time() - {metric('worker_start_time_seconds', WORKER)}", _PLACE),
                total(metric("worker_resident_memory_bytes", WORKER), _PLACE),
                total(metric("worker_proportional_memory_bytes", WORKER), _PLACE),
                total(metric("worker_open_fds", WORKER), _PLACE),
                total(rate("worker_cpu_seconds_total", WORKER), _PLACE),
                most(metric("worker_heartbeat_age_seconds", WORKER), _PLACE),
            ],
            [
                column("instance", "Instance", width=190),
                column("worker", "Worker", width=80),
                column("Value #A", "Generation", decimals=0, width=136),
                column("Value #B", "Age", "s", decimals=0, width=136),
                column("Value #C", "RSS", "bytes", width=136),
                column("Value #D", "PSS", "bytes", width=136),
                column("Value #E", "Files", decimals=0, width=136),
                column("Value #F", "CPUs", decimals=2, width=136),
                column("Value #G", "Heartbeat", "s", rising(5, 20), width=136),
            ],
        ),
    ),
)  # fmt: skip

RESOURCES: Final = Dashboard(
    RESOURCES_UID,
    "gthreadsrv / Resources",
    "What the workers use and wait for, against what the container gives, and why they ended.",
    (_NOW, _CPU_ROW, _MEMORY, _RESTARTS),
)
