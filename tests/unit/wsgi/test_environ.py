"""From a request head to the WSGI environ."""

from __future__ import annotations

import io
from typing import Any
from urllib.parse import quote_from_bytes

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gthreadsrv import __version__
from gthreadsrv.http.limits import Limits
from gthreadsrv.http.parser import make_parser
from gthreadsrv.http.recall import FieldSection
from gthreadsrv.http.request import RequestHead
from gthreadsrv.net.peers import TrustedPeers
from gthreadsrv.wsgi.environ import EnvironBuilder
from gthreadsrv.wsgi.fields import FieldTrust

LIMITS = Limits(8190, 100, 8190, 0)
TOKEN = st.text("abcXYZ019-_.!~", min_size=1, max_size=12).map(lambda text: text.encode())


def builder(*, fields: FieldTrust | None = None, **changes: Any) -> EnvironBuilder:
    values: dict[str, Any] = {
        "server_name": "server.test",
        "server_port": "8000",
        "multithread": True,
        "multiprocess": False,
        "fields": fields or FieldTrust(),
        "hops": TrustedPeers(("127.0.0.1", "10.0.0.0/8")),
    }
    return EnvironBuilder(**(values | changes))


def head(
    *headers: tuple[bytes, bytes], method: str = "GET", target: str = "/", minor: int = 1
) -> RequestHead:
    path, _, query = target.partition("?")
    return RequestHead(
        method, target, minor, list(headers), -1, False, True, False, path, query, b"a"
    )


def build(
    request: RequestHead,
    *,
    length: int = -1,
    peer: tuple[str, str] = ("192.0.2.7", "4711"),
    trusted: bool = False,
    by: EnvironBuilder | None = None,
) -> dict[str, Any]:
    return (by or builder()).build(request, io.BytesIO(b"body"), length, peer, trusted)


def test_every_key_that_pep_3333_asks_for_is_there() -> None:
    """And of the type it asks for: strings are str itself, not a subclass."""
    environ = build(head((b"Host", b"a"), target="/p?q=1"))

    assert environ["REQUEST_METHOD"] == "GET"
    assert environ["SCRIPT_NAME"] == ""
    assert environ["PATH_INFO"] == "/p"
    assert environ["QUERY_STRING"] == "q=1"
    assert environ["SERVER_NAME"] == "server.test"
    assert environ["SERVER_PORT"] == "8000"
    assert environ["SERVER_PROTOCOL"] == "HTTP/1.1"
    assert environ["wsgi.version"] == (1, 0)
    assert environ["wsgi.url_scheme"] == "http"
    assert environ["wsgi.input"].read() == b"body"
    assert environ["wsgi.multithread"] is True
    assert environ["wsgi.multiprocess"] is False
    assert environ["wsgi.run_once"] is False
    assert environ["wsgi.input_terminated"] is True
    assert environ["HTTP_HOST"] == "a"
    assert all(type(key) is str for key in environ)
    assert all(type(value) is str for key, value in environ.items() if not key.startswith("wsgi."))
    assert type(environ) is dict


def test_what_servers_usually_add() -> None:
    """The peer, the software, and the target as it was sent."""
    environ = build(head(target="/a%20b?c%20d", minor=0))

    assert environ["REMOTE_ADDR"] == "192.0.2.7"
    assert environ["REMOTE_PORT"] == "4711"
    assert environ["SERVER_SOFTWARE"] == f"gthreadsrv/{__version__}"
    assert environ["RAW_URI"] == environ["REQUEST_URI"] == "/a%20b?c%20d"
    assert environ["QUERY_STRING"] == "c%20d"
    assert environ["SERVER_PROTOCOL"] == "HTTP/1.0"


def test_requests_share_nothing() -> None:
    """What one application writes into its environ is not in the next one."""
    by = builder()
    first = build(head((b"X-One", b"1")), by=by)
    first["wsgi.url_scheme"] = "gopher"
    first["REQUEST_METHOD"] = "X"
    second = build(head((b"X-Two", b"2")), by=by)

    assert second["wsgi.url_scheme"] == "http"
    assert "HTTP_X_ONE" not in second
    assert second["HTTP_X_TWO"] == "2"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", "/"),
        ("/a/b", "/a/b"),
        ("/a%2Fb", "/a/b"),
        ("/%C3%A9", "/\xc3\xa9"),
        ("/%e9", "/\xe9"),
        ("/%00", "/\0"),
        ("/a+b", "/a+b"),
        ("/100%", "/100%"),
        ("/%zz%4", "/%zz%4"),
        ("/%25%32%30", "/%20"),
        ("/a//b/../c", "/a//b/../c"),
        ("*", ""),
    ],
)
def test_the_path_is_decoded_once_into_latin_1(path: str, expected: str) -> None:
    """PEP 3333: one character a byte; broken escapes stay as they are, "+" is no blank."""
    assert build(head(target=path))["PATH_INFO"] == expected


