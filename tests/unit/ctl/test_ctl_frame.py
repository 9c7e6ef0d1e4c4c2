"""What one metrics page, or two, say of a server; how it is drawn and put into words."""

from __future__ import annotations

import dataclasses
import io
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from gthreadsrv.ctl import words
from gthreadsrv.ctl.frame import Before, Frame, frame
from gthreadsrv.ctl.render import draw
from gthreadsrv.ctl.status import plain
from gthreadsrv_metrics.catalogue import CATALOGUE

WALL = 10_000.0
Page = dict[str, dict[tuple[tuple[str, str], ...], float]]


def page(*samples: tuple[str, dict[str, str], float]) -> Page:
    """A page of these."""
    made: Page = {}
    for name, labels, value in samples:
        made.setdefault(f"gthreadsrv_{name}", {})[tuple(sorted(labels.items()))] = value
    return made


def worker(slot: int, busy: int, **totals: float) -> list[tuple[str, dict[str, str], float]]:
    """A worker of four threads, an hour old."""
    mine = {"worker": str(slot)}
    found: list[tuple[str, dict[str, str], float]] = [
        ("worker_up", mine, 1.0),
        ("worker_generation", mine, 3.0),
        ("worker_start_time_seconds", mine, WALL - 3600),
        ("worker_heartbeat_age_seconds", mine, 0.5),
        ("threads", mine, 4.0),
        ("threads_busy", mine, float(busy)),
        ("oldest_request_age_seconds", mine, 2.5 * bool(busy)),
        ("worker_resident_memory_bytes", mine, 90.0 * 2**20),
    ]
    return found + [(name, mine, value) for name, value in totals.items()]


EARLIER = page(
    ("worker_up", {"worker": "0"}, 1.0),
    ("worker_requests_total", {"worker": "0"}, 100.0),
    ("thread_busy_seconds_total", {"worker": "0"}, 50.0),
    ("worker_cpu_seconds_total", {"worker": "0", "mode": "user"}, 5.0),
    ("request_duration_seconds_count", {"code_class": "2xx"}, 100.0),
    ("request_queue_seconds_sum", {"source": "kernel"}, 1.0),
    ("request_queue_seconds_count", {"source": "kernel"}, 100.0),
)
LATER = page(
    ("build_info", {"version": "1.2", "parser": "httptools", "python": "3.11"}, 1.0),
    ("start_time_seconds", {}, WALL - 90_061),
    ("workers", {"state": "ready"}, 2.0),
    ("workers", {"state": "booting"}, 1.0),
    ("workers", {"state": "draining"}, 0.0),
    ("workers_target", {}, 3.0),
    ("config_workers", {}, 2.0),
    ("config_max_workers", {}, 8.0),
    ("thread_utilization_ratio", {}, 0.95),
    *worker(0, 4, worker_requests_total=120.0, thread_busy_seconds_total=58.0),
    *worker(1, 1, worker_requests_total=7.0, thread_busy_seconds_total=0.5),
    ("worker_proportional_memory_bytes", {"worker": "1"}, 40.0 * 2**20),
    ("worker_cpu_seconds_total", {"worker": "0", "mode": "user"}, 6.0),
    ("worker_cpu_seconds_total", {"worker": "0", "mode": "system"}, 0.5),
    ("worker_up", {"worker": "2"}, 0.0),
    ("request_duration_seconds_count", {"code_class": "2xx"}, 120.0),
    ("request_duration_seconds_count", {"code_class": "5xx"}, 4.0),
    ("request_duration_seconds_sum", {"code_class": "2xx"}, 12.4),
    ("request_queue_seconds_sum", {"source": "kernel"}, 3.0),
    ("request_queue_seconds_count", {"source": "kernel"}, 120.0),
    ("connections", {"worker": "0", "state": "idle"}, 5.0),
    ("connections", {"worker": "1", "state": "idle"}, 2.0),
    ("worker_exits_total", {"reason": "crash"}, 1.0),
    ("worker_exits_total", {"reason": "oom"}, 0.0),
    ("listener_backlog", {"listener": "0.0.0.0:8000"}, 17.0),
    ("listener_backlog_limit", {"listener": "0.0.0.0:8000"}, 128.0),
    ("listener_drops_total", {"listener": "0.0.0.0:8000"}, 3.0),
    ("cgroup_memory_limit_bytes", {}, 512.0 * 2**20),
)


