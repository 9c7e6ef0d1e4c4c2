"""Container limits, on made-up hierarchies of both cgroup versions."""

from __future__ import annotations

from pathlib import Path

import pytest

from gthreadsrv_metrics.cgroup import CgroupReading, read_cgroup
from tests.unit.metrics.fakes import Machine


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """An empty machine."""
    return Machine(tmp_path)


def test_v2_in_a_container(machine: Machine) -> None:
    """The container's own group is mounted at the root."""
    machine.own("0::/\n")
    machine.write("cgroup.controllers", "cpu memory")
    machine.write("cpu.max", "150000 100000")
    machine.write("cpu.stat", "usage_usec 5\nnr_periods 9\nnr_throttled 3\nthrottled_usec 2500000")
    machine.write("memory.current", "1000")
    machine.write("memory.max", "4000")
    machine.write("memory.events", "low 0\noom 2\noom_kill 1")
    assert machine.read() == CgroupReading(1.5, 2.5, 3, 1000, 4000, 1)


def test_v2_nested_takes_the_tightest_limit(machine: Machine) -> None:
    """A parent's limit holds for its children, beside the parent's usage."""
    machine.own("0::/pods/pod/app\n")
    machine.write("cgroup.controllers", "cpu memory")
    machine.write("pods/cpu.max", "400000 100000")
    machine.write("pods/pod/cpu.max", "50000 100000")
    machine.write("pods/pod/cpu.stat", "nr_throttled 7\nthrottled_usec 1000000")
    machine.write("pods/pod/app/cpu.max", "max 100000")
    machine.write("pods/pod/app/cpu.stat", "nr_throttled 0\nthrottled_usec 0")
    machine.write("pods/pod/memory.current", "900")
    machine.write("pods/pod/memory.max", "1000")
    machine.write("pods/pod/app/memory.current", "300")
    machine.write("pods/pod/app/memory.max", "2000")
    machine.write("pods/pod/app/memory.events", "oom_kill 4")
    assert machine.read() == CgroupReading(0.5, 1.0, 7, 900, 1000, 4)


def test_v2_without_limits(machine: Machine) -> None:
    """No limit, no series for it; usage is known."""
    machine.own("0::/app\n")
    machine.write("cgroup.controllers", "cpu memory")
    machine.write("app/cpu.max", "max 100000")
    machine.write("app/memory.current", "300")
    machine.write("app/memory.max", "max")
    found = machine.read()
    assert (found.cpu_limit_cores, found.memory_limit_bytes) == (None, None)
    assert (found.memory_usage_bytes, found.throttled_s) == (300, None)


def test_a_path_of_the_host_falls_back_to_what_is_mounted(machine: Machine) -> None:
    """Without a cgroup namespace the path shown is not below this mount."""
    machine.own("0::/docker/0123456789\n")
    machine.write("cgroup.controllers", "cpu")
    machine.write("cpu.max", "200000 100000")
    assert machine.read().cpu_limit_cores == 2.0


@pytest.mark.parametrize("mount", ["cpu", "cpu,cpuacct"])
def test_v1(machine: Machine, mount: str) -> None:
    """The older files say the same in other units."""
    machine.own("9:name=systemd:/\n4:memory:/app\n1:cpu,cpuacct:/app\n0::/\n")
    machine.write(f"{mount}/app/cpu.cfs_quota_us", "50000")
    machine.write(f"{mount}/app/cpu.cfs_period_us", "100000")
    machine.write(
        f"{mount}/app/cpu.stat", "nr_periods 9\nnr_throttled 2\nthrottled_time 1500000000"
    )
    machine.write("memory/app/memory.usage_in_bytes", "100")
    machine.write("memory/app/memory.limit_in_bytes", "400")
    machine.write("memory/app/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3")
    assert machine.read() == CgroupReading(0.5, 1.5, 2, 100, 400, 3)


def test_memory_left_is_what_the_kernel_could_still_give(machine: Machine) -> None:
    """File pages that nobody used of late go when they must."""
    machine.own("0::/\n")
    machine.write("cgroup.controllers", "memory")
    machine.write("memory.current", "1000")
    assert machine.read().memory_left_bytes is None
    machine.write("memory.max", "4000")
    assert machine.read().memory_left_bytes == 3000
    machine.write("memory.stat", "anon 500\ninactive_file 400\nactive_file 100")
    assert machine.read().memory_left_bytes == 3400


def test_the_nearest_limit_is_where_the_least_can_still_be_had(machine: Machine) -> None:
    """A group around ours that is full of file pages is not: they go when they must."""
    machine.own("0::/slice/app\n")
    machine.write("cgroup.controllers", "memory")
    machine.write("slice/memory.current", "9900")
    machine.write("slice/memory.max", "10000")
    machine.write("slice/memory.stat", "inactive_file 8000")
    machine.write("slice/app/memory.current", "3500")
    machine.write("slice/app/memory.max", "4000")
    found = machine.read()
    assert (found.memory_usage_bytes, found.memory_limit_bytes) == (3500, 4000)
    assert found.memory_left_bytes == 500


def test_memory_left_on_v1(machine: Machine) -> None:
    """The hierarchy's total counts, as the usage does."""
    machine.own("4:memory:/app\n")
    machine.write("memory/app/memory.usage_in_bytes", "500")
    machine.write("memory/app/memory.limit_in_bytes", "400")
    assert machine.read().memory_left_bytes == 0
    machine.write("memory/app/memory.stat", "inactive_file 1\ntotal_inactive_file 300")
    assert machine.read().memory_left_bytes == 200


def test_v1_without_limits(machine: Machine) -> None:
    """A quota of -1 and the largest number there is are no limits."""
    machine.own("4:memory:/\n1:cpu:/\n")
    machine.write("cpu/cpu.cfs_quota_us", "-1")
    machine.write("cpu/cpu.cfs_period_us", "100000")
    machine.write("memory/memory.usage_in_bytes", "100")
    machine.write("memory/memory.limit_in_bytes", "9223372036854771712")
    found = machine.read()
    assert (found.cpu_limit_cores, found.memory_limit_bytes) == (None, None)
    assert found.memory_usage_bytes == 100


def test_a_machine_without_cgroups(machine: Machine) -> None:
    """Nothing is known, and nothing is wrong."""
    assert machine.read() == CgroupReading()


def test_garbled_files_tell_nothing(machine: Machine) -> None:
    """Numbers that are none are left out."""
    machine.own("nonsense\n0::/\n")
    machine.write("cgroup.controllers", "")
    machine.write("cpu.max", "")
    machine.write("memory.current", "many")
    machine.write("memory.events", "oom_kill\noom_kill x\n")
    assert machine.read() == CgroupReading()


def test_this_machine_for_real() -> None:
    """Whatever runs the tests has groups that can be read without an error."""
    found = read_cgroup()
    assert found.cpu_limit_cores is None or found.cpu_limit_cores > 0
