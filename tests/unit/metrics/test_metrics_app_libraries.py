"""Libraries that applications use on top of prometheus_client, unchanged."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

from tests.unit.metrics.stories import files, play, totals

FLASK = """
def make():
    from flask import Flask
    from prometheus_flask_exporter import PrometheusMetrics
    app = Flask("shop")
    PrometheusMetrics(app)
    app.route("/cart")(lambda: "ok")
    return lambda: app.test_client().get("/cart").status_code
"""

DJANGO = """
def make():
    import django
    from django.conf import settings
    from django.http import HttpResponse
    from django.test import Client
    from django.urls import path
    middleware = "django_prometheus.middleware.Prometheus{}Middleware"
    settings.configure(
        ALLOWED_HOSTS=["*"], ROOT_URLCONF="__main__", INSTALLED_APPS=["django_prometheus"],
        MIDDLEWARE=[middleware.format("Before"), middleware.format("After")],
    )
    global urlpatterns
    urlpatterns = [path("cart", lambda request: HttpResponse("ok"))]
    django.setup()
    client = Client()
    return lambda: client.get("/cart").status_code
"""

SERVE = """
def worker(slot, requests):
    def serve():
        install_app_metrics(slot, directory)
        request = preloaded or make()
        for _ in range(requests):
            assert request() == 200
    return serve
for slot, requests in ((0, 3), (1, 4), (0, 5)):
    run(worker(slot, requests))
"""

LAZY = "preloaded = None\n"
PRELOAD = "install_app_metrics(None, directory)\npreloaded = make()\n"


@pytest.mark.parametrize("boot", [LAZY, PRELOAD], ids=["each worker", "preloaded"])
@pytest.mark.parametrize(
    ("module", "application", "series"),
    [
        ("prometheus_flask_exporter", FLASK, "flask_http_request_total[GET][200]"),
        ("django_prometheus", DJANGO, "django_http_requests_before_middlewares_total"),
    ],
)
def test_library(tmp_path: Path, module: str, application: str, series: str, boot: str) -> None:
    """Its request counter is the number of requests, over workers and their successors."""
    if importlib.util.find_spec(module) is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{module} is not installed: it belongs to the test extra", pytrace=False)
        pytest.skip(f"{module} is not installed")
    play(tmp_path, application + boot + SERVE)
    assert totals(tmp_path)[series] == 12
    assert {name.rpartition("_")[2] for name in files(tmp_path)} <= {"0.db", "1.db", "master.db"}
