"""The application's own metrics: filed by slot, exact over restarts, and never a broken page.

prometheus_client decides at its import how values are kept, so each story runs in an
interpreter of its own: a few lines that play master, workers and application.
"""

from __future__ import annotations

import errno
import fcntl
import os
import tempfile
from pathlib import Path

import pytest

from gthreadsrv_metrics import app_metrics
from gthreadsrv_metrics.app_files import read_app_metrics
from gthreadsrv_metrics.app_metrics import clear_live, measure, prepare_directory
from tests.unit.metrics.stories import files, play, totals


def test_installing_does_not_import_prometheus_client(tmp_path: Path) -> None:
    """An application that does not use it does not pay for it; the variable is set."""
    printed = play(
        tmp_path,
        """
install_app_metrics(3, directory)
print([name for name in sys.modules if "prometheus_client" in name])
print(os.environ["PROMETHEUS_MULTIPROC_DIR"] == directory)
""",
    )
    assert printed.split("\n")[:2] == ["[]", "True"]


def test_values_are_filed_by_slot(tmp_path: Path) -> None:
    """A worker's files carry its slot, whatever its pid, and its child's carry both."""
    printed = play(
        tmp_path,
        """
install_app_metrics(3, directory)
from prometheus_client import Counter
counter = Counter("jobs", "Jobs.")
counter.inc(2)
def child():
    counter.inc(5)
    print(os.getpid(), flush=True)
run(child)
counter.inc(1)
""",
    )
    assert files(tmp_path) == [f"counter_3-{printed.strip()}.db", "counter_3.db"]
    assert totals(tmp_path) == {"jobs_total": 8}


def test_totals_are_exact_over_restarts_and_files_do_not_multiply(tmp_path: Path) -> None:
    """Twelve processes in two slots leave two files of each kind and no count behind."""
    play(
        tmp_path,
        """
def worker(slot):
    def serve():
        install_app_metrics(slot, directory)
        from prometheus_client import Counter, Histogram, Summary
        Counter("jobs", "Jobs.", ["kind"]).labels("a").inc()
        Histogram("size", "Size.", buckets=(1, 2)).observe(1.5)
        Summary("wait", "Wait.").observe(0.5)
    return serve
for turn in range(6):
    run(worker(0))
    run(worker(1))
""",
    )
    assert files(tmp_path) == [
        f"{kind}_{slot}.db" for kind in ("counter", "histogram", "summary") for slot in (0, 1)
    ]
    assert totals(tmp_path) == {
        "jobs_total[a]": 12,
        "size_bucket[1.0]": 0, "size_bucket[2.0]": 12, "size_bucket[+Inf]": 12,
        "size_count": 12, "size_sum": 18.0,
        "wait_count": 12, "wait_sum": 6.0,
    }  # fmt: skip


def test_preloaded_metrics_move_to_each_workers_files(tmp_path: Path) -> None:
    """Metrics made in the master before the fork count in the slot of whoever uses them."""
    play(
        tmp_path,
        """
install_app_metrics(None, directory)
from prometheus_client import Counter
counter = Counter("jobs", "Jobs.")
counter.inc(100)
def worker(slot):
    def serve():
        install_app_metrics(slot, directory)
        counter.inc(1)
        run(lambda: counter.inc(10))
    return serve
for slot in (0, 1, 0):
    run(worker(slot))
""",
    )
    assert {"counter_0.db", "counter_1.db", "counter_master.db"} <= set(files(tmp_path))
    assert len([name for name in files(tmp_path) if "-" in name]) == 3
    assert totals(tmp_path) == {"jobs_total": 133}


def test_imported_before_the_server_came(tmp_path: Path) -> None:
    """A configuration file that imports prometheus_client does not spoil the application."""
    play(
        tmp_path,
        """
import prometheus_client
install_app_metrics(2, directory)
prometheus_client.Counter("jobs", "Jobs.").inc()
install_app_metrics(2, directory)
prometheus_client.Counter("more", "More.").inc()
""",
    )
    assert files(tmp_path) == ["counter_2.db"]
    assert totals(tmp_path) == {"jobs_total": 1, "more_total": 1}


