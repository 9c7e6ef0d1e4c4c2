"""X-Request-Start in the forms that proxies write."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gthreadsrv.worker.request_start import seconds_since

NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    "text",
    [
        "t=1699999999.500", "1699999999.5", "t=1699999999500", "1699999999500",
        "t=1699999999500000", "1699999999500000000", "  t=1699999999.500 ",
    ],
)  # fmt: skip
def test_every_unit_is_understood(text: str) -> None:
    """Seconds, milli-, micro- and nanoseconds, with or without t=."""
    assert seconds_since(text, NOW) == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize(
    "text",
    [
        "", "t=", "now", "-1699999999", "169999999", "16999999995", "t=t=1699999999",
        "1699990000", "1700009999", "1699999999.5.5", "1e9", "NaN", "inf", "٣٣٣٣٣٣٣٣٣٣",
        "9" * 19, "1699999999;drop",
    ],
)  # fmt: skip
def test_what_cannot_be_believed_is_nothing(text: str) -> None:
    """Neither other texts nor instants an hour away."""
    assert seconds_since(text, NOW) is None


def test_a_proxy_whose_clock_is_ahead_waited_for_nothing() -> None:
    """A negative queue time is no queue time."""
    assert seconds_since("t=1700000001.000", NOW) == 0.0


@given(st.text(max_size=40), st.floats(0, 4e9))
def test_any_text_is_survived(text: str, now: float) -> None:
    """A field is a client's: nothing in it raises, and no answer is negative."""
    seconds = seconds_since(text, now)
    assert seconds is None or seconds >= 0.0
