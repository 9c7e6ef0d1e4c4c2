"""The collector: the whole catalogue, each metric moved by what it is about."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from gthreadsrv_metrics import MultiprocessCollector, kernel, labels, sources
from gthreadsrv_metrics.catalogue import BY_NAME, CATALOGUE
from gthreadsrv_metrics.layout import CONFIG_FIELDS
from gthreadsrv_metrics.scoreboard import Scoreboard
from gthreadsrv_metrics.sources import Sources
from tests.unit.metrics.fakes import BUILD, LISTENER, NOW, Usage, World, process


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A server of its own for each test."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(5)
        made = World(tmp_path, listener.fileno())
        yield made
        for client in made.clients:
            client.close()


def test_the_catalogue_is_what_is_collected(world: World) -> None:
    """Names, types, help, label names and fixed label values: neither side has more."""
    world.now += 1.0
    world.request()
    families = {family.name: family for family in world.collector.collect()}
    by_family = {metric.full_name.removesuffix("_total"): metric for metric in CATALOGUE}
    assert set(families) == set(by_family)
    for name, family in families.items():
        metric = by_family[name]
        assert (family.type, family.documentation) == (metric.type, metric.help)
        for sample in family.samples:
            assert sample.name in metric.series
            assert set(sample.labels) - {"le"} == set(metric.labels)
        for label, values in metric.values.items():
            assert {sample.labels[label] for sample in family.samples} == set(values)
        if metric.bounds:
            bounds = [s.labels["le"] for s in family.samples if s.name.endswith("_bucket")]
            assert [float(le) for le in bounds[: len(metric.bounds)]] == list(metric.bounds)
            assert bounds[len(metric.bounds)] == "+Inf"


def test_the_catalogue_is_well_formed() -> None:
    """Names are unique, units are base units, counters say so, everything is documented."""
    assert len({metric.name for metric in CATALOGUE}) == len(CATALOGUE)
    for metric in CATALOGUE:
        assert metric.type in {"gauge", "counter", "histogram"}
        assert metric.name.endswith("_total") == (metric.type == "counter")
        assert bool(metric.bounds) == (metric.type == "histogram")
        assert list(metric.bounds) == sorted(set(metric.bounds))
        assert metric.help.endswith(".")
        assert "\n" not in metric.help
        assert not any(f"_{unit}" in metric.name for unit in ("ms", "milliseconds", "kb"))
        assert set(metric.values) <= set(metric.labels)
        assert metric.full_name in metric.promql


Change = Callable[[World], object]


def all_of(*changes: Change) -> Change:
    """Several things happen."""

    def change(world: World) -> None:
        for one in changes:
            one(world)

    return change


def tick(world: World) -> None:
    """A second passes."""
    world.now += 1.0


def begin(world: World) -> None:
    """A request begins."""
    world.thread.begin(NOW)


def open_files(world: World) -> None:
    """The worker opens many files."""
    for number in range(300):
        (world.machine.proc / "100" / "fd" / f"a-rather-long-name-{number}").touch()


def connect(world: World) -> None:
    """A client connects and nobody accepts it."""
    with socket.socket(fileno=world.sources.listeners[0].fd) as listener:
        address = listener.getsockname()
        listener.detach()
    world.clients.append(socket.create_connection(address))


def rewrite(path: str, text: str) -> Change:
    """A control group's file changes."""
    return lambda world: world.machine.write(path, text)


def reprocess(path: str, text: str) -> Change:
    """A process file changes; the clock passes the memory period."""

    def change(world: World) -> None:
        (world.machine.proc / "100" / path).write_text(text)
        world.now += 11

    return change


def more_limit(world: World) -> None:
    """A successor may open more files."""
    process(world.machine.proc, 200)
    (world.machine.proc / "200" / "limits").write_text("Max open files  9999  9999  files\n")
    world.master.release(0, world.now)
    world.master.lease(0, 200, 2, world.now)


def config(name: str) -> tuple[str, dict[str, str], Change]:
    """A setting changes with a reload."""
    values = dict.fromkeys(CONFIG_FIELDS, 1.0) | {name: 7.0}
    return (f"config_{name}", {}, lambda world: world.master.set_config(values))


