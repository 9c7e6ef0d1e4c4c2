"""The one table of settings: names, flags, variables, defaults, meanings and limits.

Everything that lists settings is made from it: the command line and its `--help`, the
environment variables, the configuration file's names, `--print-config` and the README's
reference. A new setting is one entry here and one typed field in `model.Settings`.
Names and flags are gunicorn's wherever it has one. Nothing here reads anything.
"""

from __future__ import annotations

from gthreadsrv.settings import convert
from gthreadsrv.settings.setting import (
    Fallback,
    Setting,
    auto,
    function_name,
    names_only,
    octal,
    pairs,
    present,
    size,
)

HTTP_MAX = 1 << 20  # no limit asked for still means a bounded head: 1 MiB


_COUNT = "a whole number, 0 or more"
_SECONDS = "seconds, 0 or more"
_POSITIVE = "a whole number, 1 or more"
_SWITCH = "true or false"
_PATH = "a path"

APPLICATION = "Application"
LISTENING = "Listening"
WORKERS = "Workers and threads"
TIMES = "Times"
HTTP = "HTTP"
TLS = "TLS"
PROCESS = "Process"
LOGS = "Logs"
METRICS = "Metrics"
DEVELOPMENT = "Development"
CONFIGURATION = "Configuration"

TABLE: tuple[Setting, ...] = (
    Setting(
        "app", APPLICATION, (), "APP", convert.text,
        "MODULE, MODULE:CALLABLE or MODULE:FACTORY(...)",
        "the WSGI application: module:callable, a module (its `application` or `app`), or a "
        "factory such as 'module:make_app()' or 'module:make_app(\"x\", debug=True)'",
        file_name="wsgi_app", positional=True,
    ),
    Setting(
        "chdir", APPLICATION, ("--chdir",), "DIR", convert.text, "a directory that exists",
        "change to this directory and import from it [the current one]",
    ),
    Setting(
        "pythonpath", APPLICATION, ("--pythonpath",), "DIRS",
        convert.many(convert.text, ","), "directories, separated by commas",
        "more directories to import from, before all others",
    ),
    Setting(
        "raw_env", APPLICATION, ("-e", "--env"), "NAME=VALUE", convert.many(convert.variable),
        "NAME=VALUE", "set a variable in the application's environment; repeatable",
        many=True, split=convert.words, show=names_only,
    ),
    Setting(
        "preload_app", APPLICATION, ("--preload",), "", convert.switch, _SWITCH,
        "import the application once, before workers are forked, so that they share its memory",
    ),
    Setting(
        "paste", APPLICATION, ("--paste", "--paster"), "FILE", convert.optional(convert.text),
        "a path, with #NAME for a section of that name",
        "serve the application of this PasteDeploy file (needs PasteDeploy), and take its logging "
        "sections for --log-config",
    ),
    Setting(
        "raw_paste_global_conf", APPLICATION, ("--paste-global",), "NAME=VALUE",
        convert.many(convert.assignment), "NAME=VALUE",
        "set a variable of the PasteDeploy file; repeatable",
        many=True, split=convert.words, show=names_only,
    ),
    Setting(
        "bind", LISTENING, ("-b", "--bind"), "ADDRESS", convert.many(convert.bind, ","),
        "HOST, HOST:PORT, [IPV6]:PORT, unix:PATH, unix:@NAME or fd://N",
        "listen here: HOST:PORT, [IPV6]:PORT, unix:PATH or fd://N; repeatable",
        many=True, fallback=Fallback("PORT", "0.0.0.0:{}".format),
    ),
    Setting(
        "backlog", LISTENING, ("--backlog",), "N", convert.whole(1, 65535),
        "a whole number from 1 to 65535",
        "connections that may wait in the kernel, for each listener",
    ),
    Setting(
        "umask", LISTENING, ("-m", "--umask"), "MODE", convert.octal, "octal, 0 to 777",
        "permission bits taken from the unix sockets it makes", show=octal,
    ),
    Setting(
        "workers", WORKERS, ("-w", "--workers"), "N or N:N", convert.workers,
        f"{_POSITIVE}, two of them as in 2:8, or auto",
        "worker processes; 2:8 is at least 2, and up to 8 as the load asks for them: see "
        "Autoscaling [by the CPUs this container may use: see Sizing]",
        show=auto, fallback=Fallback("WEB_CONCURRENCY"),
    ),
    Setting(
        "scale_down_after", WORKERS, ("--scale-down-after",), "SECONDS",
        convert.seconds_within(1.0, 600.0), "seconds, 1 to 600",
        "with --workers 2:8, how long fewer workers must have been enough before one is retired",
    ),
    Setting(
        "threads", WORKERS, ("--threads",), "N", convert.whole_or("auto", 0, 1),
        f"{_POSITIVE}, or auto",
        "threads in each worker, or greenlets: requests it works on at once [see Sizing; of "
        "greenlets as many as worker_connections]",
        show=auto,
    ),
    Setting(
        "worker_class", WORKERS, ("-k", "--worker-class"), "CLASS",
        convert.worker_class, "gthread, sync, gevent or eventlet",
        "gthread: threads; sync: gthread with one thread; gevent, eventlet: greenlets, for "
        "applications that mostly wait [see Worker classes]",
    ),
    Setting(
        "worker_connections", WORKERS, ("--worker-connections",), "N", convert.whole(1),
        _POSITIVE, "open connections in each worker, idle ones included",
    ),
    Setting(
        "max_requests", WORKERS, ("--max-requests",), "N", convert.whole(0), _COUNT,
        "replace a worker after this many requests; 0 is never",
    ),
    Setting(
        "max_requests_jitter", WORKERS, ("--max-requests-jitter",), "N", convert.whole(0), _COUNT,
        "add up to this many requests, by chance, so that workers are not replaced together",
    ),
    Setting(
        "max_lifetime", WORKERS, ("--max-lifetime",), "SECONDS", convert.seconds, _SECONDS,
        "replace a worker at this age, or up to a tenth earlier, by chance, so that workers are "
        "not replaced together; 0 is never",
    ),
    Setting(
        "max_rss", WORKERS, ("--max-rss",), "BYTES", convert.size,
        "a number of bytes, or one with K, M, G or T (300M)",
        "replace a worker that holds more memory than this, pages it shares divided among their "
        "users; 0 is no limit",
        show=size,
    ),
    Setting(
        "timeout", TIMES, ("-t", "--timeout"), "SECONDS", convert.seconds, _SECONDS,
        "a request that has sent nothing for this long is logged with its stack, interrupted, and "
        "answered 504; a worker in which one stays stuck, or whose interpreter stands still, is "
        "replaced; 0 is never",
    ),
    Setting(
        "graceful_timeout", TIMES, ("--graceful-timeout",), "SECONDS", convert.seconds, _SECONDS,
        "time for running requests to finish at a stop or a reload",
    ),
    Setting(
        "drain_delay", TIMES, ("--drain-delay",), "SECONDS", convert.seconds, _SECONDS,
        "at TERM, go on accepting for this long while /readyz already says 503",
    ),
    Setting(
        "keepalive", TIMES, ("--keep-alive",), "SECONDS", convert.seconds, _SECONDS,
        "close a connection that is idle this long; 0 closes after each response",
    ),
    Setting(
        "header_timeout", TIMES, ("--header-timeout",), "SECONDS", convert.seconds, _SECONDS,
        "time for a request's head to arrive, from its first byte; 0 is no limit",
    ),
    Setting(
        "body_timeout", TIMES, ("--body-timeout",), "SECONDS", convert.seconds, _SECONDS,
        "longest pause inside a request's body, which must also bring 500 bytes a second on the "
        "whole, counted from when both this and --header-timeout have passed; 0 is no limit",
    ),
    Setting(
        "write_timeout", TIMES, ("--write-timeout",), "SECONDS", convert.seconds, _SECONDS,
        "longest time in which a client takes nothing of its response; 0 is no limit",
    ),
    Setting(
        "boot_timeout", TIMES, ("--boot-timeout",), "SECONDS", convert.seconds, _SECONDS,
        "time for a worker to import the application; 0 is no limit",
    ),
    Setting(
        "http_parser", HTTP, ("--http-parser",), "NAME",
        convert.http_parser, "auto, h11 or httptools",
        "auto takes httptools where it is installed",
    ),
    Setting(
        "header_map", HTTP, ("--header-map",), "POLICY",
        convert.choice("drop", "refuse", "dangerous"), "drop, refuse or dangerous",
        "a field whose name holds _, which in the environ looks like its twin with -: left out, "
        "answered 400, or passed on, for those whose proxies keep clients from sending such fields",
    ),
    Setting(
        "limit_request_line", HTTP, ("--limit-request-line",), "BYTES",
        convert.limit(HTTP_MAX, HTTP_MAX), f"a whole number from 0 to {HTTP_MAX}",
        "longest request line; 0 is the most there is, 1 MiB",
    ),
    Setting(
        "limit_request_fields", HTTP, ("--limit-request-fields",), "N",
        convert.limit(32768, 32768), "a whole number from 0 to 32768",
        "most header fields in a request; 0 is the most there is, 32768",
    ),
    Setting(
        "limit_request_field_size", HTTP,
        ("--limit-request-field_size", "--limit-request-field-size"), "BYTES",
        convert.limit(HTTP_MAX, HTTP_MAX), f"a whole number from 0 to {HTTP_MAX}",
        "longest header field; 0 is the most there is, 1 MiB",
    ),
    Setting(
        "limit_request_body", HTTP, ("--limit-request-body",), "BYTES", convert.whole(0), _COUNT,
        "longest request body; 0 is no limit",
    ),
    Setting(
        "sendfile", HTTP, ("--no-sendfile",), "", convert.optional_switch, _SWITCH,
        "files are sent by sendfile(2); with the flag, or false, they are read into the process, "
        "for file systems on which it is broken",
        sets=False, fallback=Fallback("SENDFILE"),
    ),
    Setting(
        "forwarded_allow_ips", HTTP, ("--forwarded-allow-ips",), "NETWORKS",
        convert.many(convert.network, ","), "IP addresses or networks, separated by commas, or *",
        "proxies whose X-Forwarded-Proto and the like are believed; unix sockets always are",
        fallback=Fallback("FORWARDED_ALLOW_IPS"),
    ),
    Setting(
        "forwarded_client", HTTP, ("--forwarded-client",), "FIELD",
        convert.choice("off", "forwarded", "x-forwarded-for"), "off, forwarded or x-forwarded-for",
        "take REMOTE_ADDR from this field of a trusted proxy's; off leaves it the peer's, as "
        "frameworks expect that look at X-Forwarded-For themselves",
    ),
    Setting(
        "secure_scheme_headers", HTTP, (), "FIELDS", convert.scheme_headers,
        "a dict of field names and values, or NAME=VALUE separated by commas",
        "fields by which a trusted proxy says that the client came by https; 400 when they "
        "contradict each other; where none is sent, proto= of Forwarded counts", show=pairs,
    ),
    Setting(
        "forwarder_headers", HTTP, ("--forwarder-headers",), "NAMES",
        convert.many(convert.underscored, ","), "names with _, separated by commas",
        "fields that a trusted proxy may send in spite of --header-map; SCRIPT_NAME says where "
        "the application is mounted",
    ),
    Setting(
        "proxy_protocol", HTTP, ("--proxy-protocol",), "VERSION",
        convert.choice_or_switch("auto", "off", "v1", "v2", "auto"), "off, v1, v2 or auto",
        "each connection begins with a PROXY header of this version, from which REMOTE_ADDR "
        "comes; the flag alone means auto, which is either", bare="auto",
    ),
    Setting(
        "proxy_allow_ips", HTTP, ("--proxy-allow-from", "--proxy-allow-ips"), "NETWORKS",
        convert.many(convert.network, ","), "IP addresses or networks, separated by commas, or *",
        "who may connect, and must send a PROXY header, when --proxy-protocol is on; unix "
        "sockets always may",
    ),
    Setting(
        "certfile", TLS, ("--certfile",), "FILE", convert.optional(convert.text), _PATH,
        "serve HTTPS on every --bind, with this certificate (PEM, those up to its root behind it); "
        "read at the start and at each reload",
    ),
    Setting(
        "keyfile", TLS, ("--keyfile",), "FILE", convert.optional(convert.text), _PATH,
        "the certificate's key (PEM, not encrypted) [in the certificate's file]",
    ),
    Setting(
        "ca_certs", TLS, ("--ca-certs",), "FILE", convert.optional(convert.text), _PATH,
        "certificates (PEM) of those who may have signed a client's",
    ),
    Setting(
        "cert_reqs", TLS, ("--cert-reqs",), "N", convert.whole(0, 2), "0, 1 or 2",
        "a client's certificate: 0 is not asked for, 1 may be left out, 2 must be shown",
    ),
    Setting(
        "ciphers", TLS, ("--ciphers",), "LIST", convert.optional(convert.text),
        "a list as OpenSSL writes it",
        "ciphers of TLS 1.2, those of TLS 1.3 not being a choice [OpenSSL's own]",
    ),
    Setting(
        "tls_minimum", TLS, ("--tls-minimum",), "VERSION", convert.tls_version, "1.2 or 1.3",
        "oldest version of TLS that is spoken",
    ),
    Setting(
        "ssl_context", TLS, (), "", convert.function,
        "def ssl_context(conf, default_ssl_context_factory)",
        "a function that returns the ssl.SSLContext to use, its own or the factory's with changes; "
        "called at the start and at each reload",
        in_environment=False, show=function_name,
    ),
    Setting(
        "user", PROCESS, ("-u", "--user"), "USER", convert.optional(convert.account),
        "a user's name or number", "run workers as this user",
    ),
    Setting(
        "group", PROCESS, ("-g", "--group"), "GROUP", convert.optional(convert.account_group),
        "a group's name or number", "run workers as this group",
    ),
    Setting(
        "pidfile", PROCESS, ("-p", "--pid"), "FILE", convert.optional(convert.text), _PATH,
        "write the master's process number here",
    ),
    Setting(
        "proc_name", PROCESS, ("-n", "--name"), "NAME", convert.optional(convert.text), "a text",
        "name in process titles [the application]",
    ),
    Setting(
        "loglevel", LOGS, ("--log-level",), "LEVEL",
        convert.choice("debug", "info", "warning", "error", "critical"),
        "debug, info, warning, error or critical", "least important lines that are logged",
    ),
    Setting(
        "log_format", LOGS, ("--log-format",), "FORMAT", convert.choice("auto", "json", "console"),
        "auto, json or console", "auto is console on a terminal, JSON lines elsewhere",
    ),
    Setting(
        "errorlog", LOGS, ("--error-logfile", "--log-file"), "FILE", convert.log_target,
        "a path, or - for standard error", "the server's own log; - is standard error",
    ),
    Setting(
        "accesslog", LOGS, ("--access-logfile",), "FILE", convert.optional(convert.text),
        "a path, or - for standard output",
        "log every request here; - is standard output [no access log]",
    ),
    Setting(
        "access_log_format", LOGS, ("--access-logformat",), "FORMAT", convert.line,
        "auto, json, combined or a text with %(...)s atoms",
        "json, combined, or a text with atoms such as %(h)s; auto is combined on a terminal, "
        "JSON elsewhere",
    ),
    Setting(
        "capture_output", LOGS, ("--capture-output",), "", convert.switch, _SWITCH,
        "send what is printed to --error-logfile, where that is a file",
    ),
    Setting(
        "logconfig_dict", LOGS, (), "", convert.mapping, "a dictionary",
        "a configuration for Python's logging (dictConfig): loggers gunicorn.error and "
        "gunicorn.access then get all lines", in_environment=False, show=present,
    ),
    Setting(
        "logconfig_json", LOGS, ("--log-config-json",), "FILE", convert.optional(convert.text),
        _PATH, "the same in a JSON file; logconfig_dict goes before it",
    ),
    Setting(
        "logconfig", LOGS, ("--log-config",), "FILE", convert.optional(convert.text), _PATH,
        "the same as an INI file (fileConfig); the other two go before it",
    ),
    Setting(
        "syslog", LOGS, ("--log-syslog",), "", convert.switch, _SWITCH,
        "send all lines to syslog too",
    ),
    Setting(
        "syslog_addr", LOGS, ("--log-syslog-to",), "ADDRESS", convert.syslog_address,
        "unix://PATH#dgram, unix://PATH#stream, udp://HOST:PORT or tcp://HOST:PORT",
        "where syslog is",
    ),
    Setting(
        "syslog_prefix", LOGS, ("--log-syslog-prefix",), "NAME", convert.optional(convert.text),
        "a text", "name in syslog lines [the application]",
    ),
    Setting(
        "syslog_facility", LOGS, ("--log-syslog-facility",), "FACILITY",
        convert.syslog_facility, "a facility of syslog(3)", "facility of syslog lines",
    ),
    Setting(
        "disable_redirect_access_to_syslog", LOGS, ("--disable-redirect-access-to-syslog",), "",
        convert.switch, _SWITCH, "keep access lines out of syslog",
    ),
    Setting(
        "metrics_bind", METRICS, ("--metrics-bind",), "ADDRESS", convert.bind_or_off,
        "HOST, HOST:PORT, [IPV6]:PORT, unix:PATH, unix:@NAME, fd://N or off",
        "serve /metrics, /livez, /readyz, /startupz and, for browsers, the live page here, from a "
        "process of their own; off is nowhere",
    ),
    Setting(
        "metrics_path", METRICS, ("--metrics-path",), "PATH", convert.optional(convert.url_path),
        "a path that starts with /",
        "serve the metrics on the main listeners too, at this path [nowhere]",
    ),
    Setting(
        "ready_max_saturation", METRICS, ("--ready-max-saturation",), "SHARE",
        convert.optional(convert.share), "a number above 0, 1 at most",
        "/readyz says no from this share of busy threads on [never]",
    ),
    Setting(
        "reload", DEVELOPMENT, ("--reload",), "", convert.switch, _SWITCH,
        "replace the workers when their code changes; broken code leaves the old ones running",
    ),
    Setting(
        "reload_engine", DEVELOPMENT, ("--reload-engine",), "ENGINE",
        convert.choice("auto", "poll", "watchfiles", "inotify"),
        "auto, poll, watchfiles or inotify",
        "how changes are seen: by the package watchfiles, which uses the kernel's inotify, or a "
        "look at every file each second; auto takes watchfiles where it is installed",
    ),
    Setting(
        "reload_extra_files", DEVELOPMENT, ("--reload-extra-file",), "FILE",
        convert.many(convert.text), "paths, * and ** for many",
        "watch this file, or files of this pattern, too; repeatable", many=True,
        split=convert.words,
    ),
    Setting(
        "debug_errors", DEVELOPMENT, ("--debug-errors",), "", convert.switch, _SWITCH,
        "answer an application's exception with its traceback; shows secrets to anybody",
    ),
    Setting(
        "config", CONFIGURATION, ("-c", "--config"), "FILE", convert.optional(convert.text),
        "a path, or python:MODULE",
        "a Python file whose names are settings [./gthreadsrv.conf.py, else ./gunicorn.conf.py]",
        in_file=False,
    ),
    Setting(
        "check_config", CONFIGURATION, ("--check-config",), "", convert.switch, _SWITCH,
        "check the settings and import the application, then exit: 0, or 2 or 3 with the reason",
        in_file=False, in_environment=False,
    ),
    Setting(
        "print_config", CONFIGURATION, ("--print-config",), "", convert.switch, _SWITCH,
        "print every setting with where it came from, then exit", in_file=False,
        in_environment=False,
    ),
)  # fmt: skip

BY_NAME = {setting.name: setting for setting in TABLE}
BY_FILE_NAME = {setting.file_name: setting for setting in TABLE if setting.in_file}
GROUPS = tuple(dict.fromkeys(setting.group for setting in TABLE))
