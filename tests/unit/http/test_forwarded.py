"""What proxies say of a request's way: RFC 7239 and X-Forwarded-For."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gthreadsrv.http.forwarded import HOPS_MAX, Hop, forwarded_for_hops, forwarded_hops, node


@pytest.mark.parametrize(
    ("text", "hops"),
    [
        # RFC 7239 section 4's examples.
        ('for="_gazonk"', [Hop("_gazonk")]),
        ('For="[2001:db8:cafe::17]:4711"', [Hop("[2001:db8:cafe::17]:4711")]),
        ("for=192.0.2.60;proto=http;by=203.0.113.43", [Hop("192.0.2.60", "http")]),
        ("for=192.0.2.43, for=198.51.100.17", [Hop("192.0.2.43"), Hop("198.51.100.17")]),
        ("by=203.0.113.43;host=a.test;proto=HTTPS", [Hop("", "https")]),
        ("for=unknown,proto=https", [Hop("unknown"), Hop("", "https")]),
        ('for="a\\"b\\\\c,d;e"', [Hop('a"b\\c,d;e')]),
        ('for="";proto=""', [Hop("")]),
        # What proxies write though the grammar wants quotes, or no blanks.
        ("for=192.0.2.1:80;proto=https", [Hop("192.0.2.1:80", "https")]),
        ("for=[2001:db8::1]:80", [Hop("[2001:db8::1]:80")]),
        ("for=192.0.2.1; proto=https ;by=_x", [Hop("192.0.2.1", "https")]),
        # Lists with holes (RFC 9110 5.6.1) and elements that end in a semicolon.
        (",, for=1.1.1.1 ,\t,for=2.2.2.2;,", [Hop("1.1.1.1"), Hop("2.2.2.2")]),
        ("", []),
        (" , ", []),
        ("ext=1;for=1.1.1.1", [Hop("1.1.1.1")]),
    ],
)
def test_forwarded_is_read_into_hops(text: str, hops: list[Hop]) -> None:
    """In the order of the way, the nearest last."""
    assert forwarded_hops(text) == hops


@pytest.mark.parametrize(
    "text",
    [
        "for", "for=", "=1.1.1.1", "for 1.1.1.1", "for= 1.1.1.1", 'for="1.1.1.1', 'for="a"b',
        "for=1.1.1.1 for=2.2.2.2", "for=1.1.1.1;for=2.2.2.2", "for=a;FOR=b", "for=\xe9",
        "for=1.1.1.1;;=", "for==", 'for="\\', "for=1.1.1.1, x",
    ],
)  # fmt: skip
def test_what_is_no_forwarded_field_is_told_apart(text: str) -> None:
    """Also when a hop before or behind it is well-formed: nobody knows who wrote what."""
    assert forwarded_hops(text) is None
    if text not in ('for="1.1.1.1', 'for="\\'):
        assert forwarded_hops(f"for=9.9.9.9, {text}, for=8.8.8.8") is None
    else:
        # An open quote swallows what a proxy appends.
        assert forwarded_hops(f"{text}, for=8.8.8.8") is None


def test_x_forwarded_for_is_a_plain_list() -> None:
    """Blanks around an entry are not the entry's."""
    assert forwarded_for_hops("1.1.1.1,\t2001:db8::1 ,unknown") == [
        Hop("1.1.1.1"), Hop("2001:db8::1"), Hop("unknown")
    ]  # fmt: skip
    assert forwarded_for_hops("") == [Hop("")]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("192.0.2.1", ("192.0.2.1", "")),
        ("192.0.2.1:80", ("192.0.2.1", "80")),
        ("192.0.2.1:_hidden", ("192.0.2.1", "")),
        ("192.0.2.1:99999", ("192.0.2.1", "")),
        ("[2001:DB8::1]", ("2001:db8::1", "")),
        ("[2001:db8::1]:443", ("2001:db8::1", "443")),
        ("2001:db8::1", ("2001:db8::1", "")),
        ("[::ffff:192.0.2.1]", ("192.0.2.1", "")),
        ("unknown", None),
        ("_gazonk", None),
        ("", None),
        ("192.0.2", None),
        ("192.0.2.256", None),
        ("192.0.2.01", None),
        ("192.0.2.1:", None),
        ("192.0.2.1:+1", None),
        ("[192.0.2.1]", None),
        ("[2001:db8::1", None),
        ("fe80::1%eth0", None),
        ("[::1]x", None),
        ("1:2", None),
        ("a.test", None),
        ("192.0.2.1\n", None),
    ],
)
def test_a_node_is_an_address_or_hidden(text: str, found: tuple[str, str] | None) -> None:
    """RFC 7239 section 6, and the bare IPv6 address of X-Forwarded-For."""
    assert node(text) == found


@given(st.text(st.characters(max_codepoint=255), max_size=60))
def test_no_text_breaks_the_readers(text: str) -> None:
    """A client may write anything into these fields."""
    for hop in [*(forwarded_hops(text) or []), *forwarded_for_hops(text)]:
        node(hop.client)


VALUE = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=20)


@given(st.lists(st.tuples(VALUE, st.sampled_from(["", "http", "https"])), min_size=1, max_size=10))
def test_what_is_quoted_comes_back(hops: list[tuple[str, str]]) -> None:
    """Commas, semicolons, quotes and backslashes included."""

    def quoted(text: str) -> str:
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

    field = ",".join(f"for={quoted(client)};proto={quoted(scheme)}" for client, scheme in hops)
    assert forwarded_hops(field) == [Hop(*hop) for hop in hops]


def test_what_a_client_puts_before_the_hops_costs_no_more_than_so_many() -> None:
    """A head has room for tens of thousands; the proxies' own words are the last."""
    hops = forwarded_for_hops("x," * 30_000 + "192.0.2.1, 10.0.0.1")
    assert len(hops) == HOPS_MAX
    assert [hop.client for hop in hops[-3:]] == ["x", "192.0.2.1", "10.0.0.1"]
    assert forwarded_hops("," * 30_000 + "for=192.0.2.1") is None
    assert forwarded_hops("," * 100 + "for=192.0.2.1") == [Hop("192.0.2.1")]