W = {"worker": "0"}
# Every metric: a series of it, and what changes it.
CHANGES: list[tuple[str, dict[str, str], Change]] = [
    *(config(name) for name in CONFIG_FIELDS),
    ("start_time_seconds", {}, lambda w: w.master.set_start_time(77.0)),
    ("workers", {"state": "draining"}, lambda w: w.master.set_state(0, "draining")),
    ("workers_target", {}, lambda w: w.master.set_target_workers(9)),
    ("worker_up", W, lambda w: w.master.release(0, NOW)),
    ("worker_start_time_seconds", W, lambda w: w.master.lease(0, 100, 1, NOW)),
    ("worker_generation", W, lambda w: w.master.lease(0, 100, 2, NOW)),
    *(("worker_spawns_total", {"reason": reason}, lambda w, r=reason: w.master.spawned(r))
      for reason in labels.SPAWN_REASONS),
    *(("worker_exits_total", {"reason": reason}, lambda w, r=reason: w.master.exited(r))
      for reason in labels.EXIT_REASONS),
    ("worker_boot_duration_seconds_bucket", {"le": "2.5"}, lambda w: w.master.booted(2.0)),
    ("worker_boot_duration_seconds_count", {}, lambda w: w.master.booted(2.0)),
    ("worker_boot_duration_seconds_sum", {}, lambda w: w.master.booted(2.0)),
    ("worker_heartbeat_age_seconds", W, tick),
    ("reloads_total", {"result": "ok"}, lambda w: w.master.reloaded(True, 2.0)),
    ("reloads_total", {"result": "failed"}, lambda w: w.master.reloaded(False, 2.0)),
    ("last_reload_success_timestamp_seconds", {}, lambda w: w.master.reloaded(True, 2.0)),
    ("scale_events_total", {"direction": "up"}, lambda w: w.master.scaled("up")),
    ("scale_events_total", {"direction": "down"}, lambda w: w.master.scaled("down")),
    *(("scale_refusals_total", {"reason": reason}, lambda w, r=reason: w.master.scale_refused(r))
      for reason in labels.SCALE_REFUSALS),
    ("threads", W, lambda w: w.master.lease(0, 100, 1, NOW, threads=1)),
    ("threads_busy", W, begin),
    ("thread_utilization_ratio", {}, all_of(tick, begin, tick)),
    ("thread_busy_seconds_total", W, all_of(begin, tick)),
    ("saturated_seconds_total", W, all_of(lambda w: w.slot.begin_saturated(NOW), tick)),
    *((f"request_queue_seconds_{part}", {"source": source, **le},
       lambda w, k=source == "kernel": w.request(queue_s=0.002, kernel=k))
      for source in labels.QUEUE_SOURCES
      for part, le in (("bucket", {"le": "0.0025"}), ("count", {}), ("sum", {}))),
    *((f"proxy_queue_seconds_{part}", le, lambda w: w.thread.proxy_queue(0.002))
      for part, le in (("bucket", {"le": "0.0025"}), ("count", {}), ("sum", {}))),
    ("listener_backlog", {"listener": LISTENER}, connect),
    *(("connections", {**W, "state": state}, lambda w: w.slot.connections(1, 2, 3, 4))
      for state in labels.CONNECTION_STATES),
    ("connections_accepted_total", W, lambda w: w.thread.count_accept()),
    *(("connections_closed_total", {"reason": reason}, lambda w, r=reason: w.thread.count_close(r))
      for reason in labels.CLOSE_REASONS),
    ("requests_total", {"method": "GET", "code": "200"}, World.request),
    ("worker_requests_total", W, World.request),
    *((f"request_duration_seconds_{part}", {"code_class": name, **le},
       lambda w, code=int(name[0]) * 100 + 3: w.request(status=code))
      for name in labels.CODE_CLASSES
      for part, le in (("bucket", {"le": "0.025"}), ("count", {}), ("sum", {}))),
    *((f"application_seconds_{part}", le, World.request)
      for part, le in (("bucket", {"le": "0.01"}), ("count", {}), ("sum", {}))),
    ("request_cpu_seconds_total", W, lambda w: w.slot.kernel_times(0.5, 0.0)),
    ("worker_runqueue_wait_seconds_total", W, lambda w: w.slot.kernel_times(0.0, 0.5)),
    ("oldest_request_age_seconds", W, all_of(begin, tick)),
    *(("request_timeouts_total", {"action": action},
       lambda w, a=action: w.thread.count_timeout(a)) for action in labels.TIMEOUT_ACTIONS),
    *(("request_errors_total", {"reason": reason}, lambda w, r=reason: w.thread.count_error(r))
      for reason in labels.ERROR_REASONS),
    ("request_body_bytes_total", {}, World.request),
    ("response_body_bytes_total", {}, World.request),
    ("interpreter_wait_seconds_total", W, lambda w: w.slot.interpreter_wait(0.5)),
    *(("worker_cpu_seconds_total", {**W, "mode": mode}, lambda w: w.slot.process_cpu(50.0, 50.0))
      for mode in labels.CPU_MODES),
    *(("worker_cpu_seconds_total", {**W, "mode": mode},
       reprocess("stat", "100 (x) S 1 2 3 4 5 6 7 8 9 10 90000 90000 0 0 0"))
      for mode in labels.CPU_MODES),
    ("worker_resident_memory_bytes", W, reprocess("statm", "1000 60 20 1 0 30 0")),
    ("worker_proportional_memory_bytes", W, reprocess("smaps_rollup", "Pss: 301 kB\n")),
    ("worker_open_fds", W, open_files),
    ("worker_max_fds", W, more_limit),
    ("worker_gc_pause_seconds_total", W, lambda w: w.slot.gc_pause(0.1, 0)),
    *(("worker_gc_collections_total", {**W, "generation": g},
       lambda w, g=g: w.slot.gc_pause(0.1, int(g))) for g in labels.GC_GENERATIONS),
    ("cgroup_cpu_limit_cores", {}, rewrite("cpu.max", "50000 100000")),
    ("cgroup_cpu_throttled_seconds_total", {},
     rewrite("cpu.stat", "nr_throttled 0\nthrottled_usec 9")),
    ("cgroup_cpu_throttled_periods_total", {}, rewrite("cpu.stat", "nr_throttled 1")),
    ("cgroup_memory_usage_bytes", {}, rewrite("memory.current", "1001")),
    ("cgroup_memory_limit_bytes", {}, rewrite("memory.max", "4001")),
    ("cgroup_oom_kills_total", {}, rewrite("memory.events", "oom_kill 1")),
    *(("scrape_errors_total", {"source": source}, lambda w, s=source: w.collector.count_error(s))
      for source in labels.SCRAPE_SOURCES),
    ("app_metric_files", {}, lambda w: (w.app / "counter_0.db").write_bytes(b"x")),
    ("app_metric_bytes", {}, lambda w: (w.app / "counter_0.db").write_bytes(bytes(9999) + b"x")),
]  # fmt: skip
# Tested on their own below: they take a kernel's or a clock's doing.
APART = {"build_info", "listener_backlog_limit", "listener_drops_total", "scrape_duration_seconds"}


