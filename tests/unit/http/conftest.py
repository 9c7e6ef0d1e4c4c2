"""Both parsers for every test that asks for one, with the limits of the default settings."""

from __future__ import annotations

import pytest

from gthreadsrv.http import HeadParser, Limits, make_parser


@pytest.fixture
def limits() -> Limits:
    return Limits(line=8190, fields=100, field_size=8190, body=0)


@pytest.fixture(params=["h11", "httptools"])
def parser(request: pytest.FixtureRequest, limits: Limits) -> HeadParser:
    if request.param == "httptools":
        pytest.importorskip("httptools")
    return make_parser(request.param, limits)
