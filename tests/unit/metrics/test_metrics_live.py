"""The live page's data: moments, what lies between them, and one collection for all viewers."""

from __future__ import annotations

import dataclasses
import gzip
import json
import math
import os
import re
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gthreadsrv_metrics import advice, live_feed, wsgi_app
from gthreadsrv_metrics.collector import MultiprocessCollector
from gthreadsrv_metrics.exporter import make_app
from gthreadsrv_metrics.exposition import negotiate, render
from gthreadsrv_metrics.live import _cells, live_state
from gthreadsrv_metrics.live_feed import LiveFeed
from gthreadsrv_metrics.live_history import (
    APART_S,
    KEPT_S,
    TOTALS,
    WINDOW_S,
    History,
    Moment,
    moment_of,
    quantile,
)
from gthreadsrv_metrics.live_page import POLICY
from gthreadsrv_metrics.page import parse_page
from gthreadsrv_metrics.reading import read_fleet
from gthreadsrv_metrics.scoreboard import Scoreboard
from gthreadsrv_metrics.sources import Sources
from tests.unit.metrics.fakes import NOW, World, ask

BOUNDS = (1.0, 2.0, 4.0)


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A server with one ready worker of two threads."""
    made = World(tmp_path, -1)
    made.sources = dataclasses.replace(made.sources, listeners=())
    return made


@pytest.fixture
def app(world: World) -> Any:
    """Its exporter."""
    return make_app(world.board, world.sources)


class Viewer:
    """Takes a state as the feed does, at the world's time."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.history = History()

    def look(self) -> dict[str, Any]:
        """The state now."""
        families, fleet = self.world.collector.measure()
        moment = moment_of(families, fleet)
        self.history.add(moment)
        return live_state(families, fleet, moment, self.history, self.world.sources)


# -- percentiles ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counts", "share", "expected"),
    [
        ((0, 0, 0, 0), 0.5, None),
        ((10, 0, 0, 0), 0.5, 0.5),
        ((0, 10, 0, 0), 0.5, 1.5),
        ((0, 10, 0, 0), 1.0, 2.0),
        ((5, 0, 5, 0), 0.5, 1.0),
        ((5, 0, 5, 0), 0.9, 3.6),
        ((1, 0, 0, 99), 0.95, 4.0),  # above the last bound is all that is known
    ],
)
def test_a_percentile_lies_evenly_in_its_bucket(
    counts: tuple[int, ...], share: float, expected: float | None
) -> None:
    """As PromQL's histogram_quantile has it."""
    assert quantile(share, BOUNDS, counts) == (
        None if expected is None else pytest.approx(expected)
    )


@given(st.lists(st.integers(0, 50), min_size=4, max_size=4), st.floats(0.01, 0.99))
def test_percentiles_are_in_order_and_within_the_bounds(counts: list[int], share: float) -> None:
    """Never below 0, never above the last bound, never falling with the share."""
    found = quantile(share, BOUNDS, counts)
    if not sum(counts):
        assert found is None
        return
    assert found is not None
    assert 0.0 <= found <= BOUNDS[-1]
    more = quantile(min(share + 0.1, 1.0), BOUNDS, counts)
    assert more is not None
    assert more >= found - 1e-9


# -- history -------------------------------------------------------------------------------


def empty_moment(at: float) -> Moment:
    """A moment in which nothing has ever happened."""
    return Moment(at, {}, (0.0,) * 5, (0.0,) * 15, (0.0,) * 13, {}, {}, (0.0,) * 12)


def test_the_history_is_bounded() -> None:
    """Viewers for hours, twenty a second: two minutes' moments a second apart, and no more."""
    history = History()
    for number in range(20 * 600):
        history.add(empty_moment(number / 20))
    assert len(history._moments) <= (KEPT_S + WINDOW_S) / APART_S + 2
    shown = history.drawn(600.0)
    assert 100 < len(shown) <= KEPT_S / APART_S + 1
    assert all(one.at >= 600 - KEPT_S for one in shown)


def test_rates_go_back_a_window_or_to_the_moment_before() -> None:
    """Seconds apart it is ten seconds; scrapes fifteen seconds apart have each other."""
    history = History()
    assert history.before(0.0) is None
    history.add(empty_moment(0.0))
    assert history.before(0.5) is None, "too near to tell a rate"
    for second in range(1, 31):
        history.add(empty_moment(float(second)))
    found = history.before(30.0)
    assert found is not None
    assert found.at == 30.0 - WINDOW_S
    sparse = History()
    for at in (0.0, 15.0, 30.0):
        sparse.add(empty_moment(at))
    found = sparse.before(31.0)
    assert found is not None
    assert found.at == 15.0


