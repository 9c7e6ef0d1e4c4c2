"""gunicorn's settings that are not ours: known by name and flag, each with what to do instead.

Whoever comes with gunicorn's command line or configuration file is told in one line what has
no effect here, and starts. A value that asks for what is so anyway is no news and says nothing.
A setting that becomes ours moves from here to the table. Nothing here reads anything.
"""

from __future__ import annotations

from typing import NamedTuple


class Foreign(NamedTuple):
    """One setting of gunicorn's that has no effect here."""

    name: str
    flags: tuple[str, ...]
    nargs: int | str | None  # argparse's: None takes one value, 0 none, "?" perhaps one
    default: object  # gunicorn's
    advice: str
    so_anyway: tuple[object, ...] = ()

    def asks_for_nothing(self, value: object) -> bool:
        """Whether the value is what gunicorn does by itself, or what is done here anyway."""
        if not value and not self.default:
            return True
        wanted = _comparable(value)
        return any(wanted == _comparable(known) for known in (self.default, *self.so_anyway))


def _comparable(value: object) -> str:
    if isinstance(value, (list, tuple)):
        value = ",".join(map(str, value))
    return str(value).strip().lower()


_NO_ASGI = "this server speaks WSGI; wrap an ASGI application, as with a2wsgi.ASGIMiddleware"
_NO_DIRTY = "there is no pool for long tasks; use a task queue, or more threads"
_NO_HTTP2 = "this server speaks HTTP/1.1; let the proxy before it speak HTTP/2"
_NO_STATSD = "nothing is sent to statsd; scrape /metrics on --metrics-bind"
_NO_UWSGI = "this server speaks HTTP/1.1; in nginx use proxy_pass, not uwsgi_pass"
_STRICT = "not taken, since servers that differ here can be tricked; correct the client"

FOREIGN: tuple[Foreign, ...] = (
    # Server mechanics
    Foreign("daemon", ("-D", "--daemon"), 0, False,
            "stays in the foreground; let systemd or a container run it"),
    Foreign("reuse_port", ("--reuse-port",), 0, False,
            "one listener is shared by all workers, which take connections only while they have a "
            "free thread"),
    Foreign("worker_tmp_dir", ("--worker-tmp-dir",), None, None,
            "not needed, heartbeats are in shared memory; leave it out"),
    Foreign("tmp_upload_dir", (), None, None,
            "large request bodies go to $TMPDIR; set that variable"),
    Foreign("initgroups", ("--initgroups",), 0, False, "always so with user", (True,)),
    Foreign("enable_stdio_inheritance", ("-R", "--enable-stdio-inheritance"), 0, False,
            "always so", (True,)),
    Foreign("default_proc_name", (), None, "gunicorn", "use proc_name"),
    Foreign("spew", ("--spew",), 0, False,
            "lines are not traced, which would make everything slow; `gthreadsrvctl "
            "advise` and the stacks of slow requests in the log say where time goes"),
    # Logging
    Foreign("logger_class", ("--logger-class",), None, "gunicorn.glogging.Logger",
            "loggers are not replaced; filters and formatters in logconfig_dict, on gunicorn.error "
            "and gunicorn.access, do the same",
            ("gunicorn.glogging.logger", "<class 'gunicorn.glogging.Logger'>", "simple")),
    Foreign("statsd_host", ("--statsd-host",), None, None, _NO_STATSD),
    Foreign("statsd_prefix", ("--statsd-prefix",), None, "", _NO_STATSD),
    Foreign("dogstatsd_tags", ("--dogstatsd-tags",), None, "", _NO_STATSD),
    Foreign("enable_backlog_metric", ("--enable-backlog-metric",), 0, False,
            "always so: gthreadsrv_listener_backlog on /metrics", (True,)),
    # Proxies
    Foreign("protocol", ("--protocol",), None, "http", _NO_UWSGI),
    Foreign("uwsgi_allow_ips", ("--uwsgi-allow-from",), None, "127.0.0.1,::1", _NO_UWSGI),
    # TLS
    Foreign("ssl_version", ("--ssl-version",), None, "_SSLMethod.PROTOCOL_TLS",
            "tls_minimum is the oldest version that is spoken", (2,)),
    Foreign("suppress_ragged_eofs", ("--suppress-ragged-eofs",), 0, True,
            "a request that was cut short never reaches the application"),
    Foreign("do_handshake_on_connect", ("--do-handshake-on-connect",), 0, False,
            "handshakes hold no thread and end with header_timeout"),
    # HTTP
    Foreign("http_protocols", ("--http-protocols",), None, "h1", _NO_HTTP2),
    Foreign("http2_cleartext", ("--http2-cleartext",), None, "off", _NO_HTTP2),
    Foreign("http2_max_concurrent_streams", ("--http2-max-concurrent-streams",), None, 100,
            _NO_HTTP2),
    Foreign("http2_initial_window_size", ("--http2-initial-window-size",), None, 65535, _NO_HTTP2),
    Foreign("http2_max_frame_size", ("--http2-max-frame-size",), None, 16384, _NO_HTTP2),
    Foreign("http2_max_header_list_size", ("--http2-max-header-list-size",), None, 65536,
            _NO_HTTP2),
    Foreign("permit_obsolete_folding", ("--permit-obsolete-folding",), 0, False, _STRICT),
    Foreign("strip_header_spaces", ("--strip-header-spaces",), 0, False, _STRICT),
    Foreign("permit_unconventional_http_method", ("--permit-unconventional-http-method",), 0,
            False, "methods that nobody has registered are answered 501"),
    Foreign("permit_unconventional_http_version", ("--permit-unconventional-http-version",), 0,
            False, _STRICT),
    Foreign("casefold_http_method", ("--casefold-http-method",), 0, False,
            "methods are what they are, in upper case (RFC 9110 9.1); correct the client"),
    # ASGI
    Foreign("asgi_loop", ("--asgi-loop",), None, "auto", _NO_ASGI),
    Foreign("asgi_lifespan", ("--asgi-lifespan",), None, "auto", _NO_ASGI, ("off",)),
    Foreign("asgi_disconnect_grace_period", ("--asgi-disconnect-grace-period",), None, 3,
            _NO_ASGI),
    Foreign("websocket_max_message_size", ("--websocket-max-message-size",), None, 16777216,
            _NO_ASGI),
    Foreign("root_path", ("--root-path",), None, "", _NO_ASGI),
    # Dirty workers
    Foreign("dirty_apps", ("--dirty-app",), None, [], _NO_DIRTY),
    Foreign("dirty_workers", ("--dirty-workers",), None, 0, _NO_DIRTY),
    Foreign("dirty_timeout", ("--dirty-timeout",), None, 300, _NO_DIRTY),
    Foreign("dirty_threads", ("--dirty-threads",), None, 1, _NO_DIRTY),
    Foreign("dirty_graceful_timeout", ("--dirty-graceful-timeout",), None, 30, _NO_DIRTY),
    Foreign("on_dirty_starting", (), None, None, _NO_DIRTY),
    Foreign("dirty_post_fork", (), None, None, _NO_DIRTY),
    Foreign("dirty_worker_init", (), None, None, _NO_DIRTY),
    Foreign("dirty_worker_exit", (), None, None, _NO_DIRTY),
    # Control socket
    Foreign("control_socket", ("--control-socket",), None, None,
            "there is no control socket; gthreadsrvctl asks the metrics port"),
    Foreign("control_socket_mode", ("--control-socket-mode",), None, 0o600,
            "there is no control socket; gthreadsrvctl asks the metrics port"),
    Foreign("control_socket_disable", ("--no-control-socket",), 0, False, "always so", (True,)),
)  # fmt: skip

