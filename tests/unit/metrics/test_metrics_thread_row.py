"""A thread's row: each call changes what it says and nothing else."""

from __future__ import annotations

import pytest

from gthreadsrv_metrics import labels
from gthreadsrv_metrics.layout import (
    BLOCK_CELLS,
    MAX_BLOCKS,
    PAIR_BLOCKS,
    T_BLOCKS,
    T_BUSY,
    T_NATIVE_ID,
    T_SEQUENCE,
)
from gthreadsrv_metrics.reading import FleetReading, method_and_code, read_fleet
from gthreadsrv_metrics.scoreboard import Scoreboard, ThreadRow

NOW = 1000.0


@pytest.fixture
def board() -> Scoreboard:
    """A board with one leased slot of two threads."""
    board = Scoreboard(2, 2, [])
    board.master.lease(0, 100, 1, NOW - 1)
    return board


def finish(row: ThreadRow, now: float = NOW, **changes: object) -> None:
    """Finish a plain request, with some of its facts changed."""
    facts: dict[str, object] = {
        "method": "GET", "status": 200, "started": now - 0.02, "app_s": 0.01, "queue_s": 0.001,
        "kernel": True, "body_in": 0, "body_out": 0,
    }  # fmt: skip
    row.finish(now, **(facts | changes))  # type: ignore[arg-type]


def requests(fleet: FleetReading) -> dict[tuple[str, str], float]:
    """Return (method, code) -> count."""
    return {method_and_code(key): sum(cells[1:]) for key, cells in fleet.durations.items()}


def test_busy_time_runs_from_begin_to_finish(board: Scoreboard) -> None:
    """The busy integral grows with the clock while a request runs and stands still after."""
    row = board.thread(0, 0)
    row.begin(NOW)
    assert read_fleet(board, NOW + 2).slots[0].busy_s == pytest.approx(2)
    finish(row, NOW + 3)
    assert read_fleet(board, NOW + 9).slots[0].busy_s == pytest.approx(3)
    row.begin(NOW + 10)
    row.abandon(NOW + 11)
    slot = read_fleet(board, NOW + 20).slots[0]
    assert slot.busy_s == pytest.approx(4)
    assert slot.threads_busy == 0


def test_a_running_request_shows_its_age(board: Scoreboard) -> None:
    """threads_busy and the oldest request's age come from the running rows."""
    board.thread(0, 0).begin(NOW)
    board.thread(0, 1).begin(NOW + 4)
    slot = read_fleet(board, NOW + 5).slots[0]
    assert slot.threads_busy == 2
    assert slot.oldest_request_s == pytest.approx(5)


def test_finish_counts_under_method_and_code(board: Scoreboard) -> None:
    """Each response is counted once, under its own pair."""
    row = board.thread(0, 0)
    for method, status in (("GET", 200), ("GET", 200), ("POST", 201), ("HEAD", 404)):
        finish(row, method=method, status=status)
    assert requests(read_fleet(board, NOW)) == {
        ("GET", "200"): 2, ("POST", "201"): 1, ("HEAD", "404"): 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("method", "status", "expected"),
    [
        ("BREW", 200, ("other", "200")),
        ("get", 200, ("other", "200")),
        ("GET", 700, ("GET", "5xx")),
        ("GET", 99, ("GET", "5xx")),
        ("PATCH", 599, ("PATCH", "599")),
        ("TRACE", 100, ("TRACE", "100")),
    ],
)
def test_unknown_methods_and_codes_fall_together(
    board: Scoreboard, method: str, status: int, expected: tuple[str, str]
) -> None:
    """What clients and applications invent adds no series of its own."""
    row = board.thread(0, 0)
    finish(row, method=method, status=status)
    finish(row, method=method, status=status)
    assert requests(read_fleet(board, NOW)) == {expected: 2}


def test_invented_methods_take_no_memory(board: Scoreboard) -> None:
    """A thousand different methods are one block and no entry in the thread's table."""
    row = board.thread(0, 0)
    for number in range(1000):
        finish(row, method=f"M{number}")
    assert board.thread_cells(0, 0)[T_BLOCKS] == 1
    assert row._blocks == {}


def test_more_pairs_than_blocks_are_counted_by_class(board: Scoreboard) -> None:
    """No response is lost when a row is full, and its class stays right."""
    row = board.thread(0, 0)
    codes = [*range(200, 240), *range(400, 440), *range(500, 520)]
    for code in codes:
        finish(row, status=code)
        finish(row, status=code)
    fleet = read_fleet(board, NOW)
    counts = requests(fleet)
    assert sum(counts.values()) == 2 * len(codes)
    assert len(counts) == PAIR_BLOCKS + 2
    assert counts["other", "4xx"] == 2 * (80 - PAIR_BLOCKS)
    assert counts["other", "5xx"] == 40
    assert board.thread_cells(0, 0)[T_BLOCKS] == MAX_BLOCKS
    assert fleet.slots[0].requests == 2 * len(codes)