def shown(found: Frame, trouble: str = "", width: int = 120) -> str:
    """As a terminal of so many columns shows it, without colours."""
    out = io.StringIO()
    Console(file=out, width=width, color_system=None).print(draw(found, "127.0.0.1:9180", trouble))
    return out.getvalue()


def test_one_page_has_states_and_totals() -> None:
    found = frame(LATER, WALL)
    assert (found.version, found.parser, found.uptime_s) == ("1.2", "httptools", 90_061.0)
    assert (found.workers_ready, found.workers_booting, found.workers_target) == (2, 1, 3)
    assert (found.workers_least, found.workers_most) == (2, 8)
    assert (found.threads, found.threads_busy, found.utilisation) == (8, 5, 0.95)
    assert (found.requests, found.responses_5xx) == (124.0, 4.0)
    assert found.connections == {"idle": 7.0}
    assert found.exits == {"crash": 1.0}
    assert [line.slot for line in found.workers] == [0, 1], "a free slot is no worker"
    assert [line.memory_bytes for line in found.workers] == [90 * 2**20, 40 * 2**20]
    assert found.memory_bytes == 130 * 2**20
    assert found.requests_per_s is None
    assert found.workers[0].busy_share is None
    [listener] = found.listeners
    assert (listener.waiting, listener.limit, listener.dropped) == (17, 128, 3)


def test_two_pages_have_rates() -> None:
    """Of a worker that is new since then, everything counts."""
    found = frame(LATER, WALL, Before(EARLIER, 2.0))
    assert found.requests_per_s == 12.0
    assert found.responses_5xx_per_s == 2.0
    assert found.queue_mean_s == pytest.approx(0.1)
    assert found.duration_mean_s == pytest.approx(12.4 / 24)
    assert found.cpu_cores == 0.75
    first, second = found.workers
    assert (first.requests_per_s, first.busy_share, first.cpu_cores) == (10.0, 1.0, 0.75)
    assert (second.requests_per_s, second.busy_share, second.cpu_cores) == (3.5, 0.0625, None)


def test_throttling_is_a_share_of_time_not_of_cpus() -> None:
    """The kernel adds up what each CPU stood still."""
    seconds = ("cgroup_cpu_throttled_seconds_total", {}, 80.0)
    with_periods = page(seconds, ("cgroup_cpu_throttled_periods_total", {}, 60.0))
    assert frame(with_periods, WALL, Before(page(), 10.0)).throttled_share == pytest.approx(0.6)
    assert frame(page(seconds), WALL, Before(page(), 10.0)).throttled_share == 1.0
    assert frame(page(), WALL, Before(page(), 10.0)).throttled_share is None


def test_a_server_that_started_anew_has_no_negative_rates() -> None:
    found = frame(EARLIER, WALL, Before(LATER, 10.0))
    assert found.requests_per_s == 10.0
    assert found.workers[0].busy_share is None, "its threads are not known"


def test_an_empty_page_is_a_server_of_which_nothing_is_known() -> None:
    found = frame({}, WALL, Before({}, 1.0))
    assert (found.threads, found.workers, found.listeners) == (0, (), ())
    assert found.utilisation is None
    assert "requests -" in shown(found)
    assert plain(found, "no: it boots").startswith("ready        no: it boots\n")


def test_it_asks_only_for_metrics_that_exist() -> None:
    series = {name for metric in CATALOGUE for name in metric.series}
    assert set(LATER) | set(EARLIER) <= series


