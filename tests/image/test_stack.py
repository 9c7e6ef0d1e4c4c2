"""`docker compose up`: a proxy, a scraper and a load find the application, and there is data to see."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import requests

from tests.image.conftest import Report
from tests.image.engine import Engine
from tests.image.stack import stack
from tests.system.harness import wait_until
from tests.unit.grafana.queries import asked, filled, load
from tests.unit.metrics.rule_files import EXPECTED_ALERTS

PROMETHEUS = "http://127.0.0.1:9090"


def ask(path: str, **parameters: str) -> Any:
    """The data of one call of Prometheus' API, or None while it does not answer."""
    try:
        answer = requests.get(PROMETHEUS + path, params=parameters, timeout=10)
    except requests.ConnectionError:
        return None
    return answer.json()["data"] if answer.ok else None


def query(text: str) -> list[float]:
    """The values of one query now."""
    data = ask("/api/v1/query", query=text)
    return [float(series["value"][1]) for series in data["result"]] if data else []


def test_the_stack(engine: Engine, report: Report) -> None:
    """All of it in one life of the stack, because each takes minutes."""
    with stack(engine) as one:
        wait_until(lambda: query('up{job="gthreadsrv"}') == [1.0], 120, what="scraped")

        # The rules of this project, loaded from where they are.
        groups = ask("/api/v1/rules")["groups"]
        alerts = {rule["name"] for group in groups for rule in group["rules"] if "alerts" in rule}
        assert alerts == set(EXPECTED_ALERTS)

        # nginx reaches the application, which believes what it says about the client.
        seen = requests.get("http://127.0.0.1:8080/headers", timeout=10).text
        assert "HTTP_X_REQUEST_START: t=" in seen
        assert "HTTP_HOST: 127.0.0.1:8080" in seen

        # A dashboard with data: each query of the first one has an answer, and no NaN.
        every = [part for part in asked(load()["overview"]) if not part.may_be_empty]
        faults: list[str] = []

        def answered() -> bool:
            faults[:] = []
            for part in every:
                values = query(filled(part.expr, "1m", "15m", job="gthreadsrv"))
                if not values or any(math.isnan(value) for value in values):
                    faults.append(f"{part.place}: {values}: {part.expr}")
            return not faults

        try:
            wait_until(answered, 180, what="every panel")
        except AssertionError:
            pytest.fail("\n".join(faults))
        report["overview_queries_with_data"] = len(every)
        report["stack_requests_per_second"] = round(
            query("sum(rate(gthreadsrv_requests_total[1m]))")[0]
        )
        assert query("sum(rate(gthreadsrv_proxy_queue_seconds_count[1m]))")[0] > 1

        # One instance more is found by itself.
        one.up("--scale", "app=2")
        wait_until(lambda: query('up{job="gthreadsrv"}') == [1.0, 1.0], 120, what="two instances")

        # Each service is as confined as the file says.
        for service in ("app", "nginx", "prometheus", "load"):
            for name in one.containers(service):
                limits = engine.inspect(name)["HostConfig"]
                assert limits["ReadonlyRootfs"], service
                assert limits["CapDrop"] == ["ALL"], service
                assert limits["NanoCpus"] > 0 and limits["Memory"] > 0, service
                assert limits["PidsLimit"] > 0, service
        names = one.containers("app")
        one.compose("stop", "app")
        codes = [engine.inspect(name)["State"]["ExitCode"] for name in names]
        assert codes == [0, 0], json.dumps(codes)
