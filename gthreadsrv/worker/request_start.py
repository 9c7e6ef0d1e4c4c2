"""X-Request-Start: when a proxy says it got the request, in the forms proxies write it.

nginx sends seconds with a fraction (`t=${msec}`), Heroku milliseconds, Apache httpd
microseconds (`t=%t`); the size of the number tells them apart.
"""

from __future__ import annotations

import re

__all__ = ["seconds_since"]

_NUMBER = re.compile(r"(?:t=)?([0-9]{9,19})(\.[0-9]{1,9})?")

# One instant is these many digits: seconds until the year 2286, then milli- and microseconds.
_DIGITS = {10: 1.0, 13: 1e-3, 16: 1e-6, 19: 1e-9}

_BELIEVABLE_S = 3600.0
"""A request older than an hour is a wrong clock, not a queue."""


def seconds_since(text: str, now: float) -> float | None:
    """Return how long before ``now`` (wall clock, s) the field's instant lies.

    None when the field is not an instant that can be believed.
    """
    match = _NUMBER.fullmatch(text.strip())
    if match is None:
        return None
    unit = _DIGITS.get(len(match[1]))
    if unit is None:
        return None
    age = now - float(match[1] + (match[2] or "")) * unit
    if not -_BELIEVABLE_S < age < _BELIEVABLE_S:
        return None
    # The proxy's clock may run a little ahead of ours.
    return max(0.0, age)