def test_a_new_lease_goes_on_counting_in_the_same_blocks(board: Scoreboard) -> None:
    """A second process finds its predecessor's pairs instead of claiming them again."""
    finish(board.thread(0, 0))
    successor = board.thread(0, 0)
    finish(successor)
    finish(successor, status=500)
    assert board.thread_cells(0, 0)[T_BLOCKS] == 2
    assert requests(read_fleet(board, NOW)) == {("GET", "200"): 2, ("GET", "500"): 1}


@pytest.mark.parametrize(
    ("seconds", "bucket"),
    [(0.0, 0), (0.001, 0), (0.0011, 1), (0.0025, 1), (0.5, 8), (30.0, 13), (30.1, 14), (1e9, 14)],
)
def test_durations_fall_into_their_buckets(board: Scoreboard, seconds: float, bucket: int) -> None:
    """A bound belongs to its bucket (le is "less or equal"); above the last is +Inf."""
    finish(board.thread(0, 0), NOW, started=NOW - seconds, app_s=seconds)
    fleet = read_fleet(board, NOW)
    (cells,) = fleet.durations.values()
    if seconds < 1e9:  # NOW - 1e9 is exact, but subtraction near a bound is not
        assert sum(cells[1:]) == 1
    assert fleet.application[1 + bucket] == 1
    assert fleet.application[0] == seconds


@pytest.mark.parametrize(("kernel", "source"), [(True, "kernel"), (False, "user")])
def test_queue_time_is_kept_by_source(board: Scoreboard, kernel: bool, source: str) -> None:
    """A wait is counted under where it was measured, and only there."""
    finish(board.thread(0, 0), queue_s=0.02, kernel=kernel)
    queue = read_fleet(board, NOW).queue
    other = next(name for name in labels.QUEUE_SOURCES if name != source)
    assert queue[source][0] == pytest.approx(0.02)
    assert queue[source][1 + labels.QUEUE_BOUNDS.index(0.025)] == 1
    assert sum(queue[other]) == 0


def test_an_unknown_queue_time_is_not_counted(board: Scoreboard) -> None:
    """A negative wait means unknown: the request counts, the wait does not."""
    finish(board.thread(0, 0), queue_s=-1.0)
    fleet = read_fleet(board, NOW)
    assert sum(map(sum, fleet.queue.values())) == 0
    assert fleet.slots[0].requests == 1


def test_zero_wait_is_a_wait(board: Scoreboard) -> None:
    """A wait of nothing is counted: it is the best case, not a missing one."""
    finish(board.thread(0, 0), queue_s=0.0)
    assert read_fleet(board, NOW).queue["kernel"][1] == 1


def test_bodies_are_counted_in_bytes(board: Scoreboard) -> None:
    """Both directions add up."""
    row = board.thread(0, 0)
    finish(row, body_in=10, body_out=1000)
    finish(row, body_in=5, body_out=0)
    fleet = read_fleet(board, NOW)
    assert (fleet.body_in, fleet.body_out) == (15, 1000)


def test_a_response_finished_by_the_poller_adds_no_busy_time(board: Scoreboard) -> None:
    """finish() on a row that runs nothing counts the response and leaves busy time alone."""
    row = board.thread(0, 0)
    row.begin(NOW)
    row.abandon(NOW + 1)
    finish(row, NOW + 50, started=NOW)
    slot = read_fleet(board, NOW + 60).slots[0]
    assert slot.busy_s == pytest.approx(1)
    assert slot.requests == 1


def test_abandon_without_begin_is_nothing(board: Scoreboard) -> None:
    """A row that runs nothing stays as it is."""
    board.thread(0, 0).abandon(NOW)
    assert board.thread_cells(0, 0)[T_BUSY] == 0


@pytest.mark.parametrize(
    ("call", "values", "attribute"),
    [
        ("count_close", labels.CLOSE_REASONS, "closed"),
        ("count_error", labels.ERROR_REASONS, "errors"),
        ("count_timeout", labels.TIMEOUT_ACTIONS, "timeouts"),
    ],
)
def test_each_reason_has_its_own_counter(
    board: Scoreboard, call: str, values: tuple[str, ...], attribute: str
) -> None:
    """The n-th reason counted n times is read back as n, for every reason."""
    row = board.thread(0, 0)
    for count, value in enumerate(values, 1):
        for _ in range(count):
            getattr(row, call)(value)
    assert getattr(read_fleet(board, NOW), attribute) == list(range(1, len(values) + 1))


@pytest.mark.parametrize("call", ["count_close", "count_error", "count_timeout"])
def test_an_unknown_reason_is_a_mistake(board: Scoreboard, call: str) -> None:
    """A reason outside the fixed set is refused, so label sets cannot grow by accident."""
    with pytest.raises(KeyError):
        getattr(board.thread(0, 0), call)("because")


