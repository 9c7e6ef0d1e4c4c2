"""Every panel of every dashboard, asked of a real Prometheus that scrapes a real server."""

from __future__ import annotations

import json
import math
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.system.conftest import Servers
from tests.system.harness import wait_until
from tests.system.test_prometheus import Prometheus, prometheus
from tests.unit.grafana.dashboard_files import PanelQuery, queries

EMPTY_MARK = "**Empty**"


def values(database: Prometheus, query: PanelQuery) -> list[float]:
    """What an instant query gives; fails when Prometheus cannot run it."""
    answer = database.get("/api/v1/query", query=query.expression)
    assert answer is not None, f"{query.name}: refused\n{query.expression}"
    data: Any = json.loads(answer)["data"]
    return [float(one["value"][1]) for one in data["result"]]


@pytest.mark.program("prometheus")
def test_every_panel_has_something_to_show(serve: Servers, tmp_path: Path) -> None:
    """But for those that say when they are empty; none is refused or gives only NaN."""
    server = serve("behaviours:app", workers=2, threads=2, metrics=True, allow_errors=True)
    ended = threading.Event()

    def load() -> None:
        with server.connect() as connection:
            while not ended.wait(0.02):
                connection.request("POST", "/echo", {"Content-Length": "2"}, b"hi")
                connection.response()

    client = threading.Thread(target=load)
    client.start()
    try:
        with prometheus(server, tmp_path) as database:
            panels: dict[tuple[str, str], list[PanelQuery]] = {}
            for query in queries():
                if EMPTY_MARK not in query.description:
                    panels.setdefault((query.dashboard, query.panel), []).append(query)
                else:
                    values(database, query)  # not refused

            def all_speak() -> bool:
                for panel, asked in list(panels.items()):
                    # A limit that is not set is a line less.
                    found = [value for query in asked for value in values(database, query)]
                    if any(not math.isnan(value) for value in found):
                        del panels[panel]
                return not panels

            try:
                wait_until(all_speak, deadline_s=40.0)
            except AssertionError:
                pytest.fail(f"nothing to show: {sorted(panels)}", pytrace=False)
    finally:
        ended.set()
        client.join()