GAUGES = """
def worker(slot, value):
    def serve():
        install_app_metrics(slot, directory)
        from prometheus_client import Gauge
        for mode in ("all", "min", "max", "sum", "mostrecent"):
            for live in ("", "live"):
                Gauge(f"{live}{mode}", "A gauge.", multiprocess_mode=live + mode).set(value)
    return serve
run(worker(0, 5))
run(worker(1, 7))
"""


def test_gauges_in_every_mode(tmp_path: Path) -> None:
    """Each mode merges the workers' values as prometheus_client defines it."""
    play(tmp_path, GAUGES)
    both = {"min": 5, "max": 7, "sum": 12, "mostrecent": 7, "all[0]": 5, "all[1]": 7}
    assert totals(tmp_path) == both | {f"live{name}": value for name, value in both.items()}


def test_live_gauges_end_with_their_worker(tmp_path: Path) -> None:
    """Clearing a reaped slot takes its live gauges, its children's too, and nothing else."""
    play(tmp_path, GAUGES)
    (tmp_path / "gauge_livesum_1-77.db").write_bytes(bytes(8))
    (tmp_path / "gauge_livesum_11.db").write_bytes(bytes(8))
    clear_live(1, str(tmp_path))
    assert totals(tmp_path) == {
        "min": 5, "max": 7, "sum": 12, "mostrecent": 7, "all[0]": 5, "all[1]": 7,
        "livemin": 5, "livemax": 5, "livesum": 5, "livemostrecent": 5, "liveall[0]": 5,
    }  # fmt: skip
    assert "gauge_livesum_1-77.db" not in files(tmp_path)
    assert "gauge_livesum_11.db" in files(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x08",
        (1000).to_bytes(4, "little") + bytes(60),
        (64).to_bytes(4, "little") + bytes(4) + (999).to_bytes(4, "little") + bytes(60),
        (48).to_bytes(4, "little") + bytes(4) + (16).to_bytes(4, "little") + b"no json at all  "
        + bytes(40),
        (48).to_bytes(4, "little") + bytes(4) + (4).to_bytes(4, "little") + b"\xff\xfe\xfd\xfc"
        + bytes(40),
    ],
    ids=["empty", "no header", "shorter than it says", "entry too long", "no json", "no utf-8"],
)  # fmt: skip
def test_a_torn_file_is_left_out(tmp_path: Path, content: bytes) -> None:
    """It is named for the count and the log, and the rest of the page is whole."""
    play(tmp_path, GAUGES)
    torn = tmp_path / "counter_9.db"
    torn.write_bytes(content)
    reading = read_app_metrics(str(tmp_path))
    assert reading.torn == [str(torn)]
    assert len(reading.families) == 10


@pytest.mark.parametrize(
    "key", ['["a","a",[1],"h"]', '["a","a","zz","h"]', '["a","a",null,"h"]', '[5,"a",{},"h"]', "{}"]
)
def test_a_key_of_another_shape_is_torn_too(tmp_path: Path, key: str) -> None:
    """Whoever wrote it; the rest of the page is whole."""
    play(tmp_path, GAUGES)
    text = key.encode()
    text += b" " * ((8 - (len(text) + 4) % 8) % 8)
    entry = len(text).to_bytes(4, "little") + text + bytes(16)
    torn = tmp_path / "counter_9.db"
    torn.write_bytes((8 + len(entry)).to_bytes(4, "little") + bytes(4) + entry + bytes(64))
    reading = read_app_metrics(str(tmp_path))

    assert reading.torn == [str(torn)]
    assert len(reading.families) == 10


def test_only_files_are_read(tmp_path: Path) -> None:
    """A pipe would keep the reader waiting."""
    play(tmp_path, GAUGES)
    os.mkfifo(tmp_path / "counter_7.db")
    (tmp_path / "counter_8.db").mkdir()

    assert len(read_app_metrics(str(tmp_path)).families) == 10


