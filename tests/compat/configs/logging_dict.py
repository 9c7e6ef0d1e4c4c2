"""Logging configured whole, with JSON lines made by a formatter that reads the atoms."""

import json
import logging
import os

workers = 1
threads = 2
accesslog = "-"
access_log_format = '%(h)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s"'


class JsonRequestFormatter(logging.Formatter):
    def format(self, record):
        return json.dumps(
            {
                "remote_ip": record.args["h"],
                "method": record.args["m"],
                "path": record.args["U"],
                "status": str(record.args["s"]),
                "user_agent": record.args["a"],
                "referer": record.args["f"],
                "message": record.getMessage(),
            }
        )


class JsonErrorFormatter(logging.Formatter):
    def format(self, record):
        return json.dumps({"level": record.levelname, "message": record.getMessage()})


class HealthCheckFilter(logging.Filter):
    def filter(self, record):
        return record.args["U"] != "/health"


logconfig_dict = {
    "version": 1,
    "disable_existing_loggers": False,
    "root": {"level": "INFO", "handlers": ["app"]},
    "loggers": {
        "gunicorn.error": {
            "level": "INFO",
            "handlers": ["error"],
            "propagate": False,
            "qualname": "gunicorn.error",
        },
        "gunicorn.access": {
            "level": "INFO",
            "handlers": ["access"],
            "propagate": False,
            "qualname": "gunicorn.access",
        },
    },
    "filters": {"health": {"()": HealthCheckFilter}},
    "handlers": {
        "app": {
            "class": "logging.FileHandler",
            "filename": os.environ["LOGS"] + "/app.log",
            "formatter": "plain",
        },
        "error": {
            "class": "logging.FileHandler",
            "filename": os.environ["LOGS"] + "/error.log",
            "formatter": "json_error",
        },
        "access": {
            "class": "logging.FileHandler",
            "filename": os.environ["LOGS"] + "/access.log",
            "formatter": "json_request",
            "filters": ["health"],
        },
    },
    "formatters": {
        "plain": {"format": "%(name)s: %(message)s"},
        "json_request": {"()": JsonRequestFormatter},
        "json_error": {"()": JsonErrorFormatter},
    },
}


def when_ready(server):
    server.log.info("ready on %s", "a socket")
