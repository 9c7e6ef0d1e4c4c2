"""The benchmark's verdicts and tables."""

from __future__ import annotations

import pytest

from tests.bench.peers.goals import BEST, Goal, Results, best_peer, judge, median
from tests.bench.peers.report import (
    BEGIN,
    END,
    disturbance,
    document,
    goal_line,
    goals_table,
    limit,
    readme_part,
    replace_between,
    row_table,
)
from tests.bench.peers.workloads import ROWS

ABOUT = {"CPU": "a processor", "Python": "CPython 3.11", "date": "2030-01-01"}


def cpu(*values: float | None) -> list[dict[str, float] | None]:
    """A sample for each round."""
    return [None if value is None else {"cpu_us": value} for value in values]


HELLO: Results = {
    "hello": {"gthreadsrv": cpu(10, 40, 12), "granian": cpu(20, 20, 30), "bjoern": cpu(9, 9, 9)}
}


def test_ratios_are_of_the_same_round() -> None:
    """The median of 0.5, 2 and 0.4, not the ratio of medians."""
    verdict = judge(Goal("hello", "", "cpu_us", "granian", at_most=0.5), HELLO)

    assert (verdict.ours, verdict.theirs, verdict.value, verdict.word) == (12, 20, 0.5, "yes")


def test_a_round_that_failed_is_left_out_on_both_sides() -> None:
    """Neither a failed sample of ours nor of the peer is compared."""
    results: Results = {"hello": {"gthreadsrv": cpu(None, 40, 12), "granian": cpu(20, None, 24)}}

    assert judge(Goal("hello", "", "cpu_us", "granian", at_most=1), results).value == 0.5


def test_the_best_peer_is_that_of_the_metric() -> None:
    """Least where less is better, most where more is; ours is no peer."""
    results: Results = {
        "post": {
            "gthreadsrv": [{"p99_ms": 1, "rate": 9}],
            "a": [{"p99_ms": 2, "rate": 5}],
            "b": [{"p99_ms": 3, "rate": 7}],
        }
    }

    assert best_peer(results, "post", "p99_ms") == "a"
    assert best_peer(results, "post", "rate") == "b"
    assert best_peer(results, "post", "boot_ms") is None
    verdict = judge(Goal("post", "", "rate", BEST, at_least=1), results)
    assert (verdict.peer, verdict.word) == ("b", "yes")


def test_a_difference_is_one() -> None:
    """An access log's cost is what it adds."""
    results: Results = {"log": {"with": cpu(20, 26), "without": cpu(15, 15)}}
    goal = Goal("log", "", "cpu_us", "without", at_most=6, ours="with", difference=True)

    assert judge(goal, results).value == 8
    assert judge(goal, results).word == "no"
    assert goal_line(judge(goal, results)).endswith("| +8.0 us | no |")
    assert limit(goal) == "<= 6.0 us"


@pytest.mark.parametrize("results", [{}, {"hello": {}}, {"hello": {"gthreadsrv": cpu(None)}}])
def test_what_was_not_measured_is_not_met(results: Results) -> None:
    """No number, no verdict."""
    goal = Goal("hello", "hello", "cpu_us", "granian", at_most=1)

    assert judge(goal, results).word == "not measured"
    assert median(results, "hello", "gthreadsrv", "cpu_us") is None


def test_limits_hold_at_their_edge() -> None:
    """At most and at least include the limit itself."""
    assert Goal("", "", "", at_most=1).met(1)
    assert not Goal("", "", "", at_most=1).met(1.001)
    assert Goal("", "", "", at_least=0.97).met(0.97)
    assert not Goal("", "", "", at_least=0.97).met(0.969)


def test_the_table_of_goals_has_the_rows_that_were_run() -> None:
    """Each goal of a row with its numbers, and none of a row that was left out."""
    table = goals_table(HELLO)

    assert (
        "| hello world, CPU per request | <= 0.9 x granian | 12.0 us | granian: 20.0 us | 0.5 | yes |"
        in table
    )
    assert "Flask" not in table


def test_a_row_shows_what_it_has() -> None:
    """Columns without a number, and failures when there are none, do not appear."""
    hello = next(row for row in ROWS if row.name == "hello")
    sample = {"rate": 1234.5, "cpu_us": 8.26, "failures": 0.0, "bytes_per_cpu_s": 5e6}

    assert row_table(hello, {"hello": {"granian": [sample], "bjoern": [None]}}) == (
        "| server | requests/s | CPU us/request |\n|---|---|---|\n"
        "| granian | 1,234 | 8.3 |\n| bjoern |  |  |\n"
    )
    failed = row_table(hello, {"hello": {"granian": [{**sample, "failures": 3.0}]}})
    assert "failed" in failed


def test_disturbance_tells_whether_to_believe_the_numbers() -> None:
    """The worst run, and how many were beyond the limit."""
    samples = [{"disturbance": share} for share in (0.0, 0.01, 0.2)]

    assert disturbance({"hello": {"gthreadsrv": samples}}) == (
        "at most 20% of the servers' core went elsewhere; more than 5% in 1 of 3 runs"
    )
    assert disturbance({"boot": {"gthreadsrv": [{"boot_ms": 1}]}}) == "not measured"


def test_the_document_says_what_is_missing() -> None:
    """A server that could not be built is named, with the reason."""
    text = document(HELLO, ABOUT, {"cheroot": "no compiler"})

    assert "* cheroot: no compiler\n" in text
    assert "* Python: CPython 3.11\n" in text
    assert "### Hello world" in text
    assert "scaling.png" not in text
    assert "(scaling.png)" in document(HELLO, ABOUT, {}, scaling=True)


def test_the_readme_is_changed_between_its_markers_only() -> None:
    """Twice the same, and never without markers."""
    text = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    once = replace_between(text, readme_part(HELLO, ABOUT))

    assert once.startswith("before\n")
    assert once.endswith(f"{END}\nafter\n")
    assert "old" not in once
    assert replace_between(once, readme_part(HELLO, ABOUT)) == once
    with pytest.raises(ValueError, match="there are no lines"):
        replace_between("nothing", "x")
