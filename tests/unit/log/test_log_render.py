"""One event, one line: JSON that parses, and a console nobody can forge."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gthreadsrv.log.render import SecondCache, console_renderer, iso_time, render_json

plain = console_renderer(colours=False)

VALUES = st.one_of(st.text(), st.integers(), st.floats(), st.none(), st.booleans(), st.binary(),
                   st.lists(st.text(max_size=5), max_size=3))  # fmt: skip
FIELDS = st.dictionaries(st.from_regex(r"[a-z_]{1,8}", fullmatch=True), VALUES, max_size=6)


@pytest.mark.parametrize(
    ("now", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (1764000000.9996, "2025-11-24T16:00:00.999Z"),
        (1764000001.25, "2025-11-24T16:00:01.250Z"),
        (1764000000.0, "2025-11-24T16:00:00.000Z"),
    ],
)
def test_times_are_utc_to_the_millisecond(now: float, text: str) -> None:
    """RFC 3339, also when the clock goes back."""
    assert iso_time(now) == text


def test_a_time_is_formatted_once_a_second() -> None:
    """The costly part is kept for all lines of the same second."""
    asked: list[int] = []
    cache = SecondCache(lambda second: asked.append(second) or str(second))
    assert [cache.text(s) for s in (5, 5, 6, 6, 5)] == ["5", "5", "6", "6", "5"]
    assert asked == [5, 6, 5]


def test_a_json_line_starts_with_time_level_and_event() -> None:
    """People read logs raw, too; a field of the same name does not replace them."""
    line = render_json(0.0, "info", {"slot": 1, "event": "booted", "time": "x", "level": "y"})
    assert line == (
        b'{"time": "1970-01-01T00:00:00.000Z", "level": "info", "event": "booted", "slot": 1}\n'
    )


@given(FIELDS)
def test_any_fields_make_one_json_line(fields: dict[str, object]) -> None:
    """Bytes, NaN, lone surrogates: nothing raises and nothing breaks the line."""
    line = render_json(1.0, "error", {"event": "e", **fields})
    assert line.count(b"\n") == 1

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    found = json.loads(line, parse_constant=refuse)
    assert set(found) == {"time", "level", "event", *fields}
    assert found["level"] == "error"


def test_what_json_cannot_hold_is_written_as_its_repr() -> None:
    """Also where a circle or a key that is no text would make json raise."""
    circle: list[object] = []
    circle.append(circle)
    assert json.loads(render_json(0, "info", {"event": "e", "x": {1}}))["x"] == "{1}"
    assert json.loads(render_json(0, "info", {"event": "e", "x": circle}))["x"] == "[[...]]"
    assert json.loads(render_json(0, "info", {"event": "e", "x": {(1,): 2}}))["x"] == "{(1,): 2}"


def test_a_console_line_reads_time_level_event_fields() -> None:
    """Values are bare where that is unambiguous, quoted elsewhere."""
    line = plain(1764000000.5, "info", {"event": "worker ready", "slot": 1, "a": "x y", "b": ""})
    assert re.fullmatch(
        rb'[-\d]{10} [:\d]{8}\.500 info     worker ready slot=1 a="x y" b=""\n', line
    )


def test_colours_are_for_terminals() -> None:
    """The same text between the escapes."""
    event = {"event": "hot", "slot": 1}
    coloured = console_renderer(colours=True)(1.0, "error", event)
    assert b"\x1b[31m" in coloured
    assert re.sub(rb"\x1b\[[\d;]*m", b"", coloured) == plain(1.0, "error", event)


@given(FIELDS, st.text(), st.text())
def test_no_field_forges_a_console_line(fields: dict[str, object], event: str, trace: str) -> None:
    """One line at the margin, tracebacks indented, no control characters at all."""
    fields = {**fields, "event": event, "exception": trace}
    lines = plain(1.0, "info", fields).decode().split("\n")
    assert lines.pop() == ""
    assert not lines[0].startswith(" ")
    assert all(line.startswith("    ") for line in lines[1:])
    assert len(lines) == 1 + (trace.count("\n") + 1 if trace else 0)
    assert all(c.isprintable() or c == "\t" for line in lines for c in line)