def test_gauges_of_a_preloading_import_do_not_count_before_they_are_set(tmp_path: Path) -> None:
    """The same as without --preload; but what the import did set is there."""
    play(
        tmp_path,
        """
install_app_metrics(None, directory)
from prometheus_client import Gauge
modes = [live + mode for mode in ("all", "min", "max", "sum", "mostrecent") for live in ("", "live")]
gauges = [Gauge(mode, "A gauge.", multiprocess_mode=mode) for mode in modes]
def worker(slot, value):
    def serve():
        install_app_metrics(slot, directory)
        for gauge in gauges:
            gauge.set(value)
    return serve
run(worker(0, 5))
run(worker(1, 7))
""",
    )
    both = {"min": 5, "max": 7, "sum": 12, "mostrecent": 7, "all[0]": 5, "all[1]": 7}
    assert totals(tmp_path) == both | {f"live{name}": value for name, value in both.items()}


def test_a_gauge_that_a_preloading_import_sets_is_there(tmp_path: Path) -> None:
    """Such as the version of what was loaded."""
    play(
        tmp_path,
        """
install_app_metrics(None, directory)
from prometheus_client import Gauge
Gauge("version", "Loaded.", multiprocess_mode="max").set(3)
""",
    )
    assert totals(tmp_path) == {"version": 3}


def test_a_file_that_goes_while_it_is_read_is_no_error(tmp_path: Path) -> None:
    """A live gauge's file may be cleared between the listing and the reading."""
    play(tmp_path, GAUGES)
    (tmp_path / "gauge_liveall_5.db").symlink_to(tmp_path / "gone")
    reading = read_app_metrics(str(tmp_path))
    assert len(reading.families) == 10
    assert not reading.torn


def test_names_of_the_server_are_left_out(tmp_path: Path) -> None:
    """An application's metric with our prefix is not on the page and is named."""
    play(
        tmp_path,
        """
install_app_metrics(0, directory)
from prometheus_client import Counter
Counter("gthreadsrv_requests", "Mine.").inc()
Counter("jobs", "Jobs.").inc()
""",
    )
    reading = read_app_metrics(str(tmp_path))
    assert [family.name for family in reading.families] == ["jobs"]
    assert reading.collisions == ["gthreadsrv_requests"]


def test_a_private_directory_is_made_and_removed(tmp_path: Path) -> None:
    """Only the server's user can look into it, and it goes with the server."""
    made = prepare_directory({}, parents=[str(tmp_path)])
    assert made is not None
    assert made.private
    assert os.stat(made.path).st_mode & 0o777 == 0o700
    assert os.listdir(made.path) == []
    made.remove()
    assert list(tmp_path.iterdir()) == []


def test_shared_memory_is_preferred() -> None:
    """Where there is a tmpfs for it the directory is there."""
    made = prepare_directory({})
    assert made is not None
    try:
        if os.access("/dev/shm", os.W_OK):
            assert made.path.startswith("/dev/shm/")
    finally:
        made.remove()


def test_shared_memory_does_where_no_temporary_directory_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A container with a read-only root has no /tmp to write to, but its /dev/shm."""

    def nowhere() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", nowhere)

    made = prepare_directory({})

    assert (made is not None) == os.access("/dev/shm", os.W_OK)
    if made is not None:
        made.remove()


def test_without_a_writable_place_there_is_none(tmp_path: Path) -> None:
    """A read-only system still serves: the first place that works is taken, or none."""
    nowhere = str(tmp_path / "nowhere")
    assert prepare_directory({}, parents=[nowhere]) is None
    made = prepare_directory({}, parents=[nowhere, str(tmp_path)])
    assert made is not None
    made.remove()


def test_not_even_a_temporary_directory_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where all is read-only tempfile finds none, and says so by an exception."""

    def nothing() -> str:
        raise FileNotFoundError("No usable temporary directory found")

    def refuse(*_args: object, **options: object) -> str:
        raise OSError(errno.EROFS, "Read-only file system", options.get("dir"))

    monkeypatch.setattr(tempfile, "gettempdir", nothing)
    monkeypatch.setattr(os, "mkdir", refuse)
    assert prepare_directory({}) is None