def test_what_is_drawn_is_what_happened(world: World) -> None:
    """Thirty requests in ten seconds, three of them failed, two workers that ended."""
    viewer = Viewer(world)
    world.request()
    first = viewer.look()
    assert first["history"]["rate"] == [None], "one reading is no rate"
    for number in range(30):
        world.request(status=500 if number < 3 else 200, started=world.now - 0.2, queue_s=0.004)
    world.master.exited("crash")
    world.master.exited("reload")
    world.now += 10.0
    state = viewer.look()

    history = state["history"]
    assert history["at"] == [round(5000 + NOW, 1), round(5010 + NOW, 1)] == [6000.0, 6010.0]
    assert history["rate"] == [None, 3.0]
    assert history["errors"] == [None, 0.3]
    # All in the bucket from 0.1 to 0.25, and of the queue in that from 2.5 to 5 ms.
    assert history["p50"][1] == pytest.approx(0.175)
    assert 0.1 < history["p50"][1] < history["p95"][1] < history["p99"][1] <= 0.25
    assert 0.0025 < history["queue_p50"][1] < history["queue_p99"][1] <= 0.005
    assert history["exits"] == [None, 2]
    assert state["workers"][0]["rate"] == 3.0
    assert state["exits"] == [
        {"reason": "reload", "all": 1, "recent": 1},
        {"reason": "crash", "all": 1, "recent": 1},
    ]


def test_busy_is_exact_over_the_window(world: World) -> None:
    """One of two threads busy all the time, by a request that has not ended: a half."""
    viewer = Viewer(world)
    viewer.look()
    world.thread.begin(world.now)
    world.now += 10.0
    state = viewer.look()
    assert state["history"]["busy"] == [None, 0.5]
    assert state["workers"][0]["threads"] == [10.0, -1]
    assert (state["workers"][0]["size"], state["workers"][0]["busy"]) == (2, 1)


def test_of_many_threads_the_oldest_requests_are_drawn(tmp_path: Path) -> None:
    """A thousand greenlets are counted, and 64 of them shown."""
    board = Scoreboard(1, 1000, ())
    board.master.lease(0, os.getpid(), 1, 0.0)
    board.master.set_state(0, "ready")
    for index in range(0, 1000, 10):
        board.thread(0, index).begin(100.0 - index / 100)
    [worker] = read_fleet(board, 100.0).slots
    cells = _cells(worker.ages)
    assert (worker.threads, worker.threads_busy) == (1000, 100)
    assert [round(age, 2) for age in cells] == [index / 100 for index in range(990, 350, -10)]
    assert list(_cells((1.0, -1.0, 3.0))) == [1.0, -1.0, 3.0]


def test_memory_is_each_workers_share_of_it(world: World) -> None:
    """The proportional memory, where the kernel tells it."""
    state = Viewer(world).look()
    assert state["workers"][0]["memory"] == 300 * 1024
    assert state["history"]["memory"] == [300 * 1024]
    assert state["memory"] == {"used": 1000.0, "limit": 4000.0}


def test_long_and_stuck_follow_the_timeout(world: World) -> None:
    """Half of it and all of it; without one as the alert has it."""
    assert (Viewer(world).look()["long_s"], Viewer(world).look()["stuck_s"]) == (0.5, 1.0)
    world.master.set_config({**dict.fromkeys(world_config(), 1.0), "timeout_seconds": 0.0})
    state = Viewer(world).look()
    assert (state["timeout_s"], state["stuck_s"]) == (0.0, 300.0)


def world_config() -> tuple[str, ...]:
    """The names of settings on the board."""
    from gthreadsrv_metrics.layout import CONFIG_FIELDS

    return CONFIG_FIELDS


def test_workers_that_boot_leave_or_are_silent(world: World) -> None:
    """Each says so; slots that are free are not there."""
    world.master.lease(1, 101, 2, world.now)
    world.master.lease(2, 102, 1, world.now)
    world.master.set_state(2, "draining")
    world.master.lease(3, 103, 1, world.now)
    world.master.release(3, world.now)
    world.slot.heartbeat(world.now)
    world.now += 8.0
    workers = Viewer(world).look()["workers"]
    told = [(one["slot"], one["state"], one["silent_s"]) for one in workers]
    assert told == [(0, "ready", 8), (1, "booting", 0), (2, "draining", 8)]
    assert [one["generation"] for one in workers] == [1, 2, 1]


def test_the_bounds_of_autoscaling_are_told(world: World) -> None:
    """Beside the number that is wanted now."""
    config = {**dict.fromkeys(world_config(), 1.0), "workers": 2.0, "max_workers": 8.0}
    world.master.set_config(config)
    state = Viewer(world).look()
    assert (state["workers_least"], state["workers_most"]) == (2, 8)


