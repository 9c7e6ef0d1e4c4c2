"""The fixed label values and histogram bounds: what a series may be called, once.

The scoreboard has a cell for each of these, the catalogue documents them and the collector
presets them to 0. Their order is the order of the cells, so a value may be appended but
never moved while processes share a board. Plain tuples only: every process imports this.
"""

from __future__ import annotations

from typing import Final

STATES: Final = ("free", "booting", "ready", "draining")
LIVE_STATES: Final = STATES[1:]

# RFC 9110 section 9.3 and PATCH (RFC 5789); a client can invent methods, so the rest is one.
METHODS: Final = (
    "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "other",
)  # fmt: skip
CODE_CLASSES: Final = ("1xx", "2xx", "3xx", "4xx", "5xx")

SPAWN_REASONS: Final = ("boot", "respawn", "reload", "scale_up", "recycle")
EXIT_REASONS: Final = (
    "max_requests", "max_lifetime", "max_rss", "reload", "scale_down", "heartbeat",
    "request_timeout", "boot_error", "crash", "signal", "oom", "shutdown",
)  # fmt: skip
RELOAD_RESULTS: Final = ("ok", "failed")
SCALE_DIRECTIONS: Final = ("up", "down")
SCALE_REFUSALS: Final = ("cpu", "memory", "limit")

CONNECTION_STATES: Final = ("reading", "active", "writing", "idle")
CLOSE_REASONS: Final = (
    "keepalive_timeout", "client", "max_requests", "error", "limit", "shutdown", "timeout",
    "rebalance",
)  # fmt: skip
ERROR_REASONS: Final = (
    "bad_request", "headers_too_large", "body_too_large", "read_timeout",
    "client_disconnect", "application_error", "tls", "proxy_protocol",
)  # fmt: skip
TIMEOUT_ACTIONS: Final = ("logged", "interrupted", "worker_replaced")
QUEUE_SOURCES: Final = ("kernel", "user")
CPU_MODES: Final = ("user", "system")
GC_GENERATIONS: Final = ("0", "1", "2")
SCRAPE_SOURCES: Final = ("app_file", "app_metric", "proc", "kernel", "cgroup")

DURATION_BOUNDS: Final = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
)  # fmt: skip
QUEUE_BOUNDS: Final = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0,
)  # fmt: skip
# An import of a large application takes seconds, so the scale starts where requests' end.
BOOT_BOUNDS: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
