"""Requests and responses on the wire: keep-alive, pipelining, framing, methods, versions."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest

from tests.system.client import build_request, chunked, dribble
from tests.system.conftest import Combination
from tests.system.harness import Server

pytestmark = pytest.mark.greenlets("gevent", "eventlet")


@pytest.fixture(scope="module")
def web(combination: Combination) -> Iterator[Server]:
    """One server for the module, per parser and kind of socket."""
    with combination.server("behaviours:app", threads=2) as server:
        yield server


def environ_of(server: Server, request: bytes) -> dict[str, Any]:
    """The environ the application sees for these bytes."""
    with server.connect() as connection:
        connection.send(request)
        found = json.loads(connection.response().body)
    assert isinstance(found, dict)
    return found


def test_connection_is_kept_alive(web: Server) -> None:
    """HTTP/1.1 requests follow each other on one connection, and no field is needed for it."""
    with web.connect() as connection:
        for _ in range(5):
            response = connection.get("/hello")
            assert (response.status, response.body, response.minor) == (200, b"hello\n", 1)
            assert response.header("Connection") is None


@pytest.mark.parametrize("value", ["close", "Close", "foo, close", "close, foo"])
def test_client_may_close(web: Server, value: str) -> None:
    """`close` anywhere in Connection ends the connection after the response, which says so."""
    with web.connect() as connection:
        connection.request("GET", "/hello", {"Connection": value})
        response = connection.response()
        assert (response.body, response.header("Connection")) == (b"hello\n", "close")
        connection.expect_close()


def test_application_may_close(web: Server) -> None:
    """An application's `Connection: close` ends the connection after the response."""
    with web.connect() as connection:
        response = connection.get("/closing")
        assert (response.body, response.header("Connection")) == (b"bye\n", "close")
        connection.expect_close()


def test_http_1_0_closes_unless_asked(web: Server) -> None:
    """An HTTP/1.0 connection ends with the response; with keep-alive it goes on and says so."""
    with web.connect() as connection:
        connection.request("GET", "/hello", minor=0)
        assert connection.response().body == b"hello\n"
        connection.expect_close()
    with web.connect() as connection:
        for _ in range(3):
            connection.request("GET", "/hello", {"Connection": "keep-alive"}, minor=0)
            response = connection.response()
            assert (response.body, response.header("Connection")) == (b"hello\n", "keep-alive")


def test_http_1_0_gets_no_chunks(web: Server) -> None:
    """A response without a length goes to HTTP/1.0 unframed, ended by the close."""
    with web.connect() as connection:
        keep = {"Connection": "keep-alive"}
        connection.request("GET", "/pieces?n=3&size=4", keep, minor=0)
        response = connection.response()
        assert (response.body, response.chunked) == (b"000011112222", False)
        assert response.header("Connection") != "keep-alive"


def test_http_1_0_needs_no_host(web: Server) -> None:
    """Host is for HTTP/1.1; a 1.0 request without it is served."""
    with web.connect() as connection:
        connection.send(b"GET /hello HTTP/1.0\r\n\r\n")
        assert connection.response().status == 200


def test_response_without_length_is_chunked(web: Server) -> None:
    """For HTTP/1.1 each piece is sent as a chunk, and the connection goes on."""
    with web.connect() as connection:
        response = connection.get("/pieces?n=3&size=4")
        assert (response.body, response.chunked) == (b"000011112222", True)
        assert connection.get("/hello").body == b"hello\n"


def test_empty_pieces_do_not_end_the_response(web: Server) -> None:
    """An empty piece must not become the last chunk."""
    with web.connect() as connection:
        response = connection.get("/pieces?n=3&size=4&empty=1")
        assert response.body == b"000011112222"
        assert connection.get("/hello").body == b"hello\n"


def test_pipelined_requests_are_answered_in_order(web: Server) -> None:
    """Requests sent in one go, with and without bodies, get their answers in order."""
    requests = b"".join(
        [
            build_request("POST", "/echo", body=b"one"),
            build_request("GET", "/pieces?n=2&size=3"),
            build_request(
                "POST", "/echo", {"Transfer-Encoding": "chunked"}, chunked([b"t", b"wo"])
            ),
            build_request("HEAD", "/hello"),
            build_request("POST", "/ignore_body", body=b"not read"),
            build_request("GET", "/hello", {"Connection": "close"}),
        ]
    )
    with web.connect() as connection:
        connection.send(requests)
        assert connection.response().body == b"one"
        assert connection.response().body == b"000111"
        assert connection.response().body == b"two"
        assert connection.response("HEAD").header("Content-Length") == "6"
        assert connection.response().body == b"ignored\n"
        assert connection.response().body == b"hello\n"
        connection.expect_close()


