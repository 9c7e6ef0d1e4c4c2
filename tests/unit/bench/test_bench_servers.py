"""The benchmark's servers and rows: command lines that compare like with like."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.bench.peers.__main__ import plan, turn
from tests.bench.peers.environment import Interpreter, choose, inspect, reason
from tests.bench.peers.goals import BEST, GOALS
from tests.bench.peers.servers import OURS, SERVERS, Wish
from tests.bench.peers.workloads import ROWS, entries

PROGRAMS = Path("/env/bin")
WISH = Wish(port=8111, metrics_port=9111, app="plain:app", threads=6)


@pytest.mark.parametrize("name", SERVERS)
def test_every_server_gets_what_was_wished(name: str) -> None:
    """Its program is the environment's; address and application are on the command line."""
    argv = SERVERS[name].command(PROGRAMS, WISH)

    assert argv[0].startswith("/env/bin/")
    assert any("8111" in word for word in argv)
    assert "plain:app" in argv


@pytest.mark.parametrize("name", [name for name, server in SERVERS.items() if server.threaded])
def test_every_server_has_as_many_threads(name: str) -> None:
    """The number of threads is on every command line."""
    assert "6" in SERVERS[name].command(PROGRAMS, WISH)


def test_ours_runs_with_its_metrics() -> None:
    """The metrics page is served, and nothing turns a part of it off."""
    argv = SERVERS[OURS].command(PROGRAMS, WISH)

    assert argv[argv.index("--metrics-bind") + 1] == "127.0.0.1:9111"


@pytest.mark.parametrize("name", ["gthreadsrv", "gunicorn", "granian"])
def test_the_access_log_is_off_until_it_is_measured(name: str) -> None:
    """Only a wish for a log adds it."""
    logged = Wish(port=1, metrics_port=2, access_log=Path("/log"))

    assert not any("access" in word for word in SERVERS[name].command(PROGRAMS, WISH))
    assert any("access" in word for word in SERVERS[name].command(PROGRAMS, logged))


def test_rows_and_goals_name_what_exists() -> None:
    """Each entry's server is known; each goal's row has both entries that it compares."""
    rows = {row.name: row for row in ROWS}
    for row in ROWS:
        keys = [entry.key for entry in row.entries]
        assert {entry.server for entry in row.entries} <= set(SERVERS)
        assert len(set(keys)) == len(keys)
    for goal in GOALS:
        keys = [entry.key for entry in rows[goal.row].entries]
        assert goal.ours in keys
        assert goal.against is None or goal.against == BEST or goal.against in keys


def test_a_plan_holds_what_was_asked_for() -> None:
    """Our own entries always; of the peers those that are wanted and installed."""
    [row] = plan(["flask"], ["granian", "bjoern"], ["bjoern"])

    assert [entry.server for entry in row.entries] == [OURS, "granian"]


def test_each_round_begins_with_another_server() -> None:
    """A B C, B C A, C A B: none always runs on what another has left."""
    three = entries("a", "b", "c")
    order = ["".join(entry.server for entry in turn(three, number)) for number in range(4)]

    assert order == ["abc", "bca", "cab", "abc"]


def python(version: tuple[int, ...], prefix: str = "/opt", config: str = "") -> Interpreter:
    """An interpreter that nobody has."""
    return Interpreter(f"{prefix}/bin/python3", version, prefix, config)


def test_an_optimised_interpreter_is_chosen() -> None:
    """Built with --enable-optimizations, or the distribution's; the first of them."""
    plain, distribution = python((3, 13, 0)), python((3, 11, 2), "/usr")
    built = python((3, 12, 1), config="'--enable-optimizations' '--with-lto'")

    assert choose([plain, distribution, built]) == distribution
    assert choose([None, plain, built]) == built


def test_without_an_optimised_interpreter_any_will_do() -> None:
    """The first that is new enough, which says of itself that it is not optimised."""
    old, plain = python((3, 9, 2), "/usr"), python((3, 12, 1))

    assert choose([old, plain]) == plain
    assert "WITHOUT" in str(plain)
    assert choose([old, None]) is None


@pytest.mark.parametrize("program", ["true", "false", "/no/such/program"])
def test_what_is_no_python_is_none(program: str) -> None:
    """A program that says nothing, that fails, or that is not there."""
    assert inspect(program) is None


def test_this_python_is_one() -> None:
    """Its version is what it says itself."""
    found = inspect(sys.executable)

    assert found is not None
    assert found.version == sys.version_info[:3]


def test_the_reason_of_a_failed_build_is_one_line() -> None:
    """The missing header tells more than pip's last words; a long line is cut."""
    output = "building\nev.c:1: fatal error: ev.h: No such file or directory\nerror: it failed\n"

    assert reason(output) == "ev.c:1: fatal error: ev.h: No such file or directory"
    assert reason("") == "no reason given"
    assert len(reason("error: " + "word " * 100)) <= 160
