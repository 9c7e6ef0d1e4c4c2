"""What the settings are once they are known: one frozen record, and where each came from.

Built once by `load` in the master (again at a reload) and read by every process and
thread. `Settings` repeats the table's names with types so that a type checker sees
them; a test holds the two together. Nothing here reads files or the environment.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True, slots=True)
class WorkerRange:
    """As many workers as the load asks for, within these bounds."""

    least: int
    most: int

    def __str__(self) -> str:
        return f"{self.least}:{self.most}"


class Settings(NamedTuple):
    """Every value the server runs by. Times are seconds, sizes bytes."""

    # Application
    app: str = ""
    config: str | None = None
    chdir: str = ""  # absolute after load
    pythonpath: tuple[str, ...] = ()
    raw_env: tuple[str, ...] = ()
    preload_app: bool = False
    paste: str | None = None  # absolute after load
    raw_paste_global_conf: tuple[str, ...] = ()

    # Listening
    bind: tuple[str, ...] = ("127.0.0.1:8000",)
    backlog: int = 2048
    umask: int = 0

    # Workers and threads; 0 means: not sized yet
    workers: int | WorkerRange = 0
    scale_down_after: float = 60.0
    threads: int = 0
    worker_class: str = "gthread"
    worker_connections: int = 1000
    max_requests: int = 0
    max_requests_jitter: int = 0
    max_lifetime: float = 0.0
    max_rss: int = 0

    # Times
    timeout: float = 30.0
    graceful_timeout: float = 30.0
    drain_delay: float = 0.0
    keepalive: float = 75.0
    header_timeout: float = 10.0
    body_timeout: float = 30.0
    write_timeout: float = 60.0
    boot_timeout: float = 0.0

    # HTTP
    http_parser: str = "auto"
    header_map: str = "drop"
    limit_request_line: int = 8190
    limit_request_fields: int = 100
    limit_request_field_size: int = 8190
    limit_request_body: int = 0
    sendfile: bool = True
    forwarded_allow_ips: tuple[str, ...] = ("127.0.0.1", "::1")
    forwarded_client: str = "off"
    secure_scheme_headers: tuple[tuple[str, str], ...] = (
        ("X-FORWARDED-PROTOCOL", "ssl"),
        ("X-FORWARDED-PROTO", "https"),
        ("X-FORWARDED-SSL", "on"),
    )
    forwarder_headers: tuple[str, ...] = ("SCRIPT_NAME", "PATH_INFO")
    proxy_protocol: str = "off"
    proxy_allow_ips: tuple[str, ...] = ("127.0.0.1", "::1")

    # TLS
    certfile: str | None = None  # paths are absolute after load
    keyfile: str | None = None
    ca_certs: str | None = None
    cert_reqs: int = 0
    ciphers: str | None = None
    tls_minimum: str = "1.2"
    ssl_context: Callable[[Settings, Callable[[], Any]], Any] | None = None

    # Process
    user: str | None = None
    group: str | None = None
    pidfile: str | None = None
    proc_name: str | None = None

    # Logs
    loglevel: str = "info"
    log_format: str = "auto"
    errorlog: str = "-"
    accesslog: str | None = None
    access_log_format: str = "auto"
    capture_output: bool = False
    logconfig_dict: Mapping[str, Any] = {}
    logconfig_json: str | None = None
    logconfig: str | None = None
    syslog: bool = False
    syslog_addr: str = "udp://localhost:514"
    syslog_prefix: str | None = None
    syslog_facility: str = "user"
    disable_redirect_access_to_syslog: bool = False

    # Metrics
    metrics_bind: str = "127.0.0.1:9180"
    metrics_path: str | None = None
    ready_max_saturation: float | None = None

    # Development
    reload: bool = False
    reload_engine: str = "auto"
    reload_extra_files: tuple[str, ...] = ()
    debug_errors: bool = False

    # Not in the table: callables of the configuration file, and what it says to gunicorn alone
    hooks: Mapping[str, Callable[..., Any]] = {}
    foreign: Mapping[str, object] = {}

    # Actions
    check_config: bool = False
    print_config: bool = False

    @property
    def least_workers(self) -> int:
        """Workers it starts with, and never has fewer of."""
        return self.workers if isinstance(self.workers, int) else self.workers.least

    @property
    def most_workers(self) -> int:
        """Workers it never wants more of by itself."""
        return self.workers if isinstance(self.workers, int) else self.workers.most

    @property
    def is_green(self) -> bool:
        """Whether requests run in greenlets."""
        return self.worker_class in {"gevent", "eventlet"}

    @property
    def is_ssl(self) -> bool:
        """Whether the application's listeners speak TLS."""
        return self.certfile is not None or self.ssl_context is not None


class Source(enum.Enum):
    """Where a value was set, strongest first (sizing fills in what nobody set)."""

    COMMAND_LINE = "command line"
    CMD_ARGS = "GTHREADSRV_CMD_ARGS"
    GUNICORN_CMD_ARGS = "GUNICORN_CMD_ARGS"
    FILE = "configuration file"
    ACTIVATION = "socket activation"
    ENVIRONMENT = "environment"
    DEFAULT = "default"
    SIZING = "sizing"


class Origin(NamedTuple):
    """One value's source, and the place in it: a flag, FILE:LINE, a variable."""

    source: Source
    place: str = ""

    def __str__(self) -> str:
        match self.source:
            case Source.FILE:
                return self.place
            case Source.COMMAND_LINE | Source.ENVIRONMENT:
                return f"{self.place}, {self.source.value}"
            case Source.CMD_ARGS | Source.GUNICORN_CMD_ARGS:
                return f"{self.place} in {self.source.value}"
        return f"{self.source.value}: {self.place}" if self.place else self.source.value


class Loaded(NamedTuple):
    """The settings, the origin of each by name, and lines to warn with once logs are set up."""

    settings: Settings
    origins: dict[str, Origin]
    warnings: tuple[str, ...] = ()

    @property
    def app(self) -> str:
        """The application as it was named, `module:callable`."""
        return self.settings.app