def test_many_pipelined_requests(web: Server) -> None:
    """Two hundred requests in one go are all answered."""
    with web.connect() as connection:
        connection.send(build_request("GET", "/hello") * 200)
        for _ in range(200):
            assert connection.response().body == b"hello\n"
        connection.expect_silence()


def test_request_may_come_byte_by_byte(web: Server) -> None:
    """However the bytes are cut, it is the same request."""
    with web.connect() as connection:
        dribble(connection, build_request("POST", "/echo", {"X-Thing": "a b"}, b"body"))
        dribble(connection, build_request("GET", "/hello"), size=7)
        assert connection.response().body == b"body"
        assert connection.response().body == b"hello\n"


def test_leading_empty_line_is_skipped(web: Server) -> None:
    """One CRLF before a request is ignored (RFC 9112 2.2)."""
    with web.connect() as connection:
        connection.send(b"\r\n" + build_request("GET", "/hello"))
        assert connection.response().body == b"hello\n"
        connection.send(b"\r\n" + build_request("GET", "/hello"))
        assert connection.response().body == b"hello\n"


def test_head_has_no_body(web: Server) -> None:
    """HEAD gets the fields of GET and not a byte more; the connection goes on."""
    with web.connect() as connection:
        sized = connection.get("/blob?n=1000", "HEAD")
        assert (sized.status, sized.header("Content-Length")) == (200, "1000")
        assert connection.get("/pieces?n=3", "HEAD").status == 200
        assert connection.get("/write", "HEAD").status == 200
        assert connection.get("/hello").body == b"hello\n"
        connection.expect_silence()


@pytest.mark.parametrize("code", ["204 No Content", "304 Not Modified"])
def test_statuses_without_a_body(web: Server, code: str) -> None:
    """204 and 304 carry no body, even when the application gives one."""
    with web.connect() as connection:
        response = connection.get(f"/status?code={code.replace(' ', '+')}")
        assert response.status == int(code[:3])
        assert response.header("ETag") == '"x"'
        assert connection.get("/hello").body == b"hello\n"
        connection.expect_silence()


def test_empty_response_is_framed(web: Server) -> None:
    """An application that yields nothing gives an empty, complete response."""
    with web.connect() as connection:
        assert connection.get("/nothing").body == b""
        assert connection.get("/hello").body == b"hello\n"


def test_server_adds_date_and_server_once(web: Server) -> None:
    """Date is now, in the one format of RFC 9110; an application's own fields are kept."""
    response = web.get("/hello")
    date, own = response.header("Date"), web.get("/own_date")

    assert date is not None
    assert re.fullmatch(r"\w{3}, \d{2} \w{3} \d{4} \d{2}:\d{2}:\d{2} GMT", date)
    assert parsedate_to_datetime(date).year >= 2024
    assert (own.header("Date"), own.header("Server")) == ("Thu, 01 Jan 1970 00:00:00 GMT", "mine")


def test_repeated_fields_stay_apart(web: Server) -> None:
    """Two Set-Cookie fields are two lines, in order."""
    headers = web.get("/cookies").headers

    assert [value for name, value in headers if name == "Set-Cookie"] == ["a=1", "b=2"]


def test_pieces_arrive_as_they_are_made(web: Server, tmp_path: Path) -> None:
    """A streamed piece reaches the client before the next one exists."""
    go_on = tmp_path / "go"
    with web.connect() as connection:
        connection.request("GET", f"/drip?until={go_on}")
        received = b""
        while b"first" not in received:
            received += connection.sock.recv(65536)
        go_on.touch()
        while b"second\n\r\n0\r\n\r\n" not in received:
            received += connection.sock.recv(65536)


def test_half_closed_client_still_gets_its_answer(web: Server) -> None:
    """A client that has shut its sending side after the request is answered all the same."""
    with web.connect() as connection:
        connection.request("GET", "/sleep?s=0.05")
        connection.sock.shutdown(socket.SHUT_WR)
        assert connection.response().status == 200
        connection.expect_close()