def test_a_server_that_is_not_ready_says_why(world: World) -> None:
    """The reason that /readyz gives."""
    assert Viewer(world).look()["not_ready"] == ""
    world.master.set_shutting_down()
    assert Viewer(world).look()["not_ready"] == "shutting down"


def test_a_board_without_any_worker(tmp_path: Path) -> None:
    """The first moment of a boot is a page too."""
    board = Scoreboard(2, 2, [])
    feed = make_app(board, Sources())
    state = json.loads(ask(feed, "/live.json").text)
    assert state["workers"] == []
    assert state["connections"] == []
    assert "no worker is ready" in state["not_ready"]


# -- advice --------------------------------------------------------------------------------


class Watched(dict[str, Mapping[Any, float]]):
    """A page that notes what is asked of it."""

    def __init__(self, known: Mapping[str, float] = {}) -> None:  # noqa: B006  (read only)
        super().__init__()
        self.known = known
        self.asked: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        self.asked.add(name)
        value = self.known.get(name.removeprefix("gthreadsrv_"))
        return default if value is None else {(): value}


def test_moments_hold_all_that_the_advice_asks_for() -> None:
    """A name that is missing would be advice from zeros."""
    page = Watched({"cgroup_memory_limit_bytes": 1.0, "listener_backlog_limit": 1.0})
    advice.advise(advice.Window(page, page, 10.0, 2.0))
    held = {f"gthreadsrv_{name}{end}" for name in TOTALS for end in ("", "_sum", "_count")}
    assert page.asked <= held
    assert len(page.asked) > 10
    waiting = {"request_queue_seconds_count": 1.0, "request_queue_seconds_sum": 1.0}
    for cpu_s, workers in ((0.0, 0.0), (9.0, 1.0)):  # for threads, and for the interpreter
        page = Watched({"worker_cpu_seconds_total": cpu_s, "worker_up": workers, **waiting})
        assert advice.advise(advice.Window({}, page, 10.0, 2.0)), "there is something to say"
        assert page.asked <= held | {"gthreadsrv_build_info"}


def full_page(world: World) -> dict[str, Any]:
    """What `gthreadsrvctl advise` reads."""
    page, _ = render(negotiate(""), list(world.collector.collect()), [], compress=False)
    return parse_page(page.decode())


@pytest.mark.parametrize("worker_class", ["gthread", "sync"])
def test_the_advice_is_that_of_gthreadsrvctl(world: World, worker_class: str) -> None:
    """From totals as from the whole page: the same texts, the same numbers."""
    build = {**world.sources.build, "worker_class": worker_class}
    world.sources = dataclasses.replace(world.sources, build=build)
    world.collector = MultiprocessCollector(world.board, world.sources)
    viewer = Viewer(world)
    before = full_page(world)
    viewer.look()
    for index in range(2):
        thread = world.board.thread(0, index)
        thread.begin(world.now)
    world.slot.begin_saturated(world.now)
    world.now += 3.0
    assert viewer.look()["advice"] is None, "three seconds are no trend"
    world.now += 7.0
    state = viewer.look()
    cores = world.sources.cores
    wanted = advice.advise(advice.Window(before, full_page(world), 10.0, cores))
    assert [one.limit for one in wanted] == ["threads"]
    assert ("--worker-class gthread" in wanted[0].text) == (worker_class == "sync")
    assert state["advice"] == {
        "seconds": 10,
        "found": [
            {"limit": one.limit, "text": one.text, "numbers": list(one.numbers)} for one in wanted
        ],
    }


# -- one collection for all -----------------------------------------------------------------


