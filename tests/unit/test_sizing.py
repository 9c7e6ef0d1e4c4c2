"""Sizing: CPUs as control groups, affinity and variables allow, and the rule made from them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gthreadsrv.cgroup import cpu_limit
from gthreadsrv.sizing import Cpus, read_cpus, resolve

COUNTS = st.integers(1, 512)


def shape(workers: int | None, threads: int | None, cpus: int) -> tuple[int, int]:
    """Workers and threads for so many CPUs."""
    sized = resolve(workers, threads, Cpus(cpus, "test"))
    return sized.workers, sized.threads


@pytest.mark.parametrize(
    ("cpus", "expected"),
    [(1, (1, 3)), (2, (2, 3)), (3, (3, 3)), (4, (4, 3)), (8, (8, 3)), (64, (64, 3))],
)
def test_with_nothing_given_there_is_a_worker_per_cpu(cpus: int, expected: tuple[int, int]) -> None:
    """And the fewest threads that reach 2xCPU+1."""
    assert shape(None, None, cpus) == expected
    assert shape(0, 0, cpus) == expected


@pytest.mark.parametrize(
    ("given_", "cpus", "expected"),
    [
        ((1, None), 4, (1, 9)),
        ((4, None), 4, (4, 3)),
        ((9, None), 4, (9, 1)),
        ((20, None), 4, (20, 1)),
        ((None, 1), 4, (9, 1)),
        ((None, 3), 4, (4, 3)),
        ((None, 2), 4, (5, 2)),
        ((None, 16), 4, (4, 16)),
        ((3, 5), 4, (3, 5)),
    ],
)
def test_with_one_given_the_other_follows(
    given_: tuple[int | None, int | None], cpus: int, expected: tuple[int, int]
) -> None:
    """More threads never leave a CPU without a worker: one interpreter uses one CPU."""
    assert shape(*given_, cpus) == expected


@given(COUNTS)
def test_what_nobody_set_is_the_smallest_that_reaches_the_sum(cpus: int) -> None:
    """One thread fewer would not reach 2xCPU+1."""
    workers, threads = shape(None, None, cpus)
    assert workers == cpus
    assert workers * threads >= 2 * cpus + 1
    assert workers * (threads - 1) < 2 * cpus + 1


@given(COUNTS, COUNTS)
def test_what_follows_reaches_the_sum_and_no_further_than_needed(cpus: int, number: int) -> None:
    """The given number stays; the other is the least that will do."""
    target = 2 * cpus + 1
    workers, threads = shape(number, None, cpus)
    assert workers == number
    assert workers * threads >= target > workers * (threads - 1)
    workers, threads = shape(None, number, cpus)
    assert threads == number
    assert workers >= cpus
    assert workers * threads >= target
    assert workers == cpus or (workers - 1) * threads < target
    assert shape(cpus, number, 3) == (cpus, number)


def test_the_log_line_shows_the_sum() -> None:
    """CPUs and where they were read, the rule, workers, threads."""
    fields = resolve(None, None, Cpus(2, "affinity mask")).describe()
    assert fields == {
        "cpus": 2,
        "cpus_from": "affinity mask",
        "rule": "a worker per CPU, fewest threads for 2xCPU+1 = 5",
        "workers": 2,
        "threads": 3,
        "requests_at_once": 6,
    }


def test_of_a_range_the_fewest_workers_decide() -> None:
    """They alone give 2xCPU+1; the line shows both ends."""
    sized = resolve(2, None, Cpus(4, "test"), 8)
    assert (sized.workers, sized.threads) == (2, 5)
    assert sized.describe()["most_workers"] == 8


# -- where CPUs are read ----------------------------------------------------------------------


class Container:
    """A made-up root of a file system: control groups as a container would see them."""

    def __init__(self, root: Path) -> None:
        self.root = str(root)
        self._root = root

    def file(self, path: str, text: str) -> None:
        """Put a file there."""
        place = self._root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)

    def v2(self, folder: str, text: str) -> None:
        """Limit a cgroup v2 folder."""
        self.file(f"{folder}/cpu.max", f"{text}\n")

    def v1(self, folder: str, quota: int, period: int = 100000) -> None:
        """Limit a cgroup v1 folder."""
        self.file(f"{folder}/cpu.cfs_quota_us", f"{quota}\n")
        self.file(f"{folder}/cpu.cfs_period_us", f"{period}\n")

    def cpus(self, affinity: int = 64, **environ: str) -> Cpus:
        """What sizing reads in it."""
        return read_cpus(environ, self.root, affinity)


@pytest.fixture
def box(tmp_path: Path) -> Container:
    """A container with nothing in it."""
    return Container(tmp_path)


def test_without_any_limit_the_affinity_mask_counts(box: Container) -> None:
    """No files, no limit."""
    assert cpu_limit(box.root) is None
    assert box.cpus(affinity=6) == Cpus(6, "affinity mask")


@pytest.mark.parametrize(
    ("text", "count"),
    [("150000 100000", 2), ("50000 100000", 1), ("100000 100000", 1), ("400001 100000", 5),
     ("1000 1000000", 1)],
)  # fmt: skip
def test_a_cgroup_v2_limit_is_rounded_up(box: Container, text: str, count: int) -> None:
    """Half a CPU still needs one worker."""
    box.file("/proc/self/cgroup", "0::/\n")
    box.v2("/sys/fs/cgroup", text)
    cpus = box.cpus()
    assert cpus.count == count
    assert cpus.where.startswith("/sys/fs/cgroup/cpu.max = ")


@pytest.mark.parametrize("text", ["max 100000", "max", "", "x y", "0 100000", "100000 0"])
def test_no_limit_and_nonsense_are_no_limit(box: Container, text: str) -> None:
    """What cannot be understood must not stop the server."""
    box.file("/proc/self/cgroup", "0::/\n")
    box.v2("/sys/fs/cgroup", text)
    assert box.cpus(affinity=3).count == 3


def test_the_tightest_limit_on_a_nested_path_counts(box: Container) -> None:
    """A pod's limit holds for its containers, whatever theirs say; a sibling's does not."""
    box.file("/proc/self/cgroup", "0::/pod/app/inner\n")
    box.v2("/sys/fs/cgroup/pod/app/inner", "max 100000")
    box.v2("/sys/fs/cgroup/pod/app", "800000 100000")
    box.v2("/sys/fs/cgroup/pod", "300000 100000")
    box.v2("/sys/fs/cgroup/pod/other", "100000 100000")
    assert box.cpus() == Cpus(3, "/sys/fs/cgroup/pod/cpu.max = 3")


@given(st.lists(st.one_of(st.none(), st.integers(1, 6_400_000)), min_size=1, max_size=6))
def test_along_any_path_the_minimum_counts(
    tmp_path_factory: pytest.TempPathFactory, quotas: list[int | None]
) -> None:
    """Whatever is set at each level."""
    box = Container(tmp_path_factory.mktemp("c"))
    names = "/".join("abcdef"[: len(quotas)])
    box.file("/proc/self/cgroup", f"0::/{names}\n")
    for depth, quota in enumerate(quotas, start=1):
        text = "max" if quota is None else str(quota)
        box.v2("/sys/fs/cgroup/" + "/".join("abcdef"[:depth]), f"{text} 100000")
    limits = [-(-quota // 100000) for quota in quotas if quota is not None]
    assert box.cpus(affinity=1000).count == min([1000, *limits])


def test_a_cgroup_v1_quota_is_read_along_its_path(box: Container) -> None:
    """-1 is no limit."""
    box.file("/proc/self/cgroup", "5:memory:/docker/x\n4:cpu,cpuacct:/docker/x\n")
    box.v1("/sys/fs/cgroup/cpu,cpuacct", -1)
    box.v1("/sys/fs/cgroup/cpu,cpuacct/docker/x", 250000)
    assert box.cpus() == Cpus(3, "/sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_quota_us = 2.5")


def test_a_container_on_v1_sees_its_own_group_at_the_mount(box: Container) -> None:
    """/proc/self/cgroup has the host's path, the mount shows only what lies below it."""
    box.file("/proc/self/cgroup", "4:cpu,cpuacct:/docker/x/inner\n")
    box.file(
        "/proc/self/mountinfo",
        "31 23 0:28 / /proc rw - proc proc rw\n"
        "40 31 0:29 /docker/x /cg\\040roups/cpu rw master:9 - cgroup cgroup rw,cpu,cpuacct\n",
    )
    box.v1("/cg roups/cpu", 200000)
    box.v1("/cg roups/cpu/inner", 50000, 50000)
    assert box.cpus() == Cpus(1, "/cg roups/cpu/inner/cpu.cfs_quota_us = 1")


