"""Every refusal knows its answer and its label."""

from __future__ import annotations

import pytest

from gthreadsrv.http import (
    BadRequestError,
    BodyTooLargeError,
    HeadTooLargeError,
    ProtocolError,
    ReadTimeoutError,
)


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (BadRequestError("x"), 400, "bad_request"),
        (BadRequestError("x", 501), 501, "bad_request"),
        (HeadTooLargeError("x"), 431, "headers_too_large"),
        (HeadTooLargeError("x", 414), 414, "headers_too_large"),
        (BodyTooLargeError("x"), 413, "body_too_large"),
        (ReadTimeoutError("x"), 408, "read_timeout"),
    ],
)
def test_status_and_label(error: ProtocolError, status: int, reason: str) -> None:
    """The label is one of those that request_errors_total is exported with."""
    assert (error.status, error.reason, error.detail, str(error)) == (status, reason, "x", "x")
