"""Requests in files, good and bad, and what each must lead to on both parsers.

A file says in its first line what it is about. Lines of JSON follow, one for each request that
is accepted, with the attributes of its head that matter, and `body`. Then how it ends: `end`
(nothing is left), `more` (a message is unfinished) or `refused STATUS`. After `--` come the
bytes, each line with its line end spelt out, other bytes that cannot be seen escaped as Python
does it; a backslash alone at the end of a line joins it to the next.
"""

from __future__ import annotations

import ast
import json
from dataclasses import fields
from pathlib import Path

import pytest

from gthreadsrv.http import HeadParser, Limits, RequestHead
from tests.fuzz.conversation import Event, converse

CORPUS = Path(__file__).parent / "corpus"
CASES = sorted(CORPUS.glob("*/*.txt"))


def load(path: Path) -> tuple[list[dict[str, object]], str, bytes]:
    """The requests and the ending to expect, and the bytes to send."""
    told, _, spelt = path.read_text("ascii").partition("\n--\n")
    _, *requests, ending = told.split("\n")
    literal = spelt.replace("\\\n", "").replace("\n", "").replace("'", "\\'")
    raw = ast.literal_eval(f"b'{literal}'")
    return [json.loads(line) for line in requests], ending, raw


def requests_of(events: list[Event]) -> list[dict[str, object]]:
    """The requests of a conversation as the files write them."""
    names = [field.name for field in fields(RequestHead)]
    found: list[dict[str, object]] = []
    for kind, *values in events:
        if kind == "request":
            request = dict(zip(names, values))
            request["host"] = request["host"].decode("latin-1")
            request["headers"] = [
                [name.decode("latin-1"), value.decode("latin-1")]
                for name, value in request["headers"]
            ]
            found.append(request)
        elif kind == "body":
            found[-1]["body"] = values[0].decode("latin-1")
    return found


@pytest.mark.parametrize("path", CASES, ids=lambda path: f"{path.parent.name}/{path.stem}")
@pytest.mark.parametrize("cut", ["whole", "byte by byte"])
def test_corpus(parser: HeadParser, limits: Limits, path: Path, cut: str) -> None:
    """Every file of the corpus leads to just what it says, however its bytes are cut."""
    expected, ending, raw = load(path)
    size = len(raw) if cut == "whole" else 1
    pieces = [raw[start : start + size] for start in range(0, len(raw), size)]

    events = converse(parser, limits, pieces)

    found = requests_of(events)
    accepted = [request for request in found if "body" in request]
    assert [
        {name: request[name] for name in wanted} for wanted, request in zip(expected, accepted)
    ] == expected
    assert len(accepted) == len(expected)
    last = events[-1]
    if ending.startswith("refused"):
        assert last[:2] == ("refused", int(ending.split()[1]))
        assert (last[2] == "headers_too_large") == (last[1] in (414, 431))
    else:
        assert last[0] == "open"
        assert (last[1] == len(raw)) == (ending == "end")


def test_corpus_is_found() -> None:
    """The folder holds what it should: a test over no files would pass for ever."""
    folders = [path.parent.name for path in CASES]
    assert folders.count("good") >= 40
    assert folders.count("bad") >= 120
