"""Kept connections are let go where requests wait and another worker has threads to spare."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gthreadsrv.worker.balance import Balance, keep, let_go
from gthreadsrv_metrics.scoreboard import Scoreboard
from tests.unit.worker.rig import GET, GET_CLOSE, Rig, at_end, hello

MakeRig = Callable[..., Rig]


class Asked:
    """A service that keeps connections."""

    keeps_alive = True
    lets_go = False


class Fleet:
    """Two ready workers of three threads; the first one's balance."""

    def __init__(self) -> None:
        self.board = Scoreboard(4, 3, [])
        for slot in (0, 1):
            self.board.master.lease(slot, 100 + slot, 1, 900.0)
            self.board.master.set_state(slot, "ready")
        self.services = [Asked() for _ in range(3)]
        self.balance = Balance(self.board, 0, self.services)
        self.now = 1000.0
        self.balance.look(self.now)

    def second(self, waiting: float, saturated: float) -> int:
        """A second in which so many waited here, and the other was full so long."""
        row, other = self.board.thread(0, 0), self.board.slot(1)
        other.begin_saturated(self.now)
        other.end_saturated(self.now + saturated)
        self.now += 1.0
        row.finish(self.now, "GET", 200, self.now, 0.0, waiting, False, 0, 0)
        self.balance.look(self.now)
        return sum(service.lets_go for service in self.services)


@pytest.mark.parametrize(
    ("waiting", "saturated", "expected"),
    [(0.0, 0.0, 0), (0.4, 0.0, 0), (0.6, 0.0, 1), (1.5, 0.0, 2), (9.0, 0.0, 3), (9.0, 0.5, 0)],
)
def test_as_many_as_wait_and_only_while_others_are_free(
    waiting: float, saturated: float, expected: int
) -> None:
    """And no more than there are threads to let them go."""
    assert Fleet().second(waiting, saturated) == expected


@pytest.mark.parametrize(
    ("cores", "busy", "there", "expected"),
    [
        (1.0, 3, 0, 1),  # with each second it is more even
        (1.0, 2, 0, 1),
        (1.0, 3, 1, 1),
        (1.0, 2, 1, 0),
        (1.0, 3, 2, 0),
        (1.0, 1, 0, 0),
        (0.5, 3, 0, 0),  # they wait for something else
    ],
)
def test_half_of_the_difference_goes_where_requests_compute_in_turns(
    cores: float, busy: int, there: int, expected: int
) -> None:
    """Though nobody waits for a thread: the other interpreter has less to do."""
    fleet = Fleet()
    fleet.second(0.0, 0.0)
    for slot, number in ((0, busy), (1, there)):
        for index in range(number):
            fleet.board.thread(slot, index).begin(fleet.now)
    fleet.board.slot(0).process_cpu(cores, 0.0)
    fleet.now += 1.0
    fleet.balance.look(fleet.now)
    assert sum(service.lets_go for service in fleet.services) == expected


def test_it_is_over_when_nobody_waits() -> None:
    fleet = Fleet()
    assert fleet.second(2.0, 0.0) == 2
    assert fleet.second(0.0, 0.0) == 0


def test_a_worker_that_drains_or_boots_has_nothing_to_spare() -> None:
    fleet = Fleet()
    fleet.board.master.set_state(1, "draining")
    assert fleet.second(9.0, 0.0) == 0
    fleet.board.master.set_state(1, "ready")
    assert fleet.second(9.0, 0.0) == 0, "it has not been watched for a second"
    assert fleet.second(9.0, 0.0) == 3


def test_a_service_lets_one_connection_go_and_keeps_the_next(make_rig: MakeRig) -> None:
    """With its response, told as such, and counted as such."""
    rig = make_rig(hello)
    client = rig.connect()
    assert b"Connection: close" not in rig.exchange(GET, client)
    let_go(rig.service)
    assert b"Connection: close" in rig.exchange(GET, client)
    assert at_end(client)
    assert rig.closed()["rebalance"] == 1
    other = rig.connect()
    assert b"Connection: close" not in rig.exchange(GET, other)
    let_go(rig.service)
    keep(rig.service)
    assert b"Connection: close" not in rig.exchange(GET, other)


def test_a_client_that_leaves_by_itself_is_not_one_let_go(make_rig: MakeRig) -> None:
    rig = make_rig(hello)
    let_go(rig.service)
    rig.exchange(GET_CLOSE)
    assert rig.closed() == {"client": 1}
    assert b"Connection: close" in rig.exchange(GET), "the next one is"
    assert rig.closed()["rebalance"] == 1


def test_without_keep_alive_there_is_nothing_to_let_go(make_rig: MakeRig) -> None:
    rig = make_rig(hello, keepalive=0.0)
    let_go(rig.service)
    keep(rig.service)
    rig.exchange(GET)
    assert rig.closed()["client"] == 1


def test_what_was_pipelined_is_answered_before_a_connection_goes(make_rig: MakeRig) -> None:
    """All that has come is; the last answer says that nothing more will."""
    rig = make_rig(hello)
    client = rig.connect()
    let_go(rig.service)
    got = rig.exchange(GET * 3, client)

    assert got.count(b"HTTP/1.1 200 ") == 3
    assert got.count(b"\r\nConnection: close\r\n") == 1
    assert b"Connection: close" in got.rpartition(b"HTTP/1.1 200")[2]
    assert at_end(client)
    assert rig.closed() == {"rebalance": 1}
