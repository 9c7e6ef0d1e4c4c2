"""Fixtures for the tests of the WSGI side."""

from __future__ import annotations

import pytest

from tests.unit.wsgi.talk import Talk


@pytest.fixture
def talk() -> Talk:
    """Answer a GET of HTTP/1.1 on a connection that is kept."""
    return Talk()
