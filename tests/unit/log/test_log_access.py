"""The access log: what a line says, and that nothing a client sends can forge one."""

from __future__ import annotations

import base64
import json
import os
import re
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gthreadsrv.log.access import AccessLog
from gthreadsrv.log.logfile import LogFile

BROWSER = [
    (b"Host", b"example.com"),
    (b"User-Agent", b"Mozilla/5.0 (X11)"),
    (b"referer", b"https://example.com/before"),
    (b"X-FORWARDED-FOR", b"198.51.100.7"),
    (b"Cookie", b"session=hunter2"),
    (b"Authorization", b"Basic " + base64.b64encode(b"ann:hunter2")),
]

HEADERS = st.lists(
    st.tuples(
        st.sampled_from([b"User-Agent", b"REFERER", b"X-Forwarded-For", b"Cookie", b"X-Any"]),
        st.binary(max_size=60),
    ),
    max_size=6,
)
TOLD = ("duration_s", "started_wall", "request_id", "trace_id", "environ")
TEXTS = st.text(st.characters(max_codepoint=255), max_size=60)


def fields(**changes: Any) -> dict[str, Any]:
    """What the worker tells of one response."""
    known = {
        "remote_addr": "203.0.113.9",
        "method": "GET",
        "target": "/a%20b?c=d",
        "version_minor": 1,
        "status": 200,
        "bytes_sent": 1234,
        "duration_s": 1.234567,
        "started_wall": 1764000000.5,
        "headers": BROWSER,
        "request_id": "abc-1",
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
        "response_headers": [("Content-Type", "text/plain"), ("Set-Cookie", "s=hunter2")],
        "environ": {"myapp.user": "ann", "HTTP_COOKIE": "session=hunter2"},
        "section": None,
        **changes,
    }
    return {
        "client": known["remote_addr"],
        "head": SimpleNamespace(
            method=known["method"],
            target=known["target"],
            minor=known["version_minor"],
            headers=known["headers"],
            section=known["section"],
        ),
        "response": SimpleNamespace(
            code=known["status"], sent=known["bytes_sent"], headers=known["response_headers"]
        ),
        **{name: known[name] for name in TOLD},
    }


def test_fields_that_come_again_are_looked_at_once(json_log: Log) -> None:
    """What a line says of them is kept with them, whole; on a pipe a long line is cut all the same."""
    section = SimpleNamespace(logged="")
    first = json.loads(json_log.line(section=section))
    again = json.loads(json_log.line(section=section, headers=[]))

    assert again == first
    assert json.loads("{" + section.logged[1:] + "}") == {
        "referer": "https://example.com/before",
        "user_agent": "Mozilla/5.0 (X11)",
        "forwarded_for": "198.51.100.7",
    }


class Log:
    """An access log in a file, and what it holds."""

    def __init__(self, path: Path, form: str) -> None:
        self._path = path
        self._log = AccessLog(LogFile(str(path), 1), form)
        self._read = 0

    def line(self, **changes: Any) -> str:
        """Log one response; its line, which must be one."""
        self._log.log(**fields(**changes))
        with self._path.open("rb") as file:
            file.seek(self._read)
            new = file.read()
        self._read += len(new)
        assert new.endswith(b"\n")
        assert new.count(b"\n") == 1
        return new[:-1].decode("ascii")


@pytest.fixture(scope="module")
def json_log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    """A log of JSON lines."""
    return Log(tmp_path_factory.mktemp("log") / "json.log", "json")


def form_log(tmp_path: Path, form: str) -> Log:
    """A log in another form."""
    return Log(tmp_path / "form.log", form)


def test_a_json_line_says_all_that_is_known_of_a_response(json_log: Log) -> None:
    """One object with fixed keys."""
    assert json.loads(json_log.line()) == {
        "time": "2025-11-24T16:00:00.500Z",
        "level": "info",
        "event": "request",
        "remote_addr": "203.0.113.9",
        "method": "GET",
        "target": "/a%20b?c=d",
        "protocol": "HTTP/1.1",
        "status": 200,
        "bytes": 1234,
        "duration": 1.234567,
        "referer": "https://example.com/before",
        "user_agent": "Mozilla/5.0 (X11)",
        "forwarded_for": "198.51.100.7",
        "request_id": "abc-1",
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
        "pid": os.getpid(),
    }


def test_all_lines_of_a_field_are_told(json_log: Log, tmp_path: Path) -> None:
    """A proxy that adds a line of its own does not hide what the client wrote, nor the reverse."""
    lines = [(b"X-Forwarded-For", b"forged"), (b"x-forwarded-for", b"198.51.100.7, 10.0.0.1")]
    told = "forged, 198.51.100.7, 10.0.0.1"
    assert json.loads(json_log.line(headers=lines))["forwarded_for"] == told
    assert form_log(tmp_path, "%({X-Forwarded-For}i)s").line(headers=lines) == told


