"""Every dashboard's queries, run by a real Prometheus that scrapes a real server under load."""

from __future__ import annotations

import json
import math
import signal
import threading
import time

import pytest

from tests.system.conftest import Servers
from tests.system.harness import Server, wait_until
from tests.system.test_prometheus import Prometheus, prometheus
from tests.unit.grafana.queries import Asked, asked, filled, load

DASHBOARDS = load()
# Rates need two scrapes, and those are a second apart; room for a slow machine's.
RATE_INTERVAL, WINDOW = "10s", "60s"


def load_it(server: Server, done: threading.Event) -> None:
    """One client that asks for all kinds of things, through a proxy that stamps requests."""
    while not done.is_set():
        for target in ("/hello", "/none", "/fail", "/sleep?s=0.05"):
            server.get(target, **{"X-Request-Start": f"t={time.time():.6f}"})


def answer(scraper: Prometheus, one: Asked) -> str | None:
    """What is wrong with a query's answer, if something is."""
    text = filled(one.expr, RATE_INTERVAL, WINDOW, job="gthreadsrv")
    got = scraper.get("/api/v1/query", query=text)
    if got is None:
        return f"{one.place}: refused: {text}"
    data = json.loads(got)
    if data["status"] != "success":
        return f"{one.place}: {data}"
    values = [float(series["value"][1]) for series in data["data"]["result"]]
    if any(math.isnan(value) for value in values):
        return f"{one.place}: NaN: {text}"
    if not values and not one.may_be_empty:
        return f"{one.place}: nothing: {text}"
    return None


@pytest.mark.program("prometheus")
def test_every_query_has_an_answer(serve: Servers) -> None:
    """No query fails or gives NaN, and all have data but those that say when they have none."""
    server = serve("behaviours:app", workers=2, threads=2, metrics=True, allow_errors=True)
    server.wait_ready()
    done = threading.Event()
    clients = [threading.Thread(target=load_it, args=(server, done)) for _ in range(3)]
    with prometheus(server, serve.folder) as scraper:
        for client in clients:
            client.start()
        try:
            wait_until(lambda: scraper.query("gthreadsrv_workers_target") == 2, what="a scrape")
            server.send_signal(signal.SIGHUP)
            server.wait_log("worker ready", 4)
            every = [one for board in DASHBOARDS.values() for one in asked(board)]
            faults: list[str] = []

            def all_answered() -> bool:
                faults[:] = [fault for one in every if (fault := answer(scraper, one))]
                return not faults

            try:
                wait_until(all_answered)
            except AssertionError:
                pytest.fail("\n".join(faults))
        finally:
            done.set()
            for client in clients:
                client.join()
    assert len(every) > 100
