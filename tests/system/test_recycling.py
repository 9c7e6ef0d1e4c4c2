"""Workers replaced for their age or their memory, under load that does not notice."""

from __future__ import annotations

from tests.system.conftest import Servers
from tests.system.harness import process_alive, wait_until
from tests.system.test_signals import load


def test_a_worker_that_has_grown_is_replaced(serve: Servers) -> None:
    """The one that holds more than --max-rss, and no other; the reason is counted."""
    server = serve("troubles:app", "--max-rss", "120M", workers=2, metrics=True)
    before = server.wait_workers(2)
    server.wait_ready()
    with load(server, "/sleep?n=0.01") as clients:
        grown = int(server.get("/keep?n=150").text)
        wait_until(lambda: not process_alive(grown), what=server.report())
        server.wait_workers(2)

    assert clients.failures == []
    [line] = server.logged("worker to be replaced")
    assert (line["reason"], line["worker_pid"], line["max_rss"]) == ("max_rss", grown, 120 << 20)
    assert line["memory_bytes"] > 150 << 20
    assert set(before) - set(server.worker_pids()) == {grown}
    assert server.sample("gthreadsrv_worker_exits_total", reason="max_rss") == 1
    assert server.sample("gthreadsrv_worker_spawns_total", reason="recycle") == 1


def test_a_limit_that_no_worker_can_keep_is_warned_about(serve: Servers) -> None:
    """And nobody is replaced, since that would never end."""
    server = serve("troubles:app", "--max-rss", "1M", workers=1)
    workers = server.wait_workers(1)
    [line] = server.wait_log("max_rss too small")
    assert line["memory_bytes"] > 1 << 20
    assert server.wait_workers(1) == workers


def test_workers_are_replaced_at_their_age_one_at_a_time(serve: Servers) -> None:
    """The new one is there before the old one goes, and the next waits until that has gone."""
    server = serve("behaviours:app", "--max-lifetime", "2", workers=2, metrics=True)
    before = server.wait_workers(2)
    server.wait_ready()
    with load(server) as clients:
        server.wait_log("worker left", 2, reason="max_lifetime")
        assert not any(process_alive(pid) for pid in before)

    assert clients.failures == []
    events = [
        line["event"]
        for line in server.lines
        if line["event"] in ("worker to be replaced", "worker left")
    ]
    assert events[:4] == ["worker to be replaced", "worker left"] * 2
    assert server.sample("gthreadsrv_worker_exits_total", reason="max_lifetime") >= 2
