"""What is said of each kind of shortage, and that nothing is said of a server that is well."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gthreadsrv_metrics.advice import Window, advise
from gthreadsrv_metrics.catalogue import CATALOGUE

SECONDS = 10.0
CORES = 4.0
MIB = 2.0**20

# Four workers of four threads, a quarter busy, over ten seconds.
WELL: dict[str, float] = {
    "worker_up": 4,
    "threads": 16,
    "config_threads": 4,
    "thread_busy_seconds_total": 40,
    "request_cpu_seconds_total": 5,
    "worker_cpu_seconds_total": 6,
    "saturated_seconds_total": 0,
    "request_queue_seconds_count": 1000,
    "request_queue_seconds_sum": 0.5,
    "listener_backlog": 0,
    "listener_backlog_limit": 2048,
    "listener_drops_total": 0,
    "cgroup_memory_limit_bytes": 512 * MIB,
    "cgroup_memory_usage_bytes": 200 * MIB,
    "worker_proportional_memory_bytes": 150 * MIB,
}
WAITING = {
    "thread_busy_seconds_total": 158,
    "saturated_seconds_total": 36,
    "request_queue_seconds_sum": 300,
}


def window(**changes: float) -> Window:
    after: dict[str, Any] = {
        f"gthreadsrv_{name}": {(): float(value)} for name, value in {**WELL, **changes}.items()
    }
    return Window({}, after, SECONDS, CORES)


def limits(**changes: float) -> list[str]:
    return [advice.limit for advice in advise(window(**changes))]


def test_nothing_is_said_of_a_server_that_is_well() -> None:
    assert limits() == []


def test_nothing_is_said_of_an_idle_or_a_new_one() -> None:
    """No division by what is not there."""
    assert advise(Window({}, {}, SECONDS, CORES)) == []
    assert limits(thread_busy_seconds_total=0, request_queue_seconds_count=0) == []


def test_threads_that_wait_for_others_should_be_more() -> None:
    """By how many, and on which numbers."""
    [advice] = advise(window(**WAITING))
    assert advice.limit == "threads"
    assert "--threads from 4 to 6" in advice.text
    assert "threads busy 99%" in advice.numbers
    assert "mean wait 300 ms" in advice.numbers
    assert str(advice).startswith("threads: ")


def test_busy_interpreters_should_be_more_workers() -> None:
    """Threads of one worker compute one at a time."""
    few = {"worker_up": 2, "threads": 8, "config_threads": 4}
    busy = {"worker_cpu_seconds_total": 19.5, "request_cpu_seconds_total": 19}
    [advice] = advise(window(**WAITING, **few, **busy))
    assert advice.limit == "workers"
    assert "--workers from 2 to 3" in advice.text


def test_threads_that_are_seldom_free_are_said_to_be_short_only_where_they_are_full() -> None:
    """A worker of one thread has none free whenever it works, and nobody waits for that."""
    one = {"worker_up": 2, "threads": 2, "config_threads": 1}
    half = {"thread_busy_seconds_total": 10, "saturated_seconds_total": 10}
    assert limits(**one, **half) == []
    full = {"thread_busy_seconds_total": 19, "saturated_seconds_total": 19}
    [advice] = advise(window(**one, **full))
    assert advice.text.startswith("hardly a thread is ever free")
    [advice] = advise(window(**one, **full, request_queue_seconds_sum=300))
    assert advice.text.startswith("requests wait")


def test_a_sync_worker_is_not_told_to_have_more_threads() -> None:
    """It has one, whatever --threads says."""
    sync = window(**WAITING, worker_up=4, threads=4, config_threads=1)
    after = {**sync.after, "gthreadsrv_build_info": {(("worker_class", "sync"),): 1.0}}
    [advice] = advise(Window({}, after, SECONDS, CORES))
    assert "--worker-class gthread with --threads 6" in advice.text


def green(**changes: float) -> Window:
    """Four workers of a thousand greenlets each."""
    many = {"threads": 4000, "config_threads": 1000, "config_worker_connections": 1000}
    made = window(**{**many, **changes})
    labels = (("parser", "h11"), ("worker_class", "gevent"))
    return Window({}, {**made.after, "gthreadsrv_build_info": {labels: 1.0}}, SECONDS, CORES)


def test_greenlets_that_wait_for_one_that_holds_the_thread_need_no_more_greenlets() -> None:
    """Nearly all of them are free; what holds them up is told by how late heartbeats are."""
    [advice] = advise(green(request_queue_seconds_sum=300, interpreter_wait_seconds_total=8))
    assert advice.limit == "threads"
    assert "--worker-class gthread" in advice.text
    assert "raise" not in advice.text
    assert "others held up 20% of the time" in advice.numbers


def test_greenlets_that_are_too_few_follow_the_setting_that_counts() -> None:
    """Where --threads was not given there is one for each of --worker-connections."""
    full = {**WAITING, "thread_busy_seconds_total": 39000}
    [advice] = advise(green(**full))
    assert "raise --worker-connections from 1000 to 1500" in advice.text
    few = {**WAITING, "config_threads": 4, "threads": 16}
    [advice] = advise(green(**few))
    assert "raise --threads from 4 to 6" in advice.text


def test_a_range_of_workers_is_widened_where_it_is_used_up() -> None:
    """Below its end the server adds workers by itself."""
    few = {"worker_up": 2, "threads": 8, "config_threads": 4, "config_workers": 1}
    busy = {"worker_cpu_seconds_total": 19.5, "request_cpu_seconds_total": 19}
    asked = {**WAITING, **few, **busy, "workers_target": 2}
    assert limits(**asked, config_max_workers=4) == []
    [advice] = advise(window(**asked, config_max_workers=2))
    assert "--workers from 1:2 to 1:3" in advice.text


def test_workers_of_a_reload_are_not_counted_twice() -> None:
    """While both generations are there, what is wanted is what was set."""
    both = {"worker_up": 4, "threads": 16, "config_threads": 4, "workers_target": 2}
    busy = {"worker_cpu_seconds_total": 33, "request_cpu_seconds_total": 33}
    [advice] = advise(Window({}, window(**WAITING, **both, **busy).after, SECONDS, 8.0))
    assert "--workers from 2 to 5" in advice.text


def test_a_full_cpu_is_not_mended_by_settings() -> None:
    assert limits(**WAITING, worker_cpu_seconds_total=39) == ["cpu"]


def test_a_cpu_that_others_have_is_not_a_lack_of_threads() -> None:
    """Threads that wait for a CPU are busy and do not compute, as those that wait for a database."""
    [advice] = advise(
        window(**WAITING, worker_cpu_seconds_total=2.5, worker_runqueue_wait_seconds_total=25)
    )
    assert advice.limit == "cpu"
    assert "others on this machine" in advice.text
    assert "2.50 threads ready to compute have no CPU" in advice.numbers
    assert limits(**WAITING, worker_runqueue_wait_seconds_total=2) == ["threads"]
    assert limits(worker_runqueue_wait_seconds_total=25) == [], "nobody waits"


def test_a_throttled_container_needs_quota() -> None:
    """Which is all that is said of its CPU."""
    assert limits(
        **WAITING,
        worker_cpu_seconds_total=19.9,
        cgroup_cpu_limit_cores=2,
        cgroup_cpu_throttled_seconds_total=3,
    ) == ["quota"]


def test_throttling_is_a_share_of_time_not_of_cpus() -> None:
    """The kernel adds up what each CPU stood still: sixteen of them, half of every period."""
    limited = {"cgroup_cpu_limit_cores": 8, "cgroup_cpu_throttled_seconds_total": 80}
    [advice] = advise(window(**limited, cgroup_cpu_throttled_periods_total=60))
    assert "throttled 60% of the time" in advice.numbers, (
        "in six of ten periods, for a part of each"
    )
    [advice] = advise(window(**limited))
    assert "throttled 100% of the time" in advice.numbers


def test_threads_that_compute_outside_the_interpreter_are_not_held_up_by_it() -> None:
    """As when hashing or scaling pictures: they take no turns, and more threads would compute more."""
    few = {"worker_up": 1, "threads": 2, "config_threads": 2}
    busy = {"worker_cpu_seconds_total": 19.5, "request_cpu_seconds_total": 19}
    waiting = {**WAITING, "thread_busy_seconds_total": 19.8, "saturated_seconds_total": 9}
    [advice] = advise(window(**waiting, **few, **busy, interpreter_wait_seconds_total=0.005))
    assert advice.limit == "threads"
    assert "--threads from 2 to 3" in advice.text
    assert "a database" not in advice.text
    [advice] = advise(window(**waiting, **few, **busy, interpreter_wait_seconds_total=0.05))
    assert advice.limit == "workers"


def test_a_busy_interpreter_is_told_of_though_threads_are_free() -> None:
    """Requests that compute in turns take several times as long, and none waits for a thread."""
    few = {"worker_up": 1, "threads": 8, "config_threads": 8}
    turns = {"worker_cpu_seconds_total": 9.8, "request_cpu_seconds_total": 9.5}
    [advice] = advise(window(**few, **turns, thread_busy_seconds_total=40))
    assert advice.limit == "workers"
    assert "--workers from 1 to 2" in advice.text
    assert limits(**few, **turns, thread_busy_seconds_total=10) == [], "one at a time"


def test_a_full_cpu_is_told_of_though_threads_are_free() -> None:
    """More requests at once than CPUs, which share them."""
    full = {"worker_cpu_seconds_total": 39, "request_cpu_seconds_total": 38}
    assert limits(**full, thread_busy_seconds_total=120) == ["cpu"]
    assert limits(**full, thread_busy_seconds_total=42) == [], "one for each CPU"


@pytest.mark.parametrize(
    ("usage", "held", "killed", "said"),
    [(500, 450, 0, True), (500, 100, 0, False), (300, 250, 1, True), (300, 250, 0, False)],
)
def test_memory_is_what_workers_hold_or_have_died_of(
    usage: float, held: float, killed: float, said: bool
) -> None:
    """A full page cache is no shortage."""
    found = limits(
        cgroup_memory_usage_bytes=usage * MIB,
        worker_proportional_memory_bytes=held * MIB,
        cgroup_oom_kills_total=killed,
    )
    assert found == (["memory"] if said else [])


@pytest.mark.parametrize("change", [{"listener_backlog": 1500.0}, {"listener_drops_total": 3.0}])
def test_a_full_backlog_is_told_with_its_limit(change: dict[str, float]) -> None:
    [advice] = advise(window(**change))
    assert advice.limit == "backlog"
    assert any("of 2048 waiting" in number for number in advice.numbers)


def test_time_lost_in_the_proxy_is_the_proxys() -> None:
    found = advise(window(proxy_queue_seconds_count=1000, proxy_queue_seconds_sum=400))
    assert [advice.limit for advice in found] == ["proxy"]
    assert limits(**WAITING, proxy_queue_seconds_count=1000, proxy_queue_seconds_sum=400) == [
        "threads"
    ]


def test_it_asks_only_for_metrics_that_exist() -> None:
    """Every name used above is in the catalogue."""
    series = {name for metric in CATALOGUE for name in metric.series}
    assert {f"gthreadsrv_{name}" for name in WELL} <= series


@given(st.dictionaries(st.sampled_from(sorted(WELL)), st.floats(0, 1e9)))
def test_any_page_has_its_answer(changes: dict[str, float]) -> None:
    """Whatever the numbers, and each limit once."""
    found = limits(**changes)
    assert len(set(found)) == len(found)