@given(st.binary(max_size=30))
def test_any_path_survives_the_way_through_the_environ(path: bytes) -> None:
    """What a client quotes an application gets back, whatever its encoding."""
    environ = build(head(target="/" + quote_from_bytes(path)))

    assert environ["PATH_INFO"].encode("latin-1") == b"/" + path


def test_header_names_become_variables() -> None:
    """Upper case, with "_" for "-", and HTTP_ before; CONTENT_TYPE and CONTENT_LENGTH without."""
    environ = build(
        head(
            (b"accept-encoding", b"gzip"), (b"X-FOO", b"1"), (b"Content-Type", b"text/plain"),
            (b"content-length", b"4"), (b"X.Y!Z", b"2"),
        ),
        length=4,
    )  # fmt: skip

    assert environ["HTTP_ACCEPT_ENCODING"] == "gzip"
    assert environ["HTTP_X_FOO"] == "1"
    assert environ["HTTP_X.Y!Z"] == "2"
    assert environ["CONTENT_TYPE"] == "text/plain"
    assert environ["CONTENT_LENGTH"] == "4"
    assert "HTTP_CONTENT_TYPE" not in environ
    assert "HTTP_CONTENT_LENGTH" not in environ


def test_repeated_fields_are_joined() -> None:
    """By a comma, cookies by a semicolon, in order, whatever their spelling."""
    environ = build(
        head(
            (b"X-Forwarded-For", b"10.0.0.1"), (b"Cookie", b"a=1"), (b"x-forwarded-for", b"10.0.0.2"),
            (b"cookie", b"b=2; c=3"), (b"X-Forwarded-For", b""),
        )
    )  # fmt: skip

    assert environ["HTTP_X_FORWARDED_FOR"] == "10.0.0.1,10.0.0.2,"
    assert environ["HTTP_COOKIE"] == "a=1; b=2; c=3"


@pytest.mark.parametrize(
    "name",
    [b"X_Forwarded_For", b"X-Forwarded_For", b"Content_Length", b"_", b"Proxy", b"PROXY", b"proxy"],
)
@pytest.mark.parametrize("first", [True, False])
def test_names_that_could_speak_for_others_are_left_out(name: bytes, *, first: bool) -> None:
    """A twin with "_" shares the variable of the name with "-"; HTTP_PROXY configures clients."""
    twin = (name.replace(b"_", b"-"), b"true") if b"_" in name else (b"X-Other", b"true")
    pair = ((name, b"forged"), twin) if first else (twin, (name, b"forged"))
    environ = build(head(*pair))

    assert "forged" not in str(environ)
    assert "HTTP_PROXY" not in environ


def test_fields_cannot_take_the_servers_own_variables() -> None:
    """HTTP_ stands before every name but two."""
    environ = build(
        head(
            (b"Remote-Addr", b"forged"), (b"wsgi.input", b"forged"), (b"Request-Method", b"forged"),
            (b"Server-Name", b"forged"), (b"Script-Name", b"forged"),
        )
    )  # fmt: skip

    assert environ["REMOTE_ADDR"] == "192.0.2.7"
    assert environ["REQUEST_METHOD"] == "GET"
    assert environ["SERVER_NAME"] == "server.test"
    assert environ["SCRIPT_NAME"] == ""
    assert environ["wsgi.input"].read() == b"body"
    assert environ["HTTP_REMOTE_ADDR"] == "forged"


def test_values_are_latin_1() -> None:
    """One character a byte; the application decodes as it sees fit."""
    environ = build(head((b"X-Name", "Žofie".encode())))

    assert environ["HTTP_X_NAME"].encode("latin-1").decode() == "Žofie"


def test_the_length_is_that_of_the_decoded_body() -> None:
    """A transfer coding is the server's business and is not passed on."""
    request = head((b"Transfer-Encoding", b"chunked"))
    request.chunked = True
    environ = build(request, length=19)

    assert environ["CONTENT_LENGTH"] == "19"
    assert "HTTP_TRANSFER_ENCODING" not in environ


@pytest.mark.parametrize(("headers", "expected"), [((), None), (((b"Content-Length", b"0"),), "0")])
def test_without_a_body_the_length_is_what_the_client_said(
    headers: tuple[tuple[bytes, bytes], ...], expected: str | None
) -> None:
    """Absent, or 0."""
    assert build(head(*headers)).get("CONTENT_LENGTH") == expected


