"""The line from worker to master: whole messages, no blocking, and each other's death."""

from __future__ import annotations

import select
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gthreadsrv.worker.channel import (
    BootFailed,
    Garbled,
    MasterChannel,
    Message,
    RetireRequested,
    WorkerChannel,
    WorkerReady,
    open_channel,
)

Ends = tuple[MasterChannel, WorkerChannel]


@pytest.fixture
def ends() -> Iterator[Ends]:
    """Both ends of a line."""
    master, worker = open_channel()
    yield master, worker
    master.close()
    worker.close()


def readable(end: MasterChannel | WorkerChannel) -> bool:
    """Whether a poller would report it."""
    poll = select.poll()
    poll.register(end, select.POLLIN)
    return bool(poll.poll(0))


MESSAGES = st.one_of(
    st.builds(WorkerReady),
    st.builds(BootFailed, st.text(max_size=200), st.text(max_size=200)),
    st.sampled_from(["max_requests", "max_lifetime", "max_rss", "request_timeout"]).map(
        RetireRequested
    ),
)


@given(st.lists(MESSAGES, max_size=8))
def test_messages_arrive_as_they_were_sent(messages: list[Message]) -> None:
    """Any messages with any text arrive whole and in order."""
    master, worker = open_channel()
    try:
        for message in messages:
            assert worker.send(message)
        assert master.receive() == messages
        assert not master.ended
    finally:
        master.close()
        worker.close()


def test_nothing_said_is_nothing_received(ends: Ends) -> None:
    """Receiving never blocks."""
    master, _ = ends
    assert master.receive() == []
    assert not readable(master)


def test_last_words_are_heard_before_the_end(ends: Ends) -> None:
    """What a worker said before it died is still received, together with the end."""
    master, worker = ends
    worker.send(BootFailed("no module", "Traceback ..."))
    worker.close()
    assert master.receive() == [BootFailed("no module", "Traceback ...")]
    assert master.ended
    assert master.receive() == []


def test_the_masters_death_is_noticed(ends: Ends) -> None:
    """The worker's end becomes readable when the master is gone, and only then."""
    master, worker = ends
    assert not worker.master_gone()
    assert not readable(worker)
    master.close()
    assert readable(worker)
    assert worker.master_gone()


def test_a_report_to_nobody_is_no_error(ends: Ends) -> None:
    """A worker whose master is gone may go on reporting."""
    master, worker = ends
    master.close()
    assert worker.send(WorkerReady()) is False


def test_a_master_that_does_not_read_blocks_nobody(ends: Ends) -> None:
    """A full line is told by the result, at once."""
    _, worker = ends
    for _ in range(10_000):
        if not worker.send(BootFailed("x" * 8000)):
            break
    else:
        pytest.fail("the line never filled up")


def test_long_texts_keep_their_end(ends: Ends) -> None:
    """A huge traceback is cut, at its beginning: the error is in the last lines."""
    master, worker = ends
    worker.send(BootFailed("\N{GRINNING FACE}" * 9000, "x" * 1_000_000 + "ValueError: this"))
    [message] = master.receive()
    assert isinstance(message, BootFailed)
    assert message.traceback.endswith("ValueError: this")
    assert len(message.detail) == len(message.traceback) == 8000


def test_threads_may_report_side_by_side(ends: Ends) -> None:
    """Messages from many threads are never mixed up."""
    master, worker = ends
    message = BootFailed("x" * 1000)
    threads = [
        threading.Thread(target=lambda: [worker.send(message) for _ in range(20)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    received: list[Message] = []
    while any(thread.is_alive() for thread in threads):
        received += master.receive()
    received += master.receive()
    assert received == [message] * 80


@pytest.mark.parametrize(
    "frame",
    [
        b"oops", b"\xff\xfe", b"[]", b"{}", b"null", b'["WorkerReady"]', b'["WorkerReady", 1]',
        b'["WorkerReady", {"more": "1"}]', b'[["WorkerReady"], {}]', b'["Nobody", {}]',
        b'["BootFailed", {"detail": 1}]', b'["RetireRequested", {"reason": "hate"}]',
        b'["CodeChanged", {}]', b"[" * 100_000,
    ],
)  # fmt: skip
def test_what_is_no_message_is_told_and_skipped(ends: Ends, frame: bytes) -> None:
    """An application may write to any descriptor of its process; the master must outlive that."""
    master, worker = ends
    worker.send(WorkerReady())
    worker._sock.sendall(frame)
    worker.send(RetireRequested("max_rss"))

    assert master.receive() == [WorkerReady(), RetireRequested("max_rss"), Garbled()]
    assert not master.ended


def test_a_worker_that_writes_without_end_costs_neither_time_nor_memory(ends: Ends) -> None:
    """The master looks at so much of it at a time, and keeps none of it."""
    master, worker = ends
    done = threading.Event()

    def write() -> None:
        while not done.is_set():
            select.select([], [worker], [], 0.1)
            try:
                worker._sock.send(b"x" * 65_536)
            except BlockingIOError:
                continue

    writer = threading.Thread(target=write)
    writer.start()
    try:
        while Garbled() not in master.receive():
            pass
        for _ in range(20):
            assert master.receive() == []
            assert len(master._buffer) <= 2 * 1024 * 1024
    finally:
        done.set()
        writer.join()
