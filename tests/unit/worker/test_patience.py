"""What the settings' times mean to a worker."""

from __future__ import annotations

from math import inf

from gthreadsrv.settings import Settings
from gthreadsrv.worker.patience import patience_of


def test_zero_is_no_limit() -> None:
    """A head, body or response that may take for ever has no deadline."""
    zero = Settings()._replace(header_timeout=0.0, body_timeout=0.0, write_timeout=0.0)
    patience = patience_of(zero)
    assert (patience.head_s, patience.body_s, patience.write_s) == (inf, inf, inf)


def test_without_keep_alive_a_silent_connection_has_the_time_of_a_head() -> None:
    """A keepalive of 0 ends connections after each response, not before the first request."""
    patience = patience_of(Settings()._replace(keepalive=0.0, header_timeout=7.0))
    assert (patience.keeps_alive, patience.idle_s) == (False, 7.0)


def test_the_defaults_are_taken_as_they_are() -> None:
    """Nothing is rounded or bounded on the way."""
    patience = patience_of(Settings())
    assert (patience.keeps_alive, patience.idle_s, patience.head_s) == (True, 75.0, 10.0)
    assert (patience.body_s, patience.write_s) == (30.0, 60.0)
