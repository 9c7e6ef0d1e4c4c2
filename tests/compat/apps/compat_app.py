"""What the configuration files of these tests serve: says where and in what it runs."""

import json
import logging
import os
import threading

# What configuration files set up, as a library would have it.
CONNECTED_IN: list[int] = []
TRACED_IN: list[int] = []
IMPORTED_IN = os.getpid()


def connect():
    """A connection to a database, which must not be shared by processes."""
    CONNECTED_IN.append(os.getpid())


def trace():
    """A tracing library's start, whose thread must be in the process that it reports on."""
    TRACED_IN.append(os.getpid())


def traced(app):
    """An agent's wrapper around an application."""

    def wrapper(environ, start_response):
        def start(status, headers, exc_info=None):
            return start_response(status, [*headers, ("X-Agent", "seen")], exc_info)

        return app(environ, start)

    return wrapper


def app(environ, start_response):
    """Answer with what hooks have left behind."""
    path = environ["PATH_INFO"]
    if path == "/boom":
        raise RuntimeError("boom")
    if path == "/log":
        logging.getLogger("shop").info("an item was sold")
        logging.getLogger("gunicorn.error").info("said by the application")
    body = json.dumps(
        {
            "pid": os.getpid(),
            "ppid": os.getppid(),
            "imported_in": IMPORTED_IN,
            "connected_in": CONNECTED_IN,
            "traced_in": TRACED_IN,
            "thread": threading.current_thread().name,
            "added": environ.get("HTTP_X_ADDED"),
            "multithread": environ["wsgi.multithread"],
            "mount": [environ["SCRIPT_NAME"], environ["PATH_INFO"]],
        }
    ).encode()
    start_response(
        "200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    )
    return [body]


def make_pasted(global_conf, greeting="none", **settings):
    """An application factory of PasteDeploy."""
    logging.getLogger("shop").info("opened")

    def pasted(environ, start_response):
        body = f"{greeting} {global_conf.get('stage', '')}".encode()
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [body]

    return pasted
