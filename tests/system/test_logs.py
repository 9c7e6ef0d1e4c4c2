"""What the server writes: boot and worker lines, access lines, and the application's own."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tests.system.conftest import Servers
from tests.system.harness import Server, run_cli, wait_until

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def access_lines(server: Server, path: Path, count: int) -> list[str]:
    """Wait for that many lines of the access log."""
    return wait_until(
        lambda: (lines := path.read_text().splitlines()) and len(lines) >= count and lines or None,
        what=f"{count} access lines\n{server.report()}",
    )


def test_boot_is_told_in_json_lines(serve: Servers) -> None:
    """Every line is one JSON object with a time, a level and an event."""
    server = serve("behaviours:app", workers=2)
    server.wait_workers(2)
    server.stop()

    assert server.noise == []
    for line in server.lines:
        assert {"time", "level", "event"} <= set(line), line
    for event in ("sizing", "listening", "worker ready"):
        assert server.logged(event), event


def test_console_format_is_for_people(tmp_path: Path) -> None:
    """--log-format console writes plain lines, without colour codes where there is no terminal."""
    result = run_cli(
        "--log-format", "console", "--metrics-bind", "off", "--bind", "127.0.0.1:0",
        "no_such_module:app", cwd=tmp_path,
    )  # fmt: skip

    assert result.returncode == 3
    assert "no_such_module" in result.stderr
    assert "\x1b[" not in result.stderr
    assert not result.stderr.startswith("{")


def test_log_level_hides_lesser_lines(serve: Servers) -> None:
    """With --log-level error a healthy server says nothing."""
    path = serve.folder / "web.sock"
    server = serve("behaviours:app", "--log-level", "error", bind=(f"unix:{path}",))
    wait_until(path.exists)
    with server.connect(f"unix:{path}") as connection:
        assert connection.get("/hello").body == b"hello\n"

    assert server.stop() == 0
    assert (server.lines, server.noise) == ([], [])


def test_no_access_log_by_default(serve: Servers) -> None:
    """Requests are not logged unless asked."""
    server = serve("behaviours:app")
    server.get("/hello?needle")
    server.stop()

    assert "needle" not in server.report() + "".join(server.stdout)


def test_access_log_as_json(serve: Servers) -> None:
    """One object per request: who, what, how it ended, how long it took, its ids."""
    path = serve.folder / "access.log"
    server = serve("behaviours:app", "--access-logfile", str(path), "--access-logformat", "json")
    headers = {"User-Agent": 'a"b\\c', "X-Request-ID": "req-1", "traceparent": TRACEPARENT}
    with server.connect() as connection:
        connection.request("GET", "/blob?n=123", headers)
        connection.response()
    [text] = access_lines(server, path, 1)
    line = json.loads(text)

    assert (line["method"], line["status"]) == ("GET", 200)
    assert "/blob" in json.dumps(line) and "n=123" in json.dumps(line)
    assert 123 in line.values()
    assert 'a"b\\c' in line.values()
    assert "req-1" in line.values()
    assert "0af7651916cd43dd8448eb211c80319c" in text


def test_access_log_combined(serve: Servers) -> None:
    """The format every log reader knows; a header cannot forge a line or close a quote."""
    path = serve.folder / "access.log"
    server = serve(
        "behaviours:app", "--access-logfile", str(path), "--access-logformat", "combined"
    )
    with server.connect() as connection:
        connection.request(
            "GET", "/blob?n=5", {"User-Agent": 'x" 200 0 "', "Referer": "http://from/"}
        )
        connection.response()
    [line] = access_lines(server, path, 1)

    found = re.fullmatch(
        r"127\.0\.0\.1 - - \[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] "
        r'"GET /blob\?n=5 HTTP/1\.1" 200 5 "http://from/" "((?:[^"\\]|\\.)*)"',
        line,
    )
    assert found, line


def test_access_log_with_gunicorns_atoms(serve: Servers) -> None:
    """A format string with gunicorn's atoms works."""
    path = serve.folder / "access.log"
    atoms = "%(m)s|%(U)s|%(q)s|%(s)s|%(B)s|%({x-thing}i)s|%({content-type}o)s"
    server = serve("behaviours:app", "--access-logfile", str(path), "--access-logformat", atoms)
    with server.connect() as connection:
        connection.request("GET", "/blob?n=7", {"X-Thing": "t"})
        connection.response()

    assert access_lines(server, path, 1) == ["GET|/blob|n=7|200|7|t|text/plain"]