@pytest.mark.parametrize(
    ("field", "scheme"),
    [
        ((b"X-Forwarded-Proto", b"https"), "https"),
        ((b"x-forwarded-protocol", b"ssl"), "https"),
        ((b"X-Forwarded-Ssl", b"on"), "https"),
        ((b"X-Forwarded-Proto", b"http"), "http"),
        ((b"X-Forwarded-Ssl", b"off"), "http"),
        ((b"X-Forwarded_Proto", b"https"), "http"),
        ((b"X-Other", b"https"), "http"),
    ],
)
def test_the_scheme_is_a_trusted_proxys_word(field: tuple[bytes, bytes], scheme: str) -> None:
    """Nobody else's."""
    assert build(head(field), trusted=True)["wsgi.url_scheme"] == scheme
    assert build(head(field), trusted=False)["wsgi.url_scheme"] == "http"


def test_a_listener_may_be_secure_by_itself() -> None:
    """Then no proxy is asked."""
    by = builder(scheme="https")

    assert build(head(), by=by)["wsgi.url_scheme"] == "https"


def test_a_client_that_invents_names_does_not_grow_the_memory() -> None:
    """And the names beyond the table still arrive."""
    by = builder()
    for number in range(3000):
        name = b"X-Invented-%d" % number
        environ = build(head((name, b"v"), (b"X_%d" % number, b"v")), by=by)
        assert environ[f"HTTP_X_INVENTED_{number}"] == "v"
        assert f"HTTP_X_{number}" not in environ

    assert len(by._keys) <= 1024


def test_long_names_are_not_learned() -> None:
    """A thousand of 8 KiB would be more than all that a worker knows otherwise."""
    by = builder()
    for number in range(20):
        name = b"X-%04d-" % number + b"a" * 8000
        assert build(head((name, b"v")), by=by)["HTTP_" + name.decode().upper().replace("-", "_")]

    assert sum(map(len, by._keys)) < 8000


@given(st.lists(st.tuples(TOKEN, st.binary(max_size=8)), max_size=12))
def test_any_fields_give_what_the_rules_say(fields: list[tuple[bytes, bytes]]) -> None:
    """Against a plain account of the rules."""
    expected: dict[str, str] = {}
    for name, value in fields:
        text = name.decode().upper()
        if "_" in text or text == "PROXY":
            continue
        key = "HTTP_" + text.replace("-", "_")
        joined = value.decode("latin-1")
        expected[key] = f"{expected[key]},{joined}" if key in expected else joined
    environ = build(head(*fields))

    assert {key: environ[key] for key in environ if key.startswith("HTTP_")} == expected


@pytest.mark.parametrize("parser", ["h11", "httptools"])
def test_an_absolute_target_gives_path_and_host(parser: str) -> None:
    """RFC 9112 3.2.2: the authority of the target is the host, whatever the Host field says."""
    raw = b"GET http://true.test:81?q=1 HTTP/1.1\r\nHost: other.test\r\n\r\n"
    environ = build(make_parser(parser, LIMITS).parse(raw))

    assert environ["PATH_INFO"] == "/"
    assert environ["QUERY_STRING"] == "q=1"
    assert environ["HTTP_HOST"] == "true.test:81"
    assert environ["RAW_URI"] == "http://true.test:81?q=1"


def remembered(*headers: tuple[bytes, bytes], target: str = "/") -> RequestHead:
    """A head whose fields are kept from one request to the next."""
    request = head(*headers, target=target)
    request.section = FieldSection(request)
    return request


@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"Host", b"Cookie", b"X-Forwarded-Proto", b"X_A", b"x-a", b"Proxy"]),
            st.sampled_from([b"a", b"https", b"\xe9"]),
        )
    ),
    st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=6),
)
def test_kept_fields_give_the_same_environ(
    headers: list[tuple[bytes, bytes]], turns: list[tuple[bool, bool]]
) -> None:
    """Whichever listener and peer come by in turn, and whatever the application does to its own."""
    schemes = {value for name, value in headers if name == b"X-Forwarded-Proto"}
    assume(not (b"https" in schemes and len(schemes) > 1))  # refused: test_fields
    section = remembered(*headers).section
    builders = (builder(), builder(server_name="other", scheme="https"))
    for number, (second, trusted) in enumerate(turns):
        by = builders[second]
        request = head(*headers, target=f"/{number}%41?{number}")
        expected = build(request, trusted=trusted, by=by)
        request.section = section
        found = build(request, trusted=trusted, by=by)
        for environ in (expected, found):
            del environ["wsgi.input"]
        assert found == expected
        found.clear()


def test_names_with_underscores_are_passed_on_when_that_is_wanted() -> None:
    """But for what frames a body, and for Proxy."""
    fields = [
        (b"X_User", b"1"),
        (b"Content_Length", b"7"),
        (b"content_type", b"a/b"),
        (b"Proxy", b"p"),
    ]
    assert "HTTP_X_USER" not in build(head(*fields))

    environ = build(head(*fields), by=builder(fields=FieldTrust(header_map="dangerous")))
    assert environ["HTTP_X_USER"] == "1"
    assert not {"CONTENT_LENGTH", "CONTENT_TYPE", "HTTP_CONTENT_LENGTH", "HTTP_PROXY"} & set(
        environ
    )