def test_the_picture_has_a_square_for_each_thread() -> None:
    """Full where it is busy; and the numbers beside it."""
    lines = shown(frame(LATER, WALL, Before(EARLIER, 2.0))).splitlines()
    assert lines[0] == "gthreadsrv 1.2  127.0.0.1:9180  up 1d1h"
    assert lines[1] == (
        "requests 12.0/s   5xx 2.0/s   threads 5/8   busy 95%   queue 100 ms   duration 517 ms"
    )
    assert lines[2] == (
        "workers 2/3 (2:8) booting 1   memory 130 MiB of 512 MiB   CPU 0.75   exits crash 1"
    )
    assert lines[3] == "backlog 0.0.0.0:8000 17/128 dropped 3"
    assert lines[4].split() == [
        "worker", "threads", "busy", "req/s", "CPU", "oldest", "memory", "age", "gen", "heard",
    ]  # fmt: skip
    assert lines[5].split() == [
        "0", "■■■■", "100%", "10.0", "0.75", "2s", "90", "MiB", "1h00m", "3", "0s",
    ]  # fmt: skip
    assert lines[6].split()[:4] == ["1", "■···", "6%", "3.5"]


def test_a_narrow_terminal_has_more_lines_and_whole_facts() -> None:
    lines = shown(frame(LATER, WALL, Before(EARLIER, 2.0)), width=60).splitlines()
    assert [line.rstrip() for line in lines[1:5]] == [
        "requests 12.0/s   5xx 2.0/s   threads 5/8   busy 95%",
        "queue 100 ms   duration 517 ms",
        "workers 2/3 (2:8) booting 1   memory 130 MiB of 512 MiB",
        "CPU 0.75   exits crash 1",
    ]


def test_many_threads_are_a_bar_with_its_numbers() -> None:
    line = frame(LATER, WALL).workers[0]
    many = dataclasses.replace(line, threads=640, threads_busy=1)
    found = dataclasses.replace(frame(LATER, WALL), workers=(many,))
    assert f"■{'·' * 31} 1/640" in shown(found)


def test_what_went_wrong_is_said_beside_the_last_picture() -> None:
    assert "nobody there\n" in shown(frame(LATER, WALL), "nobody there").replace(" \n", "\n")


def test_status_is_a_fact_a_line() -> None:
    assert plain(frame(LATER, WALL), "yes").splitlines() == [
        "ready                    yes",
        "version                  1.2, parser httptools",
        "uptime                   1d1h",
        "workers                  2 ready of 3 wanted, 1 booting, 0 draining, 2:8 allowed",
        "threads                  5 of 8 busy, 95% over the last 15 s",
        "requests                 124 answered, 4 of them 5xx",
        "connections              idle 7",
        "memory                   130 MiB in workers, limit 512 MiB",
        "exits                    crash 1",
        "backlog of 0.0.0.0:8000  17 of 128, 3 dropped",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0s"),
        (59.9, "59s"),
        (60, "1m00s"),
        (3599, "59m59s"),
        (7500, "2h05m"),
        (90_061, "1d1h"),
    ],
)
def test_ages(seconds: float, text: str) -> None:
    assert words.age(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(None, "-"), (0, "0 B"), (2048, "2 KiB"), (3 * 2**20, "3 MiB"), (5 * 2**40, "5.0 TiB")],
)
def test_sizes(number: float | None, text: str) -> None:
    assert words.size(number) == text


values = st.floats(0, 1e12)


@given(st.dictionaries(st.sampled_from(sorted({*LATER, *EARLIER})), values), values)
@settings(max_examples=40, deadline=None)
def test_any_page_can_be_drawn(changes: dict[str, float], seconds: float) -> None:
    """Whatever the numbers."""
    wild: dict[str, Any] = {**LATER}
    for name, value in changes.items():
        wild[name] = dict.fromkeys(wild.get(name, {(): 0.0}), value)
    if not all("worker" in dict(key) for key in wild.get("gthreadsrv_worker_up", {})):
        return
    found = frame(wild, WALL, Before(LATER, seconds))
    assert shown(found)
    assert plain(found, "yes")