@pytest.mark.parametrize(
    ("name", "wanted", "change"), CHANGES, ids=lambda v: v if isinstance(v, str) else ""
)
def test_each_metric_changes_with_what_it_is_about(
    world: World, name: str, wanted: dict[str, str], change: Change
) -> None:
    """The series is there, or appears, and moves; a counter moves up."""
    key = (f"gthreadsrv_{name}", tuple(sorted(wanted.items())))
    before = world.samples().get(key)
    change(world)
    after = world.samples()[key]
    assert after != before
    if name.endswith(("_total", "_count", "_bucket", "_sum")):
        assert after > (before or 0)


def test_each_metric_has_its_change() -> None:
    """No metric of the catalogue is without a test that moves it."""
    names = {name for name, *_ in CHANGES}
    moved = {
        metric.name
        for metric in CATALOGUE
        if names & {series.removeprefix("gthreadsrv_") for series in metric.series}
    }
    assert moved | APART == set(BY_NAME)
    assert not moved & APART


def test_build_info_has_the_build_in_its_labels(world: World) -> None:
    """The value is always 1."""
    assert world.value("build_info", **BUILD) == 1


def test_scrape_duration_is_measured(world: World) -> None:
    """It is the time between the collection's first and last look at the clock."""
    looks = [NOW]

    def clock() -> float:
        looks.append(looks[-1] + 0.25)
        return looks[-1]

    faked = Sources(monotonic=clock, proc_root="/nonexistent", cgroup_root="/nonexistent")
    world.collector = MultiprocessCollector(world.board, faked)
    value = world.value("scrape_duration_seconds")
    assert value == looks[-1] - looks[1]