def test_scrapes_and_probes_are_not_in_the_access_log(serve: Servers, tmp_path: Path) -> None:
    """They are no requests of the application's."""
    server = serve("behaviours:app", "--access-logfile", "access.log", metrics=True)
    server.wait_ready()
    assert server.probe("/metrics").status_code == 200
    server.get("/hello")
    log = tmp_path / "access.log"
    wait_until(lambda: "/hello" in log.read_text(), what="the request's line")

    assert [json.loads(line)["target"] for line in log.read_text().splitlines()] == ["/hello"]


def test_access_log_to_standard_output(serve: Servers) -> None:
    """`-` is standard output, where containers look."""
    server = serve("behaviours:app", "--access-logfile", "-", "--access-logformat", "combined")
    server.get("/hello?needle")
    wait_until(lambda: any("needle" in line for line in server.stdout))


def test_refused_requests_are_in_the_access_log(serve: Servers) -> None:
    """What the server answers by itself is logged as well."""
    path = serve.folder / "access.log"
    server = serve("behaviours:app", "--access-logfile", str(path), "--access-logformat", "json")
    with server.connect() as connection:
        connection.send(b"GET / HTTP/1.1\r\n\r\n")
        assert connection.response().status == 400
    [text] = access_lines(server, path, 1)

    assert json.loads(text)["status"] == 400


def app_lines(server: Server) -> list[dict[str, Any]]:
    """The application's structlog lines, which go to standard output by structlog's default."""
    found = []
    for text in list(server.stdout):
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if line.get("event") == "order placed":
            found.append(line)
    return found


def test_request_ids_reach_the_applications_log_lines(serve: Servers) -> None:
    """structlog.contextvars carry request_id and traceparent, each request its own."""
    server = serve("structured:app", threads=4)
    for name in ("one", "two"):
        with server.connect() as connection:
            fields = {"X-Request-ID": f"req-{name}", "traceparent": TRACEPARENT}
            connection.request("GET", f"/?order={name}", fields)
            connection.response()
    lines = wait_until(lambda: len(found := app_lines(server)) == 2 and found or None)

    for line in lines:
        assert line["request_id"] == f"req-{line['order']}"
        assert line["traceparent"] == TRACEPARENT


def test_a_request_without_an_id_gets_one(serve: Servers) -> None:
    """Without X-Request-ID the server makes an id; two requests have two, and no traceparent."""
    server = serve("structured:app")
    with server.connect() as connection:
        connection.get("/?order=1")
        connection.get("/?order=2")
    lines = wait_until(lambda: len(found := app_lines(server)) == 2 and found or None)

    assert lines[0]["request_id"] and lines[0]["request_id"] != lines[1]["request_id"]
    assert "traceparent" not in lines[0] or not lines[0]["traceparent"]


def test_the_applications_logging_is_its_own(serve: Servers) -> None:
    """The server does not take over the application's logging configuration."""
    server = serve("own_logging:app", allow_errors=True)
    server.get("/")
    wait_until(lambda: "OWN shop plain warning" in server.noise, what=server.report())


def test_wsgi_errors_reach_the_log(serve: Servers) -> None:
    """What is written to wsgi.errors is not lost."""
    server = serve("behaviours:app", allow_errors=True)
    server.get("/log")
    wait_until(lambda: "to wsgi.errors" in server.report())


def test_the_metrics_port_is_not_in_the_access_log(serve: Servers) -> None:
    """Scrapes, probes and those who look at the live page are not the application's requests."""
    server = serve("behaviours:app", "--access-logfile", "-", metrics=True)
    server.wait_ready()
    for path in ("/metrics", "/livez", "/live.json", "/none"):
        server.probe(path)
    server.get("/hello")
    wait_until(lambda: server.stdout, what="a line")
    server.probe("/livez")
    assert server.stop() == 0
    assert [json.loads(line)["target"] for line in server.stdout] == ["/hello"]