class Unseen:
    """What an application may put into its environ."""

    def __str__(self) -> str:
        raise RuntimeError("outside of its context")


def test_a_variable_that_cannot_be_shown_is_a_dash(tmp_path: Path) -> None:
    """The response has left; an exception here would be the end of the worker."""
    log = form_log(tmp_path, "%({x}e)s %(s)s")
    assert log.line(environ={"x": Unseen()}) == "- 200"


def test_what_a_request_did_not_have_is_null(json_log: Log) -> None:
    """A refused request may have no head at all."""
    line = json.loads(
        json_log.line(headers=[], request_id="", trace_id="", method="", target="", status=400)
    )
    assert line["referer"] is line["user_agent"] is line["forwarded_for"] is None
    assert line["request_id"] is line["trace_id"] is None
    assert (line["method"], line["target"]) == ("", "")


@given(headers=HEADERS, target=TEXTS, method=TEXTS, remote=TEXTS)
def test_no_bytes_forge_a_json_line_or_field(
    json_log: Log, headers: list[tuple[bytes, bytes]], target: str, method: str, remote: str
) -> None:
    """Whatever comes, the line is one object with the same keys and these very values."""
    text = json_log.line(headers=headers, target=target, method=method, remote_addr=remote)
    pairs = json.loads(text, object_pairs_hook=list)
    line = dict(pairs)
    assert len(pairs) == len(line) == 16
    assert (line["target"], line["method"], line["remote_addr"]) == (target, method, remote)
    said: dict[bytes, list[str]] = {}
    for name, value in headers:
        said.setdefault(name.lower(), []).append(value.decode("latin-1"))
    for key in ("user_agent", "referer"):
        lines = said.get(key.replace("_", "-").encode())
        assert line[key] == (None if lines is None else ", ".join(lines))


def test_names_that_clients_invent_do_not_grow_a_table_for_ever(json_log: Log) -> None:
    """A worker lives for weeks."""
    for number in range(2000):
        json_log._log.log(**fields(headers=[(b"X-%d" % number, b"")]))
        json_log._log.log(**fields(headers=[(b"X-%d" % number + b"a" * 8000, b"")]))
    assert len(json_log._log._places) <= 1024
    assert sum(map(len, json_log._log._places)) < 64 * 1024
    json_log._read = json_log._path.stat().st_size
    assert json.loads(json_log.line(headers=[(b"uSER-aGENT", b"late")]))["user_agent"] == "late"


