"""The metrics port's application: formats, methods, sharing, and never a broken page."""

from __future__ import annotations

import gzip
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import parser as text_parser
from prometheus_client.core import Metric as Family
from prometheus_client.openmetrics import parser as openmetrics_parser

import gthreadsrv_metrics
from gthreadsrv_metrics import app_files, exporter, sources
from gthreadsrv_metrics.exposition import accepts_gzip, negotiate, render
from gthreadsrv_metrics.scoreboard import Scoreboard
from gthreadsrv_metrics.sources import Sources
from tests.unit.metrics.fakes import World, ask

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
parse_text: Any = text_parser.text_string_to_metric_families
parse_openmetrics: Any = openmetrics_parser.text_string_to_metric_families
# What a Prometheus server sends.
PROMETHEUS_ACCEPT = (
    "application/openmetrics-text;version=1.0.0;q=0.5,"
    "application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A server with one ready worker that has served a request."""
    made = World(tmp_path, -1)
    made.sources = Sources(
        app_directory=str(made.app), proc_root=str(made.machine.proc),
        cgroup_root=str(made.machine.cgroup), monotonic=lambda: made.now,
        wall=lambda: 5000.0 + made.now,
    )  # fmt: skip
    made.request(trace_id="0af7651916cd43dd8448eb211c80319c")
    exporter._report_once.cache_clear()
    yield made


@pytest.fixture
def app(world: World) -> Any:
    """Its exporter."""
    return exporter.make_app(world.board, world.sources)


def test_text_is_the_default(app: Any) -> None:
    """Without an Accept field it is text 0.0.4, uncompressed, with its length."""
    answer = ask(app, "/metrics")
    assert answer.status == "200 OK"
    assert answer.headers["Content-Type"] == TEXT
    assert answer.headers["Content-Length"] == str(len(answer.body))
    assert "Content-Encoding" not in answer.headers
    found = {s.name: s for f in parse_text(answer.text) for s in f.samples}
    assert found["gthreadsrv_requests_total"].value == 1


def test_openmetrics_for_prometheus(app: Any) -> None:
    """What a Prometheus server asks for gets OpenMetrics 1.0, valid to its reference parser."""
    answer = ask(app, "/metrics", accept=PROMETHEUS_ACCEPT)
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    assert answer.text.endswith("# EOF\n")
    assert answer.text.count("# EOF") == 1
    families = {family.name: family for family in parse_openmetrics(answer.text)}
    assert families["gthreadsrv_requests"].type == "counter"


@pytest.mark.parametrize("version", ["x", "abc", "1.x.0", "", "-1"])
@pytest.mark.parametrize("kind", ["application/openmetrics-text", "text/plain"])
def test_a_version_that_is_none_gets_some_page(app: Any, kind: str, version: str) -> None:
    """Nonsense in Accept is no fault of the server's."""
    assert ask(app, "/metrics", accept=f"{kind};version={version}").status == "200 OK"


def test_probes_do_not_wait_for_scrapes(world: World) -> None:
    """Scrapes that would take the last threads are turned away at once."""
    app = exporter.make_app(world.board, world.sources, scrapers=2)
    collecting, go_on = threading.Semaphore(0), threading.Event()

    def slow_clock() -> float:
        if threading.current_thread() is not threading.main_thread():
            collecting.release()
            go_on.wait(10)
        return 1.0

    object.__setattr__(world.sources, "wall", slow_clock)
    statuses: list[str] = []
    threads = run_threads([lambda: statuses.append(ask(app, "/metrics").status)] * 2)
    assert collecting.acquire(timeout=10)
    wait_for(lambda: ask(app, "/metrics").status == "503 Service Unavailable")
    assert ask(app, "/startupz").status in ("200 OK", "503 Service Unavailable")
    go_on.set()
    for thread in threads:
        thread.join(10)

    assert statuses == ["200 OK"] * 2
    assert ask(app, "/metrics").status == "200 OK"


def test_exemplars_are_in_openmetrics_only(app: Any) -> None:
    """A sampled request's trace id hangs on its bucket; the text format has no exemplars."""
    text = ask(app, "/metrics", accept=PROMETHEUS_ACCEPT).text
    samples = [s for f in parse_openmetrics(text) for s in f.samples if s.exemplar]
    assert [(s.name, s.labels["le"]) for s in samples] == [
        ("gthreadsrv_request_duration_seconds_bucket", "0.025")
    ]
    exemplar = samples[0].exemplar
    assert exemplar is not None
    assert exemplar.labels == {"trace_id": "0af7651916cd43dd8448eb211c80319c"}
    assert float(exemplar.timestamp or 0) == 6000.0
    assert "trace_id" not in ask(app, "/metrics").text


def test_gzip_on_request(app: Any) -> None:
    """The compressed page is the page."""
    answer = ask(app, "/metrics", accept_encoding="gzip, deflate")
    assert answer.headers["Content-Encoding"] == "gzip"
    assert answer.headers["Content-Length"] == str(len(answer.body))
    assert gzip.decompress(answer.body).startswith(b"# HELP gthreadsrv_")
    assert "Accept-Encoding" in answer.headers["Vary"]


@pytest.mark.parametrize(
    ("field", "accepted"),
    [
        ("", False), ("gzip", True), ("GZIP", True), ("deflate, gzip;q=1.0", True),
        ("x-gzip", True), ("gzip;q=0", False), ("gzip; q=0.000", False), ("gzip;q=0.1", True),
        ("deflate", False), ("gzipped", False), ("identity;q=1, *;q=0", False),
    ],
)  # fmt: skip
def test_gzip_negotiation(field: str, accepted: bool) -> None:
    """Only where it is named and not refused by a weight of 0."""
    assert accepts_gzip(field) is accepted


@pytest.mark.parametrize("path", ["/", "/metrics", "/livez", "/readyz", "/startupz", "/none"])
def test_head_is_get_without_the_body(app: Any, path: str) -> None:
    """Same status and fields, length included."""
    get, head = ask(app, path), ask(app, path, "HEAD")
    assert head.body == b""
    assert head.status == get.status
    lengths = [int(answer.headers.pop("Content-Length")) for answer in (get, head)]
    assert head.headers == get.headers
    assert abs(lengths[0] - lengths[1]) <= 8  # the scrape's own duration differs


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
@pytest.mark.parametrize("path", ["/metrics", "/readyz", "/none"])
def test_only_get_and_head(app: Any, path: str, method: str) -> None:
    """Anything else is 405 and says what is allowed."""
    answer = ask(app, path, method)
    assert answer.status == "405 Method Not Allowed"
    assert answer.headers["Allow"] == "GET, HEAD"


@pytest.mark.parametrize("path", ["/none", "/metrics/", "/metrics/x", "//metrics", "", "*"])
def test_other_paths_are_not_there(app: Any, path: str) -> None:
    """404, with a hint."""
    assert ask(app, path, strict=False).status == "404 Not Found"


def test_the_index_names_the_paths(app: Any) -> None:
    """A person who opens the port finds the way."""
    answer = ask(app, "/")
    assert answer.status == "200 OK"
    for path in ("/metrics", "/livez", "/readyz", "/startupz"):
        assert path in answer.text


def test_nothing_is_cached_on_the_way(app: Any) -> None:
    """A stale number is a wrong number."""
    for path in ("/metrics", "/readyz"):
        assert ask(app, path).headers["Cache-Control"] == "no-store"


def test_the_applications_metrics_are_on_the_page(world: World, app: Any) -> None:
    """Theirs come after ours, in both formats, with one end."""
    family = Family("jobs", "Jobs.", "counter")
    family.add_sample("jobs_total", {"kind": 'a"\n'}, 3.0)
    reading = app_files.AppReading([family])
    for accept, parse in (("", parse_text), (PROMETHEUS_ACCEPT, parse_openmetrics)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(exporter, "read_app_metrics", lambda _directory: reading)
            text = ask(app, "/metrics", accept=accept).text
        found = {s.name: s for f in parse(text) for s in f.samples}
        assert (found["jobs_total"].value, found["jobs_total"].labels) == (3, {"kind": 'a"\n'})
        assert found["gthreadsrv_requests_total"].value == 1


def test_torn_files_are_counted_and_told_once(
    world: World, app: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The page is whole, the count grows with each scrape, the log has one line."""
    (world.app / "counter_0.db").write_bytes(b"")
    for scrape in (1, 2):
        text = ask(app, "/metrics").text
        assert f'gthreadsrv_scrape_errors_total{{source="app_file"}} {scrape}.0' in text
    assert [record.message for record in caplog.records] == [
        f"metric file {world.app / 'counter_0.db'} is torn; its values are left out"
    ]


def test_a_colliding_name_is_counted_and_told(
    app: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The server's metric stands, the application's is left out."""
    reading = app_files.AppReading(collisions=["gthreadsrv_requests"])
    monkeypatch.setattr(exporter, "read_app_metrics", lambda _directory: reading)
    text = ask(app, "/metrics").text
    assert 'gthreadsrv_scrape_errors_total{source="app_metric"} 1.0' in text
    assert "gthreadsrv_requests is left out" in caplog.text


def test_a_family_that_cannot_be_rendered_is_left_out(
    app: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One bad family out of someone's file costs itself alone, in both formats."""
    good, bad = Family("good", "Good.", "gauge"), Family("bad", "Bad.", "gauge")
    good.add_sample("good", {}, 1.0)
    bad.add_sample("bad", {"a": 7}, 1.0)  # type: ignore[dict-item]
    reading = app_files.AppReading([bad, good])
    monkeypatch.setattr(exporter, "read_app_metrics", lambda _directory: reading)
    for accept in ("", PROMETHEUS_ACCEPT):
        answer = ask(app, "/metrics", accept=accept)
        assert answer.status == "200 OK"
        assert "\ngood 1.0\n" in answer.text
        assert "\nbad" not in answer.text
    assert "bad is left out" in caplog.text
    assert 'scrape_errors_total{source="app_metric"} 2.0' in ask(app, "/metrics").text


def test_rendering_is_the_same_with_and_without_the_shortcut(world: World) -> None:
    """Our names need no escaping, so skipping it changes no byte."""
    own = list(world.collector.collect())
    page, _ = render(negotiate(PROMETHEUS_ACCEPT), own, [], compress=False)
    slow, _ = render(negotiate(PROMETHEUS_ACCEPT), [], own, compress=False)
    assert page == slow


class Gate:
    """A collection that waits to be let through, and counts itself."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.go_on = threading.Semaphore(0)
        self.count = 0

    def __call__(self) -> exporter._Collection:
        self.count += 1
        number = self.count
        self.begun.release()
        assert self.go_on.acquire(timeout=10)
        if number == 99:
            raise AssertionError
        collection = exporter._Collection()
        collection.pages["number", False] = str(number).encode()
        return collection


def run_threads(calls: list[Callable[[], object]]) -> list[threading.Thread]:
    """Start each call in a thread."""
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    return threads


def test_concurrent_scrapes_share_one_collection() -> None:
    """All that ask while one runs are answered by the next one, which began after they asked."""
    gate = Gate()
    shared = exporter._SharedCollection(gate)
    got: list[bytes] = []

    def scrape() -> None:
        got.append(shared.get().pages["number", False])

    threads = run_threads([scrape])
    assert gate.begun.acquire(timeout=10)
    threads += run_threads([scrape] * 20)
    wait_for(lambda: waiting(shared) == 20)
    gate.go_on.release()
    assert gate.begun.acquire(timeout=10)
    gate.go_on.release()
    for thread in threads:
        thread.join(10)
    assert sorted(got) == [b"1"] + [b"2"] * 20
    assert gate.count == 2


def waiting(shared: exporter._SharedCollection) -> int:
    """Return how many threads wait in the condition."""
    return len(shared._condition._waiters)  # type: ignore[attr-defined]


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until something is true, ten seconds at most."""
    pause = threading.Event()
    for _ in range(2000):
        if condition():
            return
        pause.wait(0.005)
    raise AssertionError("it did not become true")


def test_a_scrape_is_never_answered_from_the_past() -> None:
    """One scrape after another is a collection each."""
    gate = Gate()
    shared = exporter._SharedCollection(gate)
    for number in (b"1", b"2", b"3"):
        gate.go_on.release()
        assert shared.get().pages["number", False] == number


def test_a_failed_collection_fails_one_scrape() -> None:
    """Those who waited for it collect anew."""
    attempts: list[int] = []

    def collect() -> exporter._Collection:
        attempts.append(len(attempts))
        if len(attempts) == 1:
            raise OSError
        return exporter._Collection()

    shared = exporter._SharedCollection(collect)
    with pytest.raises(OSError):  # noqa: PT011 - it is the collection's own
        shared.get()
    shared.get()
    assert attempts == [0, 1]


def test_mounted_in_an_application(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """wsgi_app serves the page at any path of an application, and GET and HEAD alone."""
    sources.publish(world.board, world.sources)
    monkeypatch.setattr(sources, "_published", list(sources._published))
    answer = ask(gthreadsrv_metrics.wsgi_app, "/anything")
    assert answer.status == "200 OK"
    assert "gthreadsrv_requests_total" in answer.text
    assert ask(gthreadsrv_metrics.wsgi_app, "/anything", "POST").status.startswith("405")


def test_mounted_elsewhere_it_says_why_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under another server there is no scoreboard: 503 with the reason."""
    monkeypatch.setattr(sources, "_published", [])
    answer = ask(gthreadsrv_metrics.wsgi_app, "/metrics")
    assert answer.status == "503 Service Unavailable"
    assert "not served by gthreadsrv" in answer.text


def test_a_mounted_app_follows_its_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is published anew after a reload is what is served."""
    monkeypatch.setattr(sources, "_published", [])
    for target in (3, 4):
        board = Scoreboard(1, 1, [])
        board.master.set_target_workers(target)
        sources.publish(board, Sources())
        text = ask(gthreadsrv_metrics.wsgi_app, "/").text
        assert f"gthreadsrv_workers_target {target}.0" in text


@pytest.mark.program("promtool")
def test_promtool_has_no_complaint(app: Any) -> None:
    """Prometheus's own linter likes every name, type and help text."""
    program = shutil.which("promtool")
    assert program is not None
    done = subprocess.run(
        [program, "check", "metrics"], input=ask(app, "/metrics").body, capture_output=True,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
