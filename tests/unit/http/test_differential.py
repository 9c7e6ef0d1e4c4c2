"""Two parsers, one reading: the same bytes mean the same however they are read and cut.

`tests/fuzz/differential.py` does the same with as many streams as there is time for.
"""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.conversation import converse
from tests.fuzz.differential import GENEROUS, GROWTH_LIMIT_KB, Flatness, Readers, check_batch
from tests.fuzz.streams import cut, make_stream

pytest.importorskip("httptools")

READERS = Readers()


def test_thousands_of_streams_are_read_alike() -> None:
    """Requests, bodies, ends of messages and refusals agree; streams are not all refused."""
    batch = check_batch((20, 0, 3000))
    outcomes = batch.outcomes

    assert batch.faults == []
    kinds = {outcome.partition(",")[0] for outcome in outcomes}
    assert kinds >= {f"refused {status}" for status in (400, 413, 417, 431, 501, 505)}
    assert sum(count for outcome, count in outcomes.items() if "end" in outcome) > 600


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.randoms(use_true_random=False))
def test_the_smallest_disagreement_is_found(rng: Random) -> None:
    """The same, drawn by hypothesis, which would shrink a fault to its core."""
    fault, _ = READERS.disagreement(rng)
    assert fault is None, fault


@settings(max_examples=500, deadline=None)
@given(
    stream=st.binary(max_size=60)
    | st.lists(
        st.sampled_from(
            [
                b"GET ",
                b"/",
                b" HTTP/1.1",
                b"\r\n",
                b"\n",
                b"\r",
                b"Host: h",
                b":",
                b" ",
                b"\x00",
                b"5",
            ]
        ),
        max_size=20,
    ).map(b"".join),
    seed=st.integers(0, 1000),
)
def test_any_bytes_at_all(stream: bytes, seed: int) -> None:
    """Nothing but a request, a refusal or more to come is made of whatever a client sends."""
    pieces = cut(Random(seed), stream)
    whole = [converse(parser, GENEROUS, [stream]) for parser in READERS.generous]
    assert whole[0] == whole[1]
    assert converse(READERS.generous[1], GENEROUS, pieces) == whole[0]


def test_streams_are_named_by_their_seed() -> None:
    """A disagreement that was found can be found again."""
    assert make_stream(Random("1:7")) == make_stream(Random("1:7"))
    assert make_stream(Random("1:7")) != make_stream(Random("1:8"))


def test_cuts_lose_nothing() -> None:
    """The pieces are the stream, and none is empty."""
    for number in range(200):
        rng = Random(number)
        stream = make_stream(rng)
        pieces = cut(rng, stream)
        assert b"".join(pieces) == stream
        assert all(pieces)


def test_a_process_that_grows_is_noticed() -> None:
    """From when it is warm on; what it takes before is its own affair."""
    flat, growing = Flatness(), Flatness()
    for number in range(20):
        flat.note(1, 10_000 + min(number, 5) * 4000)
        growing.note(1, 10_000)
        growing.note(2, 10_000 + number * 1000)

    assert flat.grown_kb() == 0
    assert growing.grown_kb() > GROWTH_LIMIT_KB
    assert growing.largest_kb() == 29_000
