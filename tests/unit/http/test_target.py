"""Authorities, and the forms of a request target."""

from __future__ import annotations

import pytest

from gthreadsrv.http import BadRequestError
from gthreadsrv.http.target import is_authority, split_target


@pytest.mark.parametrize(
    ("method", "target", "parts"),
    [
        ("GET", "/", ("/", "", None)),
        ("GET", "/a?b?c", ("/a", "b?c", None)),
        ("OPTIONS", "*", ("*", "", None)),
        ("OPTIONS", "/*", ("/*", "", None)),
        ("GET", "http://h", ("/", "", b"h")),
        ("GET", "http://h/", ("/", "", b"h")),
        ("GET", "HTTP://h:1/a/b?c/d", ("/a/b", "c/d", b"h:1")),
        ("GET", "https://h?a/b", ("/", "a/b", b"h")),
        ("GET", "http://[::1]/x", ("/x", "", b"[::1]")),
    ],
)
def test_target_is_split(method: str, target: str, parts: tuple[str, str, bytes | None]) -> None:
    """Each form gives a path that is not empty, a query, and an authority if it has one."""
    assert split_target(method, target) == parts


@pytest.mark.parametrize(
    "target",
    ["", "?", "a", "h:80", "*", "http:/h/", "http:", "://h/", "ws://h/", "http://", "http:///a"],
)
def test_target_of_no_form_is_refused(target: str) -> None:
    """A GET has no other forms than a path and a URI with a host."""
    with pytest.raises(BadRequestError):
        split_target("GET", target)


@pytest.mark.parametrize(
    "value", [b"h", b"h:", b"h:0", b"h:65535", b"a.b-c_d~e", b"%41", b"[::]:1", b"[1::2.3.4.5]"]
)
def test_authority(value: bytes) -> None:
    """Names, addresses and ports as RFC 3986 writes them."""
    assert is_authority(value)


@pytest.mark.parametrize(
    "value",
    [
        *[b"", b":", b":1", b"h:65536", b"h:000080", b"h:1:2", b"h:-1", b"a,b", b"u@h", b"a b"],
        *[b"[]", b"[:]", b"[::1", b"::1]", b"[::1]x", b"[::1]]", b"[::1%25lo]", b"[1.2.3.4]"],
        *[
            b"[:::]",
            b"[1:2:3:4:5:6:7:8:9]",
            b"[12345::]",
            b"%4",
            b"%zz",
            b"h\x00",
            b"h\n",
            b"h\xff",
        ],
    ],
)
def test_no_authority(value: bytes) -> None:
    """Anything else could name one host to one reader and another to the next."""
    assert not is_authority(value)
