"""What a trusted proxy's fields do to a request, and what nobody else's do."""

from __future__ import annotations

import io
from typing import Any

import pytest

from gthreadsrv.http.errors import BadRequestError
from gthreadsrv.http.forwarded import node
from gthreadsrv.http.recall import FieldSection
from gthreadsrv.http.request import RequestHead
from gthreadsrv.net.peers import TrustedPeers
from gthreadsrv.wsgi import fields as fields_module
from gthreadsrv.wsgi.environ import ClientEnvironBuilder, EnvironBuilder
from gthreadsrv.wsgi.fields import ClientFinder, FieldTrust, below, mount_of

PEER = ("10.0.0.1", "55555")
HOPS = TrustedPeers(("127.0.0.1", "10.0.0.0/8", "2001:db8:1::/48"))


def builder(**fields: Any) -> EnvironBuilder:
    trust = FieldTrust(**fields)
    about = ("server.test", "8000", True, False, trust)
    if trust.client == "off":
        return EnvironBuilder(*about, hops=HOPS)
    finder = ClientFinder(trust.client, HOPS, prefaced=False)
    return ClientEnvironBuilder(*about, hops=HOPS, finder=finder)


def build(
    *headers: tuple[str, str],
    trusted: bool = True,
    target: str = "/",
    by: EnvironBuilder | None = None,
    peer: tuple[str, str] = PEER,
    kept: bool = False,
    **fields: Any,
) -> dict[str, Any]:
    path, _, query = target.partition("?")
    pairs = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    head = RequestHead("GET", target, 1, pairs, -1, False, True, False, path, query, b"a")
    if kept:
        head.section = FieldSection(head)
    return (by or builder(**fields)).build(head, io.BytesIO(), -1, peer, trusted)


def scheme(*headers: tuple[str, str], **options: Any) -> str:
    found: str = build(*headers, **options)["wsgi.url_scheme"]
    return found


PROTO, SSL = "X-Forwarded-Proto", "X-Forwarded-Ssl"


@pytest.mark.parametrize(
    "headers",
    [
        ((PROTO, "https"), (SSL, "off")),
        ((PROTO, "http"), (SSL, "on")),
        ((PROTO, "https"), (PROTO, "http")),
        ((PROTO, "http"), ("X-Other", "1"), ("x-forwarded-proto", "https")),
        ((PROTO, "https"), ("X-Forwarded-Protocol", "http")),
    ],
)
def test_contradictions_about_the_scheme_are_refused(headers: tuple[tuple[str, str], ...]) -> None:
    """One of the two is a client's, and nobody knows which."""
    with pytest.raises(BadRequestError, match="contradict"):
        scheme(*headers)
    assert scheme(*headers, trusted=False) == "http"


def test_agreement_is_not_a_contradiction() -> None:
    """Proxies send several fields of one meaning."""
    assert scheme((PROTO, "https"), (SSL, "on"), ("X-Forwarded-Protocol", "ssl")) == "https"
    assert scheme((PROTO, "http"), (SSL, "off")) == "http"
    assert scheme((PROTO, "https"), (PROTO, "https")) == "https"


def test_a_list_in_one_field_is_one_value_and_not_https() -> None:
    """As with gunicorn."""
    assert scheme((PROTO, "https,http")) == "http"


def test_the_fields_are_a_setting() -> None:
    """Others than the usual ones, and none."""
    own = {"secure_scheme_headers": (("X-SCHEME", "tls"),)}
    assert scheme(("X-Scheme", "tls"), **own) == "https"
    assert scheme((PROTO, "https"), **own) == "http"
    assert scheme((PROTO, "https"), secure_scheme_headers=()) == "http"


def test_a_twin_with_an_underscore_is_not_the_field() -> None:
    """Not even where such names reach the application."""
    dangerous = {"header_map": "dangerous"}
    assert scheme(("X_Forwarded_Proto", "https"), **dangerous) == "http"
    assert scheme((PROTO, "https"), ("X_Forwarded_Proto", "http"), **dangerous) == "https"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("for=192.0.2.1;proto=https", "https"),
        ("for=192.0.2.1;proto=HTTPS", "https"),
        ("for=192.0.2.1;proto=http", "http"),
        ("proto=https", "https"),
        ("for=192.0.2.1", "http"),
        ("for=192.0.2.1;proto=gopher", "http"),
        # The client's own word, before the proxy's.
        ("for=203.0.113.9;proto=https, for=192.0.2.1;proto=http", "http"),
        # Two trusted proxies: what counts is how the client came to the first.
        ("for=192.0.2.1;proto=https, for=10.0.0.2;proto=http", "https"),
        ("for=unknown;proto=https, for=10.0.0.2;proto=http", "https"),
        ('proto=https;for="', "http"),
    ],
)
def test_forwarded_tells_the_scheme_where_nothing_else_does(value: str, expected: str) -> None:
    """Of the client's connection to the outermost proxy that is trusted."""
    assert scheme(("Forwarded", value)) == expected
    assert scheme(("Forwarded", value), trusted=False) == "http"