def test_accepts_and_proxy_waits(board: Scoreboard) -> None:
    """Accepted connections and the proxy's queue have counters of their own."""
    row = board.thread(0, 0)
    row.count_accept()
    row.count_accept()
    row.proxy_queue(0.3)
    row.proxy_queue(-5.0)  # a proxy's clock ahead of ours: no time, but a request
    fleet = read_fleet(board, NOW)
    assert fleet.slots[0].accepted == 2
    assert fleet.proxy_queue[0] == pytest.approx(0.3)
    assert sum(fleet.proxy_queue[1:]) == 2


def test_the_sequence_is_even_between_calls(board: Scoreboard) -> None:
    """A row at rest can be read, and each finish() moves it on."""
    row = board.thread(0, 0)
    cells = board.thread_cells(0, 0)
    before = cells[T_SEQUENCE]
    finish(row)
    assert cells[T_SEQUENCE] == before + 2


def test_attach_tells_the_kernel_thread(board: Scoreboard) -> None:
    """The thread's id is on the board for whoever reads its CPU time."""
    board.thread(0, 1).attach(4711)
    assert board.thread_cells(0, 1)[T_NATIVE_ID] == 4711
    assert board.slot(0).native_ids() == [4711]


def test_exemplars_keep_the_last_trace_of_each_bucket(board: Scoreboard) -> None:
    """A sampled request's trace is kept with its duration, class and time."""
    row = board.thread(0, 0)
    finish(row, NOW, started=NOW - 0.02, trace_id="a" * 32)
    finish(row, NOW + 1, started=NOW + 1 - 0.02, trace_id="b" * 32)
    finish(row, NOW + 2, started=NOW - 0.5, status=503, trace_id="c" * 32)
    finish(row, NOW + 3, started=NOW - 9)  # not sampled
    found = {e.trace_id: e for e in read_fleet(board, NOW + 4, exemplars=True).exemplars}
    assert set(found) == {"b" * 32, "c" * 32}
    assert found["b" * 32].at == NOW + 1
    assert found["b" * 32].bucket == labels.DURATION_BOUNDS.index(0.025)
    assert labels.CODE_CLASSES[found["c" * 32].code_class] == "5xx"
    assert found["c" * 32].duration_s == pytest.approx(2.5)


@pytest.mark.parametrize("trace_id", ["", "abc", "a" * 33, "\u20ac" * 31])
def test_a_trace_id_of_the_wrong_length_is_not_kept(board: Scoreboard, trace_id: str) -> None:
    """What cannot be a trace id is dropped; the request counts."""
    finish(board.thread(0, 0), trace_id=trace_id)
    fleet = read_fleet(board, NOW, exemplars=True)
    assert fleet.exemplars == []
    assert fleet.slots[0].requests == 1


def test_blocks_do_not_overlap(board: Scoreboard) -> None:
    """Filling every block of one thread leaves its neighbour untouched."""
    row = board.thread(0, 0)
    for code in range(200, 300):
        finish(row, status=code, trace_id="f" * 32)
    finish(row, status=100)
    finish(row, status=599)
    assert not any(board.thread_cells(0, 1))
    assert not any(board.thread_cells(1, 0)[:BLOCK_CELLS])


def test_a_new_lease_adds_to_every_sum_it_finds(board: Scoreboard) -> None:
    """Nothing the first process summed up is lost or counted twice by its successor."""
    for _ in range(2):
        row = board.thread(0, 0)
        row.begin(NOW)
        finish(row, NOW + 1, started=NOW, app_s=0.5, queue_s=0.25, body_in=3, body_out=4)
    fleet = read_fleet(board, NOW + 2)
    (duration,) = fleet.durations.values()
    assert (duration[0], fleet.application[0], fleet.queue["kernel"][0]) == (2.0, 1.0, 0.5)
    assert (fleet.body_in, fleet.body_out, fleet.slots[0].busy_s) == (6, 8, 2.0)


@pytest.mark.parametrize("whole_s", [0.0, 0.0005, 0.125, 2.0, 64.0])
@pytest.mark.parametrize(
    ("app_s", "bucket"),
    [(0.0, 0), (0.001, 0), (0.002, 1), (0.1, 6), (0.125, 7), (2.0, 10), (64, 14)],
)
def test_the_application_has_its_own_bucket(
    board: Scoreboard, whole_s: float, app_s: float, bucket: int
) -> None:
    """Its time is counted where it belongs, whatever bucket the whole request falls into."""
    finish(board.thread(0, 0), NOW, started=NOW - whole_s, app_s=app_s)
    counted = read_fleet(board, NOW).application[1:]
    assert [place for place, count in enumerate(counted) if count] == [bucket]


def test_a_refusal_took_no_time_in_the_application(board: Scoreboard) -> None:
    """It is a request and has a duration; the application was not asked."""
    finish(board.thread(0, 0), NOW, status=400, app_s=-1.0, queue_s=-1.0)
    fleet = read_fleet(board, NOW)

    assert sum(fleet.application) == 0
    assert sum(sum(cells[1:]) for cells in fleet.durations.values()) == 1