def test_environ_is_what_pep_3333_asks_for(web: Server) -> None:
    """The request's parts reach the application under CGI's names."""
    found = environ_of(
        web,
        b"GET /environ_json?a=1&b=%20x HTTP/1.1\r\nHost: shop.example:81\r\nX-One: 1\r\n"
        b"X-Two: a\r\nX-Two:  b \r\nCookie: k=v\r\nCookie: l=w\r\nContent-Type: text/x\r\n"
        b"Content-Length: 0\r\n\r\n",
    )

    assert found["REQUEST_METHOD"] == "GET"
    assert (found["SCRIPT_NAME"], found["PATH_INFO"]) == ("", "/environ_json")
    assert found["QUERY_STRING"] == "a=1&b=%20x"
    assert found["SERVER_PROTOCOL"] == "HTTP/1.1"
    assert found["HTTP_HOST"] == "shop.example:81"
    assert (found["HTTP_X_ONE"], found["HTTP_X_TWO"]) == ("1", "a,b")
    assert found["HTTP_COOKIE"] == "k=v; l=w"
    assert (found["CONTENT_TYPE"], found["CONTENT_LENGTH"]) == ("text/x", "0")
    assert "HTTP_CONTENT_TYPE" not in found
    assert (found["wsgi.url_scheme"], found["wsgi.version"]) == ("http", [1, 0])
    assert (found["wsgi.multithread"], found["wsgi.run_once"]) == (True, False)
    assert found["wsgi.input_terminated"] is True
    assert isinstance(found["SERVER_NAME"], str) and found["SERVER_NAME"]
    assert found["SERVER_PORT"].isdigit()


def test_environ_names_the_peer(web: Server) -> None:
    """REMOTE_ADDR and REMOTE_PORT are the client's own on TCP, and strings anywhere."""
    with web.connect() as connection:
        connection.request("GET", "/environ_json")
        found = json.loads(connection.response().body)
        if web.address.startswith("unix:"):
            assert isinstance(found["REMOTE_ADDR"], str)
        else:
            host, port = connection.sock.getsockname()
            assert (found["REMOTE_ADDR"], found["REMOTE_PORT"]) == (host, str(port))


def test_path_is_decoded_to_bytes_as_latin_1(web: Server) -> None:
    """PATH_INFO is percent-decoded, the query is not (PEP 3333, unicode issues)."""
    with web.connect() as connection:
        assert connection.get("/environ%5Fjson").status == 200
        found = connection.get("/environ_json?q=%C3%A9+%2F")
        assert json.loads(found.body)["QUERY_STRING"] == "q=%C3%A9+%2F"


def test_absolute_form_names_the_host(web: Server) -> None:
    """With an absolute-form target its authority wins over Host (RFC 9112 3.2.2)."""
    found = environ_of(
        web, b"GET http://real.example/environ_json?x=1 HTTP/1.1\r\nHost: other.example\r\n\r\n"
    )

    assert (found["HTTP_HOST"], found["PATH_INFO"]) == ("real.example", "/environ_json")
    assert found["QUERY_STRING"] == "x=1"


def test_header_names_cannot_spoof_each_other(web: Server) -> None:
    """Names with an underscore, and Proxy, do not reach the environ under another's name."""
    found = environ_of(
        web,
        b"GET /environ_json HTTP/1.1\r\nHost: a\r\nX-Forwarded-User: good\r\n"
        b"X_Forwarded_User: evil\r\nX_Alone: evil\r\nProxy: http://evil\r\n\r\n",
    )

    assert found["HTTP_X_FORWARDED_USER"] == "good"
    assert "HTTP_X_ALONE" not in found
    assert "HTTP_PROXY" not in found


@pytest.mark.parametrize(
    "method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"]
)
def test_methods_reach_the_application(web: Server, method: str) -> None:
    """The method is the application's business."""
    with web.connect() as connection:
        connection.request(method, "/environ_json", {"Content-Length": "0"})
        assert json.loads(connection.response().body)["REQUEST_METHOD"] == method


def test_upgrade_is_served_as_a_plain_request(web: Server) -> None:
    """An upgrade that is not offered is ignored (RFC 9110 7.8)."""
    with web.connect() as connection:
        connection.request(
            "GET", "/hello", {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c"}
        )
        assert connection.response().body == b"hello\n"
