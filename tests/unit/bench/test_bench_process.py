"""The benchmark's reading of /proc: which processes are a server's, and what they have used."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bench.peers.process import (
    Stat,
    core_busy_s,
    cpu_s,
    members,
    parse_pss_kib,
    parse_stat,
    pss_kib,
    read_all,
)

# Fields 3 to 17 of /proc/PID/stat: the parent is 1, the session 40, the times 7, 3, 2 and 1.
REST = "S 1 40 40 0 -1 4194560 100 0 0 0 7 3 2 1 20 0 1 0 100 4096 10"


@given(name=st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=15))
def test_any_name_of_a_process_is_read_over(name: str) -> None:
    """A name with blanks and brackets, such as `a) S 9 9`, moves no field."""
    assert parse_stat(f"41 ({name}) {REST}\n") == Stat(41, parent=1, session=40, ticks=13)


def test_members_are_the_session_and_its_descendants() -> None:
    """A child that has a session of its own still counts, and so does its child; others do not."""
    leader = Stat(10, parent=1, session=10, ticks=0)
    worker = Stat(11, parent=10, session=10, ticks=0)
    orphan = Stat(12, parent=1, session=10, ticks=0)
    daemon = Stat(13, parent=11, session=13, ticks=0)
    grandchild = Stat(14, parent=13, session=13, ticks=0)
    stranger = Stat(15, parent=1, session=15, ticks=0)

    found = members([grandchild, daemon, stranger, orphan, worker, leader], 10)

    assert {stat.pid for stat in found} == {10, 11, 12, 13, 14}


def test_members_of_a_session_that_is_gone() -> None:
    """Nobody."""
    assert members([Stat(15, parent=1, session=15, ticks=0)], 10) == []


def test_pss_is_its_own_line() -> None:
    """Pss, not its parts and not Rss."""
    text = "00-ff ---p 0 0:0 0 [rollup]\nRss: 900 kB\nPss: 120 kB\nPss_Anon: 70 kB\n"

    assert parse_pss_kib(text) == 120


def test_a_busy_core_counts_stolen_time_and_not_waiting() -> None:
    """User, nice, system, irq, softirq and steal; neither idle nor iowait."""
    ticks = os.sysconf("SC_CLK_TCK")
    text = f"cpu 1 1 1 1 1 1 1 1 0 0\ncpu0 9 9 9 9 9 9 9 9 0 0\ncpu1 {ticks} 0 0 99 99 0 0 {ticks} 0 0\n"

    assert core_busy_s(text, 1) == 2.0
    with pytest.raises(ValueError, match="cpu7"):
        core_busy_s(text, 7)


def test_what_is_not_a_process_is_passed_over(tmp_path: Path) -> None:
    """The files of /proc itself, and a process that has gone before it was read."""
    (tmp_path / "42").mkdir()
    (tmp_path / "sys").mkdir()

    assert read_all(tmp_path) == []


def test_a_real_session_is_measured() -> None:
    """A session of our own: of the one this test runs in, the leader may be gone or another user's."""
    leader = subprocess.Popen(
        [sys.executable, "-c", "sum(range(3_000_000)); print(flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    with leader:
        assert leader.stdout is not None
        leader.stdout.readline()

        assert leader.pid in {stat.pid for stat in members(read_all(), leader.pid)}
        assert cpu_s(leader.pid) > 0
        assert pss_kib(leader.pid) > 0

        leader.communicate(b"\n")
