"""Flask over real sockets, by requests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.system.conftest import Combination
from tests.system.harness import APPS, Server, wait_until

pytestmark = pytest.mark.greenlets("gevent", "eventlet")


@pytest.fixture(scope="module")
def site(combination: Combination) -> Iterator[Server]:
    """One server for the module, per parser and kind of socket."""
    with combination.server("flask_app:app", allow_errors=True) as server:
        yield server


@pytest.fixture
def client(site: Server) -> Iterator[requests.Session]:
    """A client with cookies."""
    with site.session() as session:
        yield session


def test_page_with_query(client: requests.Session) -> None:
    """Unicode in the query reaches the view."""
    assert client.get("http://server/", params={"name": "Zoë & co"}).text == "Hello, Zoë & co!"


def test_forms_and_uploads(client: requests.Session) -> None:
    """URL-encoded and multipart forms, with small and large files."""
    plain = client.post("http://server/form", data={"a": ["1", "2"], "b": "ü"}).json()
    sizes = {"small": 10, "large": 2_000_000}
    files = {name: (f"{name}.bin", os.urandom(size)) for name, size in sizes.items()}
    multipart = client.post("http://server/form", data={"c": "3"}, files=files).json()

    assert plain == {"fields": {"a": ["1", "2"], "b": ["ü"]}, "files": {}}
    assert multipart == {"fields": {"c": ["3"]}, "files": sizes}


def test_json(client: requests.Session) -> None:
    """JSON goes both ways."""
    value = {"list": [1, 2.5, None], "text": "é"}

    assert client.post("http://server/json", json=value).json() == value


def test_chunked_upload(client: requests.Session) -> None:
    """A body without a length is read whole, as wsgi.input_terminated promises."""

    def pieces() -> Iterator[bytes]:
        for _ in range(50):
            yield b"x" * 7001

    assert client.post("http://server/raw", data=pieces()).json()["size"] == 50 * 7001


def test_session_cookie(client: requests.Session) -> None:
    """Cookies come back."""
    for visits in (1, 2, 3):
        assert client.get("http://server/count").json() == {"visits": visits}


def test_stream(client: requests.Session) -> None:
    """A stream keeps its request context to the end."""
    answer = client.get("http://server/stream", params={"word": "line"}, stream=True)

    assert answer.headers["Transfer-Encoding"] == "chunked"
    assert list(answer.iter_lines()) == [b"line %d" % number for number in range(5)]


def test_file_ranges_and_validators(client: requests.Session) -> None:
    """send_file: whole, a part, and 304."""
    source = Path(APPS / "flask_app.py").read_bytes()
    whole = client.get("http://server/source")
    part = client.get("http://server/source", headers={"Range": "bytes=5-24"})
    known = client.get("http://server/source", headers={"If-None-Match": whole.headers["ETag"]})

    assert (whole.status_code, whole.content) == (200, source)
    assert (part.status_code, part.content) == (206, source[5:25])
    assert (known.status_code, known.content) == (304, b"")


def test_error_pages(client: requests.Session, site: Server) -> None:
    """Flask's own error pages are served; it logs its failures itself."""
    assert client.get("http://server/teapot").status_code == 418
    assert client.get("http://server/nothing").status_code == 404
    assert client.get("http://server/broken").status_code == 500
    wait_until(lambda: any("broken view" in line for line in site.noise))