@pytest.mark.parametrize("variable", ["PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir"])
def test_a_directory_of_the_user_is_kept(tmp_path: Path, variable: str) -> None:
    """It is made if need be, never wiped, never removed."""
    chosen = tmp_path / "metrics" / "mine"
    made = prepare_directory({variable: str(chosen)}, parents=[str(tmp_path)])
    assert made is not None
    assert (made.path, made.private) == (str(chosen), False)
    (chosen / "counter_0.db").touch()
    prepare_directory({variable: str(chosen)}, parents=[str(tmp_path)])
    made.remove()
    assert (chosen / "counter_0.db").exists()


def test_an_empty_variable_is_unset(tmp_path: Path) -> None:
    """As everywhere in the environment."""
    made = prepare_directory({"PROMETHEUS_MULTIPROC_DIR": ""}, parents=[str(tmp_path)])
    assert made is not None
    assert made.private
    made.remove()


def test_a_predecessors_directory_is_not_taken_for_the_users(tmp_path: Path) -> None:
    """A server that re-executes itself inherits its own variable, and makes a new directory."""
    first = prepare_directory({}, parents=[str(tmp_path)])
    assert first is not None
    second = prepare_directory({app_metrics.VARIABLE: first.path}, parents=[str(tmp_path)])
    assert second is not None
    assert second.private
    assert second.path != first.path
    assert os.path.isdir(first.path)
    first.remove()
    second.remove()


def test_abandoned_directories_are_swept(tmp_path: Path) -> None:
    """What a killed server left is removed by the next; what one still uses is not."""
    first = prepare_directory({}, parents=[str(tmp_path)])
    assert first is not None
    Path(first.path, "counter_0.db").touch()
    second = prepare_directory({}, parents=[str(tmp_path)])
    assert second is not None
    assert os.path.exists(first.path)
    os.close(first.lock_fd)  # as when its last process dies
    third = prepare_directory({}, parents=[str(tmp_path)])
    assert third is not None
    assert {str(path) for path in tmp_path.iterdir()} == {second.path, third.path}
    second.remove()
    third.remove()


def test_sweeping_follows_no_link(tmp_path: Path) -> None:
    """A link with our prefix, put there by someone else, leads nowhere."""
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / f"{app_metrics._PREFIX}x").symlink_to(precious)
    made = prepare_directory({}, parents=[str(shared)])
    assert made is not None
    made.remove()
    assert (precious / "file").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="giving files away needs root")
def test_the_directory_belongs_to_the_workers(tmp_path: Path) -> None:
    """Workers that run as another user can write there."""
    made = prepare_directory({}, owner=(12345, 23456), parents=[str(tmp_path)])
    assert made is not None
    status = os.stat(made.path)
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (12345, 23456, 0o700)
    made.remove()


def test_the_lock_lives_as_long_as_any_process(tmp_path: Path) -> None:
    """A worker that outlives its master still keeps the directory from being swept."""
    made = prepare_directory({}, parents=[str(tmp_path)])
    assert made is not None
    inherited = os.dup(made.lock_fd)  # what a fork does
    os.close(made.lock_fd)
    fd = os.open(made.path, os.O_RDONLY)
    with pytest.raises(BlockingIOError):
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(inherited)
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(fd)


def test_size_is_what_is_used(tmp_path: Path) -> None:
    """A file allocated in advance takes only the blocks that were written."""
    with open(tmp_path / "counter_0.db", "wb") as file:
        file.truncate(1 << 20)
        file.write(b"x")
    (tmp_path / "other.txt").write_bytes(bytes(100_000))
    count, size = measure(str(tmp_path))
    assert count == 1
    assert 0 < size < 1 << 20
    assert measure(str(tmp_path / "none")) == (0, 0)