def test_forwarded_gives_way_to_the_fields_gunicorn_knows() -> None:
    """Proxies that set those often pass a client's Forwarded on untouched."""
    assert scheme((PROTO, "http"), ("Forwarded", "proto=https")) == "http"
    assert scheme((PROTO, "https"), ("Forwarded", "proto=http")) == "https"


def test_where_forwarded_is_the_proxys_field_nothing_may_contradict_it() -> None:
    """Then it is the other one that may be a client's."""
    ours = {"client": "forwarded"}
    with pytest.raises(BadRequestError, match="contradicts"):
        scheme((PROTO, "https"), ("Forwarded", "for=192.0.2.1;proto=http"), **ours)
    assert scheme((PROTO, "https"), ("Forwarded", "for=192.0.2.1;proto=https"), **ours) == "https"


@pytest.mark.parametrize("name", ["X-Forwarded-For", "Forwarded", "X-Real-Ip"])
def test_remote_addr_is_the_peer_unless_told_otherwise(name: str) -> None:
    """Frameworks that look at these fields themselves start from there."""
    environ = build((name, "for=192.0.2.1" if name == "Forwarded" else "192.0.2.1"))

    assert (environ["REMOTE_ADDR"], environ["REMOTE_PORT"]) == PEER


FROM_XFF = [
    ("192.0.2.1", ("192.0.2.1", "")),
    ("203.0.113.9, 192.0.2.1", ("192.0.2.1", "")),
    ("192.0.2.1, 10.0.0.2", ("192.0.2.1", "")),
    ("203.0.113.9, 192.0.2.1, 10.0.0.2,127.0.0.1", ("192.0.2.1", "")),
    ("2001:db8::1, 2001:db8:1::5", ("2001:db8::1", "")),
    ("[2001:db8::1]:99", ("2001:db8::1", "99")),
    ("192.0.2.1:4711", ("192.0.2.1", "4711")),
    ("10.0.0.9, 10.0.0.2", ("10.0.0.9", "")),
    ("203.0.113.9, unknown", PEER),
    ("203.0.113.9, _hidden, 10.0.0.2", PEER),
    ("203.0.113.9, nonsense", PEER),
    ("203.0.113.9, ", PEER),
    ("", PEER),
]


@pytest.mark.parametrize(("value", "client"), FROM_XFF)
@pytest.mark.parametrize("kept", [False, True])
def test_the_client_is_the_first_from_the_right_that_is_no_proxy(
    value: str, client: tuple[str, str], *, kept: bool
) -> None:
    """What it wrote itself, further left, says nothing; who hides is shown by the peer."""
    by = builder(client="x-forwarded-for")
    for _ in range(2):
        environ = build(("X-Forwarded-For", value), by=by, kept=kept)
        assert (environ["REMOTE_ADDR"], environ["REMOTE_PORT"]) == client
    untrusted = build(("X-Forwarded-For", value), by=by, kept=kept, trusted=False)
    assert (untrusted["REMOTE_ADDR"], untrusted["REMOTE_PORT"]) == PEER
    silent = build(by=by, kept=kept)
    assert (silent["REMOTE_ADDR"], silent["REMOTE_PORT"]) == PEER


def test_several_lines_are_one_list() -> None:
    """RFC 9110 5.3: a proxy may append a line of its own."""
    environ = build(
        ("X-Forwarded-For", "203.0.113.9"), ("X-Forwarded-For", "192.0.2.1"),
        client="x-forwarded-for",
    )  # fmt: skip

    assert environ["REMOTE_ADDR"] == "192.0.2.1"


@pytest.mark.parametrize(
    ("value", "client"),
    [
        ('for="[2001:db8::1]:99"', ("2001:db8::1", "99")),
        ("for=203.0.113.9, for=192.0.2.1;proto=https, for=10.0.0.2", ("192.0.2.1", "")),
        ("for=203.0.113.9, for=_hidden", PEER),
        ("for=203.0.113.9, for=unknown", PEER),
        ("for=203.0.113.9, proto=https", PEER),
    ],
)
def test_the_client_from_forwarded(value: str, client: tuple[str, str]) -> None:
    """X-Forwarded-For beside it is not asked."""
    environ = build(("Forwarded", value), ("X-Forwarded-For", "198.51.100.7"), client="forwarded")

    assert (environ["REMOTE_ADDR"], environ["REMOTE_PORT"]) == client