class Counting:
    """A collector that counts."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.count = 0

    def measure(self) -> Any:
        self.count += 1
        return self.world.collector.measure()


def test_viewers_of_the_same_moment_cost_one_collection(world: World) -> None:
    """Fifty at once, plain and gzip, and any number until the answer is a second old."""
    collector = Counting(world)
    feed = LiveFeed(collector, world.sources)  # type: ignore[arg-type]
    assert collector.count == 0, "nobody looks"
    answers: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: answers.append(feed.answer(compress=False)))
        for _ in range(50)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(set(answers)) == 1
    assert len(answers) == 50
    assert gzip.decompress(feed.answer(compress=True)) == answers[0]
    assert collector.count == 1
    world.now += live_feed.FRESH_S + 0.1
    feed.answer(compress=False)
    assert collector.count == 2


def test_what_costs_more_is_asked_for_less_often(world: World) -> None:
    """The server sets the pace: a second, more for large fleets, five at most."""

    def pace(cost_s: float) -> float:
        feed = LiveFeed(world.collector, world.sources)
        feed._cost_s = cost_s
        return float(json.loads(feed.answer(compress=False))["poll_s"])

    assert [pace(cost) for cost in (0.0, 0.004, 0.05, 9.0)] == [1.0, 1.0, 2.5, 5.0]


def test_scrapes_leave_a_past_for_who_opens_the_page_later(world: World, app: Any) -> None:
    """Prometheus asks each fifteen seconds; then somebody looks, and has two minutes at once."""
    for _ in range(12):
        ask(app, "/metrics")
        for _ in range(30):
            world.request()
        world.now += 15.0
    state = json.loads(ask(app, "/live.json").text)
    rates = state["history"]["rate"]
    assert len(rates) == 9
    assert set(rates) == {2.0}
    assert state["advice"] is not None


# -- the port ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/", "text/html"), ("/live.css", "text/css"), ("/live.js", "text/javascript")],
)
def test_the_files_are_served_with_a_strict_policy(app: Any, path: str, kind: str) -> None:
    """Nothing inline, nothing from elsewhere; kept by the browser and asked about each time."""
    answer = ask(app, path)
    assert answer.status == "200 OK"
    assert answer.headers["Content-Type"] == f"{kind}; charset=utf-8"
    assert answer.headers["Content-Security-Policy"] == POLICY
    assert "unsafe" not in POLICY
    assert POLICY.startswith("default-src 'none';")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-cache"
    assert answer.headers["Content-Length"] == str(len(answer.body))
    head = ask(app, path, "HEAD")
    assert (head.body, head.headers) == (b"", answer.headers)
    tag = answer.headers["ETag"]
    for known in (tag, f'"x", W/{tag}', "*"):
        again = ask(app, path, if_none_match=known)
        assert (again.status, again.body) == ("304 Not Modified", b"")
        assert again.headers == {"Cache-Control": "no-cache", "ETag": tag}
    assert ask(app, path, if_none_match='"other"').status == "200 OK"
    assert ask(app, path, "POST").status == "405 Method Not Allowed"


def test_the_page_has_nothing_inline_and_nothing_from_elsewhere(app: Any) -> None:
    """What the policy would block is not there."""
    page, script = ask(app, "/").text, ask(app, "/live.js").text
    assert "style=" not in page
    assert re.findall(r"\son[a-z]+=", page) == []
    assert page.count("<script") == page.count('<script src="live.js" defer></script>') == 1
    for text in (page, script, ask(app, "/live.css").text):
        found = re.findall(r"""["'(]\s*((?:https?:)?//[^"')]*)""", text)
        assert set(found) <= {"http://www.w3.org/2000/svg"}, "the name of SVG is no address"
    assert "innerHTML" not in script
    assert "eval" not in script


def test_the_data_is_never_kept(app: Any) -> None:
    """JSON, gzip for who likes it, no-store; GET and HEAD."""
    answer = ask(app, "/live.json")
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Cache-Control"] == "no-store"
    assert json.loads(answer.text)["workers"][0]["slot"] == 0
    packed = ask(app, "/live.json", accept_encoding="gzip")
    assert packed.headers["Content-Encoding"] == "gzip"
    assert json.loads(gzip.decompress(packed.body))["workers"]
    assert ask(app, "/live.json", "HEAD").body == b""
    assert ask(app, "/live.json", "POST").status == "405 Method Not Allowed"


@pytest.mark.parametrize(
    "path", ["/live", "/live.html", "/live.js/", "/web/live.js", "/favicon.ico"]
)
def test_nothing_else_is_there(app: Any, path: str) -> None:
    """404, as for every path that is none."""
    assert ask(app, path).status == "404 Not Found"


def test_an_application_mounts_the_metrics_and_not_the_page(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the path below the mount."""
    from gthreadsrv_metrics import sources

    sources.publish(world.board, world.sources)
    monkeypatch.setattr(sources, "_published", list(sources._published))
    for path in ("/", "/live.json"):
        assert "\ngthreadsrv_worker_up{" in ask(wsgi_app, path).text


def test_every_number_is_one(world: World, app: Any) -> None:
    """No NaN and no infinity: JSON has neither, and a browser would refuse the whole."""

    def numbers(value: Any) -> Iterator[float]:
        if isinstance(value, dict):
            for part in value.values():
                yield from numbers(part)
        elif isinstance(value, list):
            for part in value:
                yield from numbers(part)
        elif isinstance(value, float):
            yield value

    world.request()
    for _ in range(3):
        world.now += 2.0
        found = list(numbers(json.loads(ask(app, "/live.json").text)))
        assert len(found) > 10
        assert all(math.isfinite(number) for number in found)
