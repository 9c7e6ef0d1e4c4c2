"""Metrics, logs and traces meet: one trace id in the exemplar, the access log and the application."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.conftest import Servers
from tests.system.harness import Server, wait_until

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SAMPLED = f"00-{TRACE}-00f067aa0ba902b7-01"
UNSAMPLED = f"00-{TRACE}-00f067aa0ba902b7-00"
OPENMETRICS = "application/openmetrics-text; version=1.0.0"


class Site:
    """One server and what it tells about requests, each in its own way."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.seen = 0

    def ask(self, target: str = "/", **headers: str) -> Any:
        """One request."""
        return self.server.get(target, **{"User-Agent": "test", **headers})

    def _lines(self) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in list(self.server.stdout)]
        return [line for line in lines if line.get("event") == "request"]

    def logged(self) -> dict[str, Any]:
        """The access log's line of the next request that has not been looked at."""
        found = wait_until(lambda: len(lines := self._lines()) > self.seen and lines)
        self.seen += 1
        return found[self.seen - 1]

    def worked(self, request_id: str) -> dict[str, Any]:
        """The application's line within a request."""
        lines = [json.loads(line) for line in list(self.server.stdout)]
        [line] = [
            one for one in lines if one.get("event") == "worked" and one["request_id"] == request_id
        ]
        return line

    def exemplars(self) -> set[str]:
        """Trace ids on the metrics page."""
        import requests

        page = requests.get(
            f"{self.server.metrics_url}/metrics", headers={"Accept": OPENMETRICS}, timeout=10
        ).text
        return set(re.findall(r'# \{trace_id="([0-9a-f]{32})"\}', page))


def site_of(app: str, folder: Path) -> Iterator[Site]:
    """A server for one of the applications."""
    servers = Servers(folder)
    try:
        server = servers(
            app, "--access-logfile", "-", "--access-logformat", "json", metrics=True,
            threads=2, allow_errors=True,
        )  # fmt: skip
        server.wait_ready()
        yield Site(server)
    finally:
        servers.finish()


@pytest.fixture(scope="module", params=["wsgi", "flask", "django"])
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """Each of OpenTelemetry's instrumentations."""
    yield from site_of(f"traced:{request.param}_app", tmp_path_factory.mktemp("traced"))


@pytest.fixture(scope="module")
def by_hand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """An application with a tracer of its own."""
    yield from site_of("by_hand:app", tmp_path_factory.mktemp("by_hand"))


def test_a_trace_made_in_the_application_is_known_everywhere(site: Site) -> None:
    """No traceparent came: the instrumentation's own id is in the log line and the exemplar."""
    answer = site.ask(**{"X-Request-ID": "first-1"})
    line = site.logged()
    assert (answer.status, len(answer.text)) == (200, 32)
    assert line["trace_id"] == answer.text
    assert line["request_id"] == "first-1"
    assert answer.text in site.exemplars()
    worked = site.worked("first-1")
    assert worked["traceparent"].split("-")[1] == worked["seen"] == answer.text


def test_the_next_request_has_its_own(site: Site) -> None:
    """Another trace on the same thread, and nothing of it is left behind."""
    first, second = site.ask(), site.ask()
    assert first.text != second.text
    assert [site.logged()["trace_id"] for _ in range(2)] == [first.text, second.text]


def test_a_trace_that_came_goes_on(site: Site) -> None:
    """Client, log and exemplar have the same id; the application's line has the server's span."""
    answer = site.ask(traceparent=SAMPLED)
    line = site.logged()
    assert answer.text == line["trace_id"] == TRACE
    assert TRACE in site.exemplars()
    traceparent = site.worked(line["request_id"])["traceparent"]
    assert traceparent.startswith(f"00-{TRACE}-")
    assert traceparent != SAMPLED


def test_a_trace_that_is_not_sampled_is_no_exemplar(site: Site) -> None:
    """Nobody has recorded it: a link from a chart would lead nowhere. The log has its id."""
    other = TRACE[::-1]
    site.ask(traceparent=UNSAMPLED.replace(TRACE, other))
    assert site.logged()["trace_id"] == other
    assert other not in site.exemplars()


def test_a_request_that_fails_has_its_trace(site: Site) -> None:
    """The one whose trace is wanted most: answered 500, by the server or the framework."""
    before = site.exemplars()
    assert site.ask("/?fail").status == 500
    line = site.logged()
    assert line["status"] == 500
    assert re.fullmatch("[0-9a-f]{32}", line["trace_id"])
    assert line["trace_id"] in site.exemplars() - before


def test_told_by_hand(by_hand: Site) -> None:
    """bind_traceparent: sampled or not, instead of what came; nonsense is refused with a word."""
    assert by_hand.ask(f"/{SAMPLED}").text == "True"
    line = by_hand.logged()
    assert line["trace_id"] == TRACE
    assert by_hand.exemplars() == {TRACE}
    assert by_hand.worked(line["request_id"])["traceparent"] == SAMPLED

    other = UNSAMPLED.replace(TRACE, TRACE[::-1])
    assert by_hand.ask(f"/{other}", traceparent=SAMPLED).text == "True"
    assert by_hand.logged()["trace_id"] == TRACE[::-1]
    assert by_hand.exemplars() == {TRACE}

    assert "'nonsense' is no traceparent" in by_hand.ask("/nonsense").text
    assert by_hand.logged()["trace_id"] is None


def test_a_streamed_response_has_its_trace(site: Site) -> None:
    """The span ends with the last piece (of WSGI's own application), the request a little later."""
    answer = site.ask("/?stream")
    assert site.logged()["trace_id"] == answer.text
    assert answer.text in site.exemplars()
