"""How large a request may be; one immutable value made from the settings at worker start.

Every buffer in this package is bounded by a number from here, so the memory one connection
can hold is a sum of these and nothing else. No defaults live here: they belong to the
settings table.
"""

from __future__ import annotations

from dataclasses import dataclass, field

# A head may hold many fields or a few large ones, but not all fields at their largest: with
# the default limits that would be 827 KB for every connection that sends slowly.
HEAD_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds in bytes, line ends not counted; `fields` is a count; `body` 0 is unlimited."""

    line: int
    fields: int
    field_size: int
    body: int
    head: int = field(init=False)  # the whole head, line ends counted
    plain_head: int = field(init=False)  # a head no longer than this breaks no size limit

    def __post_init__(self) -> None:
        for name in ("line", "fields", "field_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1: an unlimited head is not offered")
        if self.body < 0:
            raise ValueError("body must not be negative; 0 is unlimited")
        # A user who raises one field's limit means such a field to fit.
        room_for_fields = max(HEAD_BYTES, 2 * self.field_size)
        object.__setattr__(self, "head", self.line + room_for_fields)
        object.__setattr__(self, "plain_head", min(self.line, self.field_size))
