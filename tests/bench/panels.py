"""What the dashboards show of a staged situation: their own queries, run over its length."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping

from tests.system.alerting import SCRAPE_S, Watch
from tests.unit.grafana.queries import asked, filled, load

PREFIX = "gthreadsrv / "
# As Grafana has it where Prometheus scrapes each 15 s, and what a viewer has chosen.
RATE_INTERVAL_S = 4 * SCRAPE_S
RANGE_S = 3600.0

QUERIES = {
    one.place.removeprefix(PREFIX): one.expr for board in load().values() for one in asked(board)
}


# Situation -> panel and query -> what one of its values must exceed while the trouble lasts.
SHOWN_BY: dict[str, dict[str, float]] = {
    "calm": {
        "Overview: Requests A": 5,
        "Overview: Ready A": 0.99,
        "Overview: Responses by class A": 5,
        "Exporter: Targets up A": 0.99,
    },
    "busy but well": {
        "Overview: Busiest A": 0.4,
        "Worker saturation: Busy now A": 0.4,
        "Worker saturation: Busy share by worker A": 0.4,
    },
    "reloads, recycling": {
        "Overview: Reloads and moves of scale A": 1,
        "Overview: annotation Reload": 0,
        "Resources: Exits by reason A": 1,
        "Resources: Starts by reason A": 1,
        "Resources: Boot duration A": 0.01,
    },
    "slow clients": {
        "Worker saturation: Connections by state A": 50,
        "Worker saturation: Connections of the fullest worker A": 20,
    },
    "all threads busy": {
        "Overview: Time without a free thread A": 0.5,
        "Worker saturation: Saturated A": 0.5,
        "Worker saturation: Time without a free thread by worker A": 0.5,
        "Worker saturation: Busy now A": 0.9,
        "Worker saturation: Last 15 s A": 0.8,
    },
    "requests queue": {
        "Overview: Queue p99 A": 0.25,
        "Overview: Queue time p99 by instance A": 0.25,
        "Worker saturation: Queue p99 A": 0.25,
        "Worker saturation: Queue time by source C": 0.25,
        "Worker saturation: Where the time goes A": 0.3,
    },
    "backlog fills": {
        "Overview: Accept queue filled A": 0.1,
        "Worker saturation: Backlog A": 0.1,
        "Worker saturation: Accept queue by listener A": 20,
    },
    "backlog overflows": {
        "Overview: Connections dropped A": 0,
        "Worker saturation: Dropped A": 0,
        "Worker saturation: Connections dropped by listener A": 0,
    },
    "one-sided connections": {
        "Worker saturation: Imbalance A": 0.2,
        "Worker saturation: Requests by worker A": 20,
    },
    "CPU-bound": {
        "Resources: Interpreter wait by worker A": 0.05,
        "Resources: Waiting: interpreter or CPU A": 0.05,
        "Resources: CPU used A": 0.5,
        "Worker saturation: CPU share of busy time A": 0.2,
    },
    "worker crash loop": {
        "Overview: Exits A": 2,
        "Overview: Unplanned exits by reason A": 1,
        "Overview: Instances H": 2,
    },
    "boot hangs": {
        "Overview: Workers by state C": 0,
        "Overview: Unplanned exits by reason A": 0,
    },
    "reload fails": {
        "Overview: Reloads and moves of scale A": 0,
        "Overview: annotation Reload": 0,
    },
    "request stuck": {
        "Overview: Instances G": 3,
        "Worker saturation: Oldest A": 3,
        "Worker saturation: Oldest request by worker A": 3,
    },
    "requests time out": {
        "Overview: Errors A": 0,
        "Overview: Instances D": 0,
        "Worker saturation: Requests past the timeout A": 0,
    },
    "requests fail": {
        "Overview: Errors A": 0.05,
        "Overview: 5xx share by instance A": 0.05,
        "Overview: Requests that went wrong A": 0.5,
        "Overview: Responses by method and code A": 0.5,
    },
    "server gone": {"Overview: Down A": 0},
    "children count": {
        "Exporter: App's files, most A": 20,
        "Exporter: Files of the application's metrics A": 20,
        "Exporter: Bytes of the application's metrics A": 1000,
    },
    "CPU quota": {
        "Resources: Throttled A": 0.1,
        "Resources: Throttled periods A": 1,
        "Resources: CPU share A": 0.5,
        "Resources: CPU by instance B": 0.4,
    },
    "memory grows": {
        "Resources: Mem share A": 0.9,
        "Resources: Memory against the limit C": 250e6,
        "Resources: Memory against the limit D": 300e6,
        "Resources: Memory by worker (RSS) A": 200e6,
    },
    "out of memory": {
        "Overview: Exits A": 0,
        "Resources: OOM kills A": 0,
        "Resources: Exits by reason A": 0,
    },
}


def highest(watch: Watch, place: str, begun: float, now: float, factor: float) -> float | None:
    """The largest value any series of a panel's query had since then; None of no value.

    Raises AssertionError where Prometheus refuses the query.
    """
    rate_interval, window = (f"{round(s * 1000 / factor)}ms" for s in (RATE_INTERVAL_S, RANGE_S))
    query = filled(QUERIES[place], rate_interval, window, job="shop")
    answer = watch.get(
        "/api/v1/query_range", query=query, start=str(begun), end=str(now),
        step=str(SCRAPE_S / factor),
    )  # fmt: skip
    assert answer is not None, f"{place}: refused: {query}"
    values = [
        float(value)
        for series in json.loads(answer)["data"]["result"]
        for _, value in series["values"]
    ]
    return max((value for value in values if not math.isnan(value)), default=None)


def faults(
    watch: Watch, shows: Mapping[str, float], begun: float, now: float, factor: float
) -> Iterator[str]:
    """What a viewer should have seen and did not: panels that stayed at or below their number.

    Every other query of every dashboard is run as well: none may be refused.
    """
    for place in QUERIES:
        try:
            found = highest(watch, place, begun, now, factor)
        except AssertionError as refused:
            yield str(refused)
            continue
        if place in shows and (found is None or found <= shows[place]):
            yield f"{place}: at most {found}, more than {shows[place]:g} was to be seen"
