"""The request a thread is serving, where the application's log lines find it.

structlog's `merge_contextvars` picks up every context variable whose name begins with
`structlog_`. Here the two variables it would make for `request_id` and `traceparent` are
made once through its public functions and then set directly: two sets of a context
variable are a tenth of the price of `bind_contextvars`, and this runs for every request.
Each thread has its own context, so there is nothing to lock.
"""

from __future__ import annotations

import contextvars
import itertools
import os
import re
from typing import Any

from structlog.contextvars import bind_contextvars, unbind_contextvars

# Long enough for any scheme in use (UUIDs, W3C, AWS), nothing that needs escaping anywhere.
_SAFE_ID = re.compile(r"[A-Za-z0-9._~:/+=@-]{1,128}")

# W3C Trace Context 2, section 3.2: version ff is not one, ids of zeros are none, version 00
# ends after its flags, and what later versions append after a dash is let through.
_BODY = "(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
_TRACEPARENT = re.compile(f"00-{_BODY}|(?!00|ff)[0-9a-f]{{2}}-{_BODY}(?:-[!-~]{{1,64}})?")

# One of several pairs, separated by semicolons; the version is 1.
_AMAZON_ROOT = re.compile(r"(?:^|;) ?Root=1-(?!0{8}-0{24})([0-9a-f]{8})-([0-9a-f]{24})(?=;|$)")
_AMAZON_MAX = 256


def _structlog_variable(name: str) -> tuple[contextvars.ContextVar[Any], object]:
    """Find structlog's own variable for `name`, and the value that it takes for unset."""

    def make() -> tuple[contextvars.ContextVar[Any], object]:
        bind_contextvars(**{name: ""})
        unbind_contextvars(name)
        (found,) = contextvars.copy_context().items()
        return found

    return contextvars.Context().run(make)


_request_id, _UNSET = _structlog_variable("request_id")
_traceparent, _ = _structlog_variable("traceparent")
_bind_id = _request_id.set
_bind_trace = _traceparent.set


class _Ids:
    """Request ids of this process: a random part, and a count that no two threads share."""

    __slots__ = ("count", "prefix")

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        self.prefix = f"{os.urandom(6).hex()}-"
        # next() on a count is one step for the interpreter: no two threads get the same.
        self.count = itertools.count(1)


_ids = _Ids()
# A forked worker must not go on with its parent's ids.
os.register_at_fork(after_in_child=_ids.renew)


def bind_request(
    request_id: str | None, traceparent: str | None, amazon: str | None = None
) -> tuple[str, str]:
    """Bind a request to this thread: the ids it came with where well-formed, else an id of ours.

    Arguments are the X-Request-Id, traceparent and X-Amzn-Trace-Id fields. Returns the request
    id in force and the trace id, which is empty where neither of the last two has one.
    """
    if request_id is None or _SAFE_ID.fullmatch(request_id) is None:
        request_id = f"{_ids.prefix}{next(_ids.count)}"
    _bind_id(request_id)
    trace_id = "" if traceparent is None else parse_traceparent(traceparent)
    _bind_trace(traceparent if trace_id else _UNSET)
    if amazon is not None and not trace_id:
        trace_id = parse_amazon(amazon)
    return request_id, trace_id


def bind_traceparent(traceparent: str) -> None:
    """Bind another traceparent, a valid one, to this thread's request."""
    _bind_trace(traceparent)


def bind_new() -> str:
    """Bind a request that came without either field; returns its id."""
    # What the request before has bound is gone: see `clear`.
    request_id = f"{_ids.prefix}{next(_ids.count)}"
    _bind_id(request_id)
    return request_id


def parse_traceparent(text: str) -> str:
    """The trace id of a W3C traceparent field, or empty when it is not one."""
    match = _TRACEPARENT.fullmatch(text)
    return "" if match is None else match[1] or match[2]


def parse_amazon(text: str) -> str:
    """The trace id in an AWS load balancer's X-Amzn-Trace-Id, or empty when there is none.

    Root=1-67891233-abcdef012345678912345678 is the W3C id
    67891233abcdef012345678912345678: what X-Ray itself makes of it.
    """
    match = _AMAZON_ROOT.search(text[:_AMAZON_MAX])
    return "" if match is None else match[1] + match[2]


def is_sampled(traceparent: str) -> bool:
    """Whether a valid traceparent's trace is recorded (section 3.2.2.5: the lowest flag)."""
    return int(traceparent[53:55], 16) & 1 == 1


def clear() -> None:
    """Unbind the request from this thread."""
    _bind_id(_UNSET)
    _bind_trace(_UNSET)