# gunicorn's settings that are ours too, each with what is different; empty: nothing a user sees.
SHARED: dict[str, str] = {
    "config": "`./gthreadsrv.conf.py` is read first; a name in it that has no effect is warned of",
    "wsgi_app": "",
    "bind": "",
    "backlog": "a kernel that caps it is warned of",
    "workers": "not given: one for each CPU the container may use; of `2:8` hooks find the 8 in "
    "`cfg.workers`",
    "worker_class": "`gthread`, `sync` (one thread), `gevent` and `eventlet`; another is refused "
    "with what to do",
    "threads": "not given: by the CPUs; also how many greenlets a worker has, where gunicorn looks "
    "at `worker_connections` alone",
    "worker_connections": "",
    "max_requests": "the replacement serves before the worker leaves",
    "max_requests_jitter": "",
    "timeout": "for each request: logged with its stack, interrupted, answered 504; a worker that "
    "stands still is replaced",
    "graceful_timeout": "parts of a second count, as with all times",
    "keepalive": "75 by default, above what load balancers have",
    "limit_request_line": "8190 by default; 0 is 1 MiB",
    "limit_request_fields": "0 is 32768",
    "limit_request_field_size": "0 is 1 MiB; also spelled `--limit-request-field-size`",
    "reload": "the master reloads; broken code leaves the old workers running",
    "reload_engine": "by `watchfiles` (extra `reload`), which `inotify` means too, or `poll`",
    "reload_extra_files": "",
    "check_config": "exit code 2 for settings, 3 for the application",
    "print_config": "with where each value came from; the application is not imported unless "
    "`--check-config` is there too",
    "preload_app": "imported after `on_starting` and the listeners' opening",
    "sendfile": "`sendfile = True` in a file means on",
    "chdir": "",
    "raw_env": "",
    "pidfile": "",
    "user": "with the user's own groups, and no others",
    "group": "",
    "umask": "for unix sockets",
    "forwarded_allow_ips": "",
    "secure_scheme_headers": "where none is sent, `proto=` of `Forwarded` counts",
    "forwarder_headers": "`*` is refused",
    "proxy_protocol": "each connection must begin with a header; 400 without one",
    "proxy_allow_ips": "",
    "certfile": "read at the start and at each reload",
    "keyfile": "",
    "ca_certs": "",
    "cert_reqs": "",
    "ciphers": "",
    "ssl_context": "a function of the file, called at the start and at each reload, not for each "
    "connection",
    "accesslog": "",
    "disable_redirect_access_to_syslog": "",
    "access_log_format": "not given: JSON, on a terminal `combined`; what clients send is escaped, "
    "and `%(U)s` is the path as it was sent",
    "errorlog": "JSON unless on a terminal: `--log-format console` for lines",
    "loglevel": "",
    "capture_output": "",
    "logconfig": "",
    "logconfig_dict": "",
    "logconfig_json": "a file that is not there is an error",
    "syslog_addr": "",
    "syslog": "",
    "syslog_prefix": "",
    "syslog_facility": "",
    "proc_name": "",
    "pythonpath": "",
    "paste": "needs the package PasteDeploy",
    "raw_paste_global_conf": "",
    "header_map": "",
    "http_parser": "`h11` or `httptools`; `python` and `fast` mean those",
}

FOREIGN_BY_NAME = {foreign.name: foreign for foreign in FOREIGN}