def test_the_combined_format_is_the_one_log_readers_know(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Address, user, time, request, status, bytes, referer, agent; never a password."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    line = form_log(tmp_path, "combined").line(started_wall=1764000001.5)
    assert line == (
        '203.0.113.9 - ann [24/Nov/2025:16:00:01 +0000] "GET /a%20b?c=d HTTP/1.1" 200 1234 '
        '"https://example.com/before" "Mozilla/5.0 (X11)"'
    )


ATOMS = {
    "h": "203.0.113.9", "l": "-", "u": "ann", "r": "GET /a%20b?c=d HTTP/1.1", "m": "GET",
    "U": "/a%20b", "q": "c=d", "H": "HTTP/1.1", "s": "200", "B": "1234", "b": "1234",
    "f": "https://example.com/before", "a": "Mozilla/5.0 (X11)", "T": "1", "M": "1234",
    "D": "1234567", "L": "1.234567", "p": f"<{os.getpid()}>",
    "{host}i": "example.com", "{X-Forwarded-For}i": "198.51.100.7", "{none}i": "-",
    "{content-type}o": "text/plain", "{none}o": "-", "{myapp.user}e": "ann", "{none}e": "-",
    # Credentials show that they were there, and no more.
    "{Cookie}i": "***", "{authorization}i": "***", "{proxy-authorization}i": "-",
    "{Set-Cookie}o": "***", "{HTTP_COOKIE}e": "***", "{HTTP_AUTHORIZATION}e": "-",
}  # fmt: skip


@pytest.mark.parametrize(("atom", "expected"), ATOMS.items(), ids=ATOMS)
def test_every_atom_of_gunicorns_formats_is_there(tmp_path: Path, atom: str, expected: str) -> None:
    """All of h l u t r m U q H s B b f a T M D L p {}i {}o {}e."""
    assert form_log(tmp_path, f"100%% <%({atom})s>").line() == f"100% <{expected}>"


def test_numbers_can_be_formatted_as_numbers(tmp_path: Path) -> None:
    """Formats that spell JSON by hand do so."""
    assert form_log(tmp_path, "%(s)d %(D)08d %(L).3f %(B)i").line() == "200 01234567 1.235 1234"


def test_an_unknown_atom_is_a_dash_and_is_reported(tmp_path: Path) -> None:
    """An old format must not keep a server from starting."""
    log = AccessLog(LogFile(str(tmp_path / "x"), 1), "%(z)s %(h)s %(yy)s")
    assert log.unknown == ("z", "yy")


@pytest.mark.parametrize("form", ["%(h", "%({x}y)s", "%s", "100%", "%(h)d", "%(h)q", "%({a}i)d"])
def test_a_text_that_is_no_format_is_refused(tmp_path: Path, form: str) -> None:
    """At start, not at the first request."""
    with pytest.raises(ValueError, match="write"):
        AccessLog(LogFile(str(tmp_path / "x"), 1), form)


@given(headers=HEADERS, target=TEXTS, value=st.text(max_size=40))
def test_no_bytes_leave_their_quotes_in_a_text_format(
    tmp_path_factory: pytest.TempPathFactory,
    headers: list[tuple[bytes, bytes]],
    target: str,
    value: str,
) -> None:
    """JSON spelled by hand stays JSON, with the client's very texts."""
    form = '{"q": "%(U)s?%(q)s", "a": "%(a)s", "f": "%(f)s", "o": "%({x}o)s", "e": "%({x}e)s"}'
    log = form_log(tmp_path_factory.mktemp("log"), form)
    latin = value.encode("latin-1", "replace").decode("latin-1")
    line = json.loads(
        log.line(
            headers=headers, target=target, response_headers=[("X", latin)], environ={"x": value}
        )
    )
    path, _, query = target.partition("?")
    assert line["q"] == f"{path}?{query}"
    agents = [text.decode("latin-1") for name, text in headers if name == b"User-Agent"]
    assert line["a"] == (", ".join(agents) or "-")
    assert line["o"] == (latin or "-")
    assert line["e"] == value


@given(st.binary(max_size=40))
def test_no_credentials_break_the_user_atom(
    tmp_path_factory: pytest.TempPathFactory, word: bytes
) -> None:
    """Anything may stand after Basic; a token without a colon is no user name."""
    log = form_log(tmp_path_factory.mktemp("log"), "%(u)s|")
    for value in (word, base64.b64encode(word)):
        line = log.line(headers=[(b"Authorization", b"basic " + value)])
        assert re.fullmatch(r"[!-~]+\|", line)
    assert log.line(headers=[(b"Authorization", b"Basic " + base64.b64encode(b"token"))]) == "-|"
    assert log.line(headers=[(b"Authorization", b"Bearer hunter2")]) == "-|"


def test_a_line_on_a_pipe_is_short_enough_to_stay_whole() -> None:
    """POSIX keeps writes together up to PIPE_BUF, so longer texts are cut, and it stays JSON."""
    reader, writer = os.pipe()
    try:
        long = fields(
            section=SimpleNamespace(logged=""),
            target="/" + "\xff" * 8000,
            headers=[(name, b'"' * 8000) for name in (b"User-Agent", b"Referer", b"X-Forwarded-For")]
            * 20,
        )  # fmt: skip
        for form in ("json", "combined"):
            log = AccessLog(LogFile("-", writer), form)
            log.log(**long)
            line = os.read(reader, 1 << 16)
            assert len(line) <= 4096
            assert line.count(b"\n") == 1
            assert line.endswith(b"\n")
            if form == "json":
                assert json.loads(line)["target"] == "/" + "\xff" * 95
    finally:
        os.close(reader)
        os.close(writer)


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_threads_and_processes_append_whole_lines(tmp_path: Path) -> None:
    """One write a line, to a file opened for appending."""
    path = tmp_path / "a.log"
    log = AccessLog(LogFile(str(path), 1), "json")

    def work() -> None:
        for _ in range(50):
            log.log(**fields(target="/" + "x" * 5000))

    child = os.fork()
    if child == 0:
        log.reopen()  # a file position of its own, as after USR1
        work()
        os._exit(0)
    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert os.waitpid(child, 0)[1] == 0
    lines = path.read_text().splitlines()
    assert len(lines) == 200
    assert {json.loads(line)["pid"] for line in lines} == {os.getpid(), child}
    log.close()


def test_a_log_that_cannot_be_written_loses_lines_and_no_requests() -> None:
    """A full disk is counted."""
    log = AccessLog(LogFile("/dev/full", 1), "json")
    log.log(**fields())
    log.log(**fields())
    assert log.lost == 2
    log.close()


def test_after_rotation_lines_go_into_the_new_file(tmp_path: Path) -> None:
    """The old file keeps what it has."""
    path = tmp_path / "a.log"
    log = AccessLog(LogFile(str(path), 1), "%(s)s")
    number = log.file.fd
    log.log(**fields(status=201))
    path.rename(tmp_path / "a.log.1")
    log.log(**fields(status=202))
    log.reopen()
    log.log(**fields(status=203))
    assert (tmp_path / "a.log.1").read_text() == "201\n202\n"
    assert path.read_text() == "203\n"
    assert log.file.fd == number
    log.close()