def test_a_client_cannot_hide_behind_an_open_quote() -> None:
    """A proxy that appends to what came would have its own word swallowed."""
    field = ("Forwarded", 'for="203.0.113.9, for=192.0.2.1')
    with pytest.raises(BadRequestError, match="malformed"):
        build(field, client="forwarded")
    assert build(field, client="forwarded", trusted=False)["REMOTE_ADDR"] == PEER[0]


def test_everyone_trusted_means_the_nearest_word_counts() -> None:
    """With `*` no address on the way is known to be a proxy's."""
    everyone = TrustedPeers(("*",))
    finder = ClientFinder("x-forwarded-for", everyone, prefaced=False)

    assert finder.find("203.0.113.9, 10.0.0.2", PEER) == ("10.0.0.2", "")


def test_remembered_fields_are_bounded() -> None:
    """Each client has an address of its own."""
    finder = ClientFinder("x-forwarded-for", HOPS, prefaced=False)
    for number in range(3000):
        address = f"192.0.{number // 256}.{number % 256}"
        assert finder.find(address, PEER) == (address, "")

    assert len(finder._known) <= 1024


def test_long_fields_are_not_remembered() -> None:
    """A thousand of them would be as many heads."""
    finder = ClientFinder("x-forwarded-for", HOPS, prefaced=False)
    for number in range(20):
        text = f"203.0.113.{number}, " * 100 + "192.0.2.1"
        assert finder.find(text, PEER) == ("192.0.2.1", "")

    assert sum(map(len, finder._known)) <= 1024


@pytest.mark.parametrize("field", ["x-forwarded-for", "forwarded"])
def test_a_way_of_proxies_without_end_is_not_walked(
    monkeypatch: pytest.MonkeyPatch, field: str
) -> None:
    """What a client has put before the proxies' own words costs nothing that grows with it."""
    asked: list[str] = []
    monkeypatch.setattr(fields_module, "node", lambda text: asked.append(text) or node(text))
    finder = ClientFinder(field, HOPS, prefaced=False)
    word = "for=10.0.0.9" if field == "forwarded" else "10.0.0.9"
    assert finder.find(",".join([word] * 250), PEER) == ("10.0.0.9", "")
    assert len(asked) <= 100


@pytest.mark.parametrize(
    ("name", "target", "script", "path"),
    [
        ("/shop", "/shop/a%20b?q", "/shop", "/a b"),
        ("/shop/", "/shop/a", "/shop", "/a"),
        ("/shop", "/shop", "/shop", ""),
        ("/", "/shop", "", "/shop"),
        ("", "/shop", "", "/shop"),
    ],
)
@pytest.mark.parametrize("kept", [False, True])
def test_a_trusted_proxy_says_where_the_application_is_mounted(
    name: str, target: str, script: str, path: str, *, kept: bool
) -> None:
    """SCRIPT_NAME comes off the path, as with gunicorn."""
    environ = build(("SCRIPT_NAME", name), target=target, kept=kept)

    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == (script, path)
    assert environ["RAW_URI"] == target


@pytest.mark.parametrize("target", ["/", "/shopping", "/sho", "/%73hop/a", "*"])
def test_a_path_elsewhere_is_refused(target: str) -> None:
    """The proxy sends what is not the application's."""
    with pytest.raises(BadRequestError, match="not below"):
        build(("SCRIPT_NAME", "/shop"), target=target)
    assert below("/shop", "/shop") == ""


def test_a_kept_section_is_mounted_each_time() -> None:
    """The same fields, other paths."""
    by = builder()
    pairs = [(b"SCRIPT_NAME", b"/shop")]
    first = RequestHead("GET", "/shop/a", 1, pairs, -1, False, True, False, "/shop/a", "", b"a")
    first.section = FieldSection(first)
    second = RequestHead("GET", "/shop/b", 1, pairs, -1, False, True, False, "/shop/b", "", b"a")
    second.section = first.section

    for head, path in ((first, "/a"), (second, "/b")):
        assert by.build(head, io.BytesIO(), -1, PEER, True)["PATH_INFO"] == path
    untrusted = by.build(second, io.BytesIO(), -1, PEER, False)
    assert (untrusted["SCRIPT_NAME"], untrusted["PATH_INFO"]) == ("", "/shop/b")