def test_listener_limit_and_drops(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are the kernel's; where it does not tell, the limit asked for is all there is."""
    where = {"listener": LISTENER}
    assert world.value("listener_backlog_limit", **where) == 5
    assert world.value("listener_drops_total", **where) == 0
    monkeypatch.setattr(kernel, "drops", lambda _fd: 3)
    assert world.value("listener_drops_total", **where) == 3
    monkeypatch.setattr(kernel, "drops", lambda _fd: None)
    monkeypatch.setattr(kernel, "backlog", lambda _fd: None)
    names = {name for name, _ in world.samples()}
    assert not names & {"gthreadsrv_listener_backlog", "gthreadsrv_listener_backlog_limit",
                        "gthreadsrv_listener_drops_total"}  # fmt: skip
    world.master.set_backlog_limit(LISTENER, 2048)
    assert world.value("listener_backlog_limit", **where) == 2048


def test_what_cannot_be_measured_is_absent() -> None:
    """Without /proc, cgroups, listeners and directory nothing of theirs is made up."""
    board = Scoreboard(1, 1, [])
    board.master.lease(0, 1, 1, NOW)
    nowhere = Sources(proc_root="/nonexistent", cgroup_root="/nonexistent")
    collector = MultiprocessCollector(board, nowhere)
    names = {family.name for family in collector.collect()}
    absent = {
        "build_info", "config_workers", "last_reload_success_timestamp_seconds",
        "thread_utilization_ratio", "listener_backlog", "requests", "request_cpu_seconds",
        "worker_runqueue_wait_seconds", "worker_resident_memory_bytes",
        "worker_proportional_memory_bytes", "worker_open_fds", "worker_max_fds",
        "cgroup_cpu_limit_cores", "cgroup_memory_usage_bytes", "cgroup_memory_limit_bytes",
        "cgroup_oom_kills", "cgroup_cpu_throttled_seconds", "app_metric_files",
    }  # fmt: skip
    assert not names & {f"gthreadsrv_{name}" for name in absent}
    assert "gthreadsrv_threads_busy" in names


def test_a_source_that_answers_nonsense_is_counted(world: World) -> None:
    """Its series are absent, the page is whole, and the error shows at once."""
    (world.machine.proc / "100" / "stat").write_text("100 (x) S " + "nonsense " * 20)
    assert world.value("scrape_errors_total", source="proc") == 1
    assert world.value("threads", worker="0") == 2


def test_reasons_are_there_from_the_start(world: World) -> None:
    """Every value of every fixed label is exported before anything happened."""
    samples = world.samples()
    for metric in CATALOGUE:
        for label, values in metric.values.items():
            seen = {dict(pairs).get(label) for name, pairs in samples if name in metric.series}
            assert seen == set(values), metric.name


def test_a_free_slot_has_counters_and_no_gauges(world: World) -> None:
    """After its worker is gone only worker_up and totals are left of a slot."""
    world.request()
    world.master.release(0, NOW)
    names = {n for n, pairs in world.samples() if dict(pairs).get("worker") == "0"}
    gauges = {name for name in names if not name.endswith("_total")}
    assert gauges == {"gthreadsrv_worker_up"}
    assert "gthreadsrv_worker_requests_total" in names


def test_counters_do_not_step_back_when_an_interval_ends_late(world: World) -> None:
    """A thread's own end of its request may lie before the scrape that saw it running."""
    world.thread.begin(NOW)
    world.slot.begin_saturated(NOW)
    world.now = NOW + 10
    busy = world.value("thread_busy_seconds_total", worker="0")
    world.thread.abandon(NOW + 9.99)
    world.slot.end_saturated(NOW + 9.99)
    assert world.value("thread_busy_seconds_total", worker="0") == busy == 10
    assert world.value("saturated_seconds_total", worker="0") == 10
    world.thread.begin(NOW + 10)
    world.now = NOW + 12
    assert world.value("thread_busy_seconds_total", worker="0") == pytest.approx(11.99)


def test_cpu_is_the_reaped_processes_and_the_live_ones(world: World) -> None:
    """What /proc says of the live process comes on top of what ended, without a heartbeat."""
    live = world.value("worker_cpu_seconds_total", worker="0", mode="user")
    assert live == 3
    process(world.machine.proc, 200)
    world.master.release(0, NOW, Usage(4.0, 2.0))
    assert world.value("worker_cpu_seconds_total", worker="0", mode="user") == 4
    world.master.lease(0, 200, 2, NOW)
    assert world.value("worker_cpu_seconds_total", worker="0", mode="user") == 7


def test_exemplars_are_the_latest_trace_of_each_bucket(world: World) -> None:
    """Over all threads, by class and bucket, with the time on the wall."""
    world.request(trace_id="a" * 32)
    world.now += 5
    world.request(trace_id="b" * 32)
    other = world.board.thread(0, 1)
    other.finish(
        NOW, method="GET", status=500, started=NOW - 0.02, app_s=0.0, queue_s=-1.0, kernel=True,
        body_in=0, body_out=0, trace_id="c" * 32,
    )  # fmt: skip
    found = {
        (s.labels["code_class"], s.labels["le"]): s.exemplar
        for family in world.collector.collect()
        for s in family.samples
        if s.exemplar
    }
    assert set(found) == {("2xx", "0.025"), ("5xx", "0.025")}
    latest = found["2xx", "0.025"]
    assert latest is not None
    assert latest.labels == {"trace_id": "b" * 32}
    assert latest.timestamp == 5000 + NOW + 5
    assert latest.value == pytest.approx(0.02)


@pytest.mark.parametrize("trace_id", ["A" * 32, '"' * 32, "\n" * 32, "g" * 32])
def test_a_trace_id_that_is_none_stays_off_the_page(world: World, trace_id: str) -> None:
    """Trace ids come from clients; only lower-case hex gets through."""
    world.request(trace_id=trace_id)
    assert not any(s.exemplar for f in world.collector.collect() for s in f.samples)


def test_registering_measures_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry asks for names when it checks for duplicates, and gets them without a scrape."""

    def fail() -> None:
        raise AssertionError

    monkeypatch.setattr(world.collector, "_collect", fail)
    registry = CollectorRegistry(auto_describe=True)
    registry.register(world.collector)
    with pytest.raises(ValueError, match="Duplicated"):
        registry.register(world.collector)


def test_a_collector_finds_the_server_it_is_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without arguments it takes the board this process was given, and says so without one."""
    monkeypatch.setattr(sources, "_published", [])
    with pytest.raises(RuntimeError, match="no scoreboard"):
        MultiprocessCollector()
    board = Scoreboard(1, 1, [])
    board.master.set_target_workers(3)
    sources.publish(board, Sources(build=BUILD))
    found = {s.name: s for family in MultiprocessCollector().collect() for s in family.samples}
    assert found["gthreadsrv_workers_target"].value == 3
    assert found["gthreadsrv_build_info"].labels == BUILD


def test_a_collector_follows_a_reload(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was registered while the master preloaded sees the listeners of today."""
    monkeypatch.setattr(sources, "_published", [])
    board = Scoreboard(1, 1, [])
    sources.publish(board, Sources(build=BUILD))
    collector = MultiprocessCollector()
    sources.publish(board, Sources(build={**BUILD, "version": "next"}))
    found = {s.name: s for family in collector.collect() for s in family.samples}

    assert found["gthreadsrv_build_info"].labels["version"] == "next"


def test_the_series_budget(world: World) -> None:
    """Nine workers are under 700 series, and as many after every one was replaced 1000 times."""
    board = Scoreboard(20, 4, [LISTENER])
    world.board, world.collector = board, MultiprocessCollector(board, world.sources)
    for slot in range(9):
        process(world.machine.proc, 1000 + slot)
        board.master.lease(slot, 1000 + slot, 1, NOW)
        board.slot(slot).kernel_times(0.0, 0.0)
        thread = board.thread(slot, 0)
        for method, codes in {
            "GET": (200, 302, 304, 404, 500),
            "POST": (200, 201, 400, 500),
        }.items():
            for code in codes:
                thread.finish(
                    NOW, method=method, status=code, started=NOW, app_s=0, queue_s=0, kernel=True,
                    body_in=0, body_out=0,
                )  # fmt: skip
    before = set(world.samples())
    assert len(before) < 700
    for turn in range(1000):
        for slot in range(9):
            board.master.release(slot, NOW)
            board.master.lease(slot, 1000 + slot, turn, NOW)
    assert set(world.samples()) == before
    assert len(world.collector._floors) <= 4 * 9