def test_a_hybrid_system_is_read_in_both_places(box: Container) -> None:
    """v1 has the cpu controller, v2 is mounted aside; the tighter of the two counts."""
    box.file("/proc/self/cgroup", "1:cpu:/a\n0::/b\n")
    box.file(
        "/proc/self/mountinfo",
        "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n"
        "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n",
    )
    box.v1("/sys/fs/cgroup/cpu/a", 500000)
    assert box.cpus().count == 5
    box.v2("/sys/fs/cgroup/unified/b", "200000 100000")
    assert box.cpus().count == 2


def test_a_group_outside_the_mount_does_not_lead_out_of_it(box: Container) -> None:
    """With a namespace of its own a process may see its group as ../.."""
    box.file("/proc/self/cgroup", "0::/../../other\n")
    box.v2("/sys/fs/cgroup", "200000 100000")
    box.v2("/other", "100000 100000")
    assert box.cpus().count == 2


def test_the_affinity_mask_bounds_a_larger_limit(box: Container) -> None:
    """Eight CPUs' worth of quota on two CPUs are two."""
    box.file("/proc/self/cgroup", "0::/\n")
    box.v2("/sys/fs/cgroup", "800000 100000")
    assert box.cpus(affinity=2) == Cpus(2, "affinity mask")


def test_python_cpu_count_is_the_last_word(box: Container) -> None:
    """It is how a person overrides what Python sees; `default` overrides nothing."""
    box.file("/proc/self/cgroup", "0::/\n")
    box.v2("/sys/fs/cgroup", "300000 100000")
    assert box.cpus(PYTHON_CPU_COUNT="5") == Cpus(5, "PYTHON_CPU_COUNT")
    for word in ("default", "", "0", "many"):
        assert box.cpus(PYTHON_CPU_COUNT=word).count == 3


def test_pythons_own_option_counts_as_its_variable_does(
    box: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    """-X cpu_count=N."""
    monkeypatch.setitem(sys._xoptions, "cpu_count", "7")
    assert box.cpus(PYTHON_CPU_COUNT="5") == Cpus(7, "-X cpu_count")


def test_this_machine_can_be_read() -> None:
    """The real files, and never more than this process may use."""
    cpus = read_cpus({})
    assert 1 <= cpus.count <= len(os.sched_getaffinity(0))