@pytest.mark.parametrize(
    ("variable", "mount"),
    [("/shop", "/shop"), ("/shop/", "/shop"), ("/", ""), ("", ""), ("start.sh", ""), (None, "")],
)
def test_the_variable_that_says_where_the_application_is_mounted(
    variable: str | None, mount: str
) -> None:
    """What is no path cannot be meant: shell scripts keep their own name there."""
    assert mount_of({} if variable is None else {"SCRIPT_NAME": variable}) == mount


@pytest.mark.parametrize("trusted", [False, True])
@pytest.mark.parametrize("kept", [False, True])
def test_mounted_for_everybody_unless_a_trusted_proxy_says_another_place(
    *, trusted: bool, kept: bool
) -> None:
    by = builder(mount="/shop")
    for target, path in (("/shop/a%20b?q", "/a b"), ("/shop", "")):
        environ = build(target=target, by=by, trusted=trusted, kept=kept)
        assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == ("/shop", path)
    with pytest.raises(BadRequestError, match="not below"):
        build(target="/", by=by, trusted=trusted, kept=kept)
    said = build(("SCRIPT_NAME", "/shop/eu"), target="/shop/eu/a", by=by, trusted=trusted)
    place = ("/shop/eu", "/a") if trusted else ("/shop", "/eu/a")
    assert (said["SCRIPT_NAME"], said["PATH_INFO"]) == place


@pytest.mark.parametrize("policy", ["drop", "refuse", "dangerous"])
def test_forwarder_headers_are_a_trusted_proxys(policy: str) -> None:
    """From it they pass whatever --header-map says; from others they are any name with `_`."""
    fields = {"header_map": policy, "forwarder_headers": ("SCRIPT_NAME", "REMOTE_USER")}
    headers = (("Script_Name", "/s"), ("REMOTE_USER", "anna"))
    environ = build(*headers, target="/s/x", **fields)
    assert environ["HTTP_REMOTE_USER"] == "anna"
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == ("/s", "/x")

    if policy == "refuse":
        with pytest.raises(BadRequestError, match="holds _"):
            build(*headers, target="/s/x", trusted=False, **fields)
        return
    environ = build(*headers, target="/s/x", trusted=False, **fields)
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == ("", "/s/x")
    assert ("HTTP_REMOTE_USER" in environ) is (policy == "dangerous")


@pytest.mark.parametrize("policy", ["drop", "dangerous"])
@pytest.mark.parametrize("kept", [False, True])
def test_a_twin_with_a_dash_adds_nothing_to_a_forwarder_header(policy: str, *, kept: bool) -> None:
    """It is a client's that the proxy has let through: the names end in one variable."""
    fields = {"header_map": policy, "forwarder_headers": ("SCRIPT_NAME", "REMOTE_USER")}
    proxys, clients = ("REMOTE_USER", "anna"), ("Remote-User", "root")
    for headers in ((proxys, clients), (clients, proxys)):
        assert build(*headers, kept=kept, **fields)["HTTP_REMOTE_USER"] == "anna"
    assert build(clients, kept=kept, **fields)["HTTP_REMOTE_USER"] == "root"
    mounted = build(
        ("Script-Name", "/x"), ("SCRIPT_NAME", "/s"), ("script-name", "/y"),
        target="/s/a", kept=kept, **fields,
    )  # fmt: skip
    assert (mounted["SCRIPT_NAME"], mounted["HTTP_SCRIPT_NAME"]) == ("/s", "/s")


def test_other_names_with_an_underscore_stay_out() -> None:
    """Also from a trusted proxy; and a twin with `-` is not the field."""
    environ = build(("X_User", "1"), ("Script-Name", "/s"), target="/s/x")

    assert "HTTP_X_USER" not in environ
    assert environ["SCRIPT_NAME"] == ""


def test_script_names_that_contradict_each_other_are_refused() -> None:
    """One of them is a client's, which the proxy has let through."""
    for second in ("/other", "/", ""):
        with pytest.raises(BadRequestError, match="SCRIPT_NAME"):
            build(("SCRIPT_NAME", "/shop"), ("script_name", second), target="/shop/a")
        with pytest.raises(BadRequestError, match="SCRIPT_NAME"):
            build(("script_name", second), ("SCRIPT_NAME", "/shop"), target="/shop/a")
    twice = build(("SCRIPT_NAME", "/shop"), ("SCRIPT_NAME", "/shop/"), target="/shop/a")
    assert (twice["SCRIPT_NAME"], twice["PATH_INFO"]) == ("/shop", "/a")
