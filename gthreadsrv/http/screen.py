"""The one strictness layer above both parsers: what their fields mean, and what is refused.

A parser says what the bytes are; here they become a request whose framing and host can be
trusted, or a refusal. Both parsers go through this one function, so they cannot differ in how
a body is framed, whom a request is for or whether the connection is kept. Runs for each
request on the thread that parsed it; it is on the hot path, hence the table of names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gthreadsrv.http.errors import BadRequestError, BodyTooLargeError, HeadTooLargeError
from gthreadsrv.http.grammar import (
    AUTHORITY_BYTES,
    BLANKS,
    CONTENT_LENGTH,
    OTHER_CODINGS,
    TOKEN_ONLY,
)
from gthreadsrv.http.request import RequestHead
from gthreadsrv.http.target import is_authority, split_target

if TYPE_CHECKING:
    from gthreadsrv.http.limits import Limits

# What a field means to the server itself.
_HOST, _CONNECTION, _LENGTH, _CODING, _EXPECT = range(5)
_MEANINGS: Final = {
    b"host": _HOST,
    b"connection": _CONNECTION,
    b"content-length": _LENGTH,
    b"transfer-encoding": _CODING,
    b"expect": _EXPECT,
}
# Most fields mean nothing to it. Spellings seen in practice, so that their names need no
# lower-casing; fixed, because spellings are the client's choice and learning them is memory.
_ORDINARY_NAMES = (
    "Accept Accept-Charset Accept-Encoding Accept-Language Authorization Cache-Control"
    " Content-Type Cookie DNT Forwarded If-Match If-Modified-Since If-None-Match If-Range"
    " If-Unmodified-Since Origin Pragma Priority Range Referer Sec-CH-UA Sec-CH-UA-Mobile"
    " Sec-CH-UA-Platform Sec-Fetch-Dest Sec-Fetch-Mode Sec-Fetch-Site Sec-Fetch-User Sec-GPC TE"
    " Traceparent Tracestate Upgrade Upgrade-Insecure-Requests User-Agent Via X-Forwarded-For"
    " X-Forwarded-Host X-Forwarded-Port X-Forwarded-Proto X-Real-IP X-Request-ID X-Request-Start"
    " X-Requested-With"
).encode("ascii")
_ORDINARY: Final = frozenset(
    spelling for name in _ORDINARY_NAMES.split() for spelling in (name, name.lower(), name.title())
)


def screen(
    method: str, target: str, minor: int, headers: list[tuple[bytes, bytes]], limits: Limits
) -> RequestHead:
    """Make the request of a well-formed head, or refuse it.

    The caller vouches for grammar: method is in METHODS, the target visible ASCII, names are
    tokens, values without control bytes or surrounding blanks. `headers` becomes the request's.
    """
    host: bytes | None = None
    length = -1
    keep_alive = minor == 1
    codings: bytes | None = None
    expectation: bytes | None = None
    asks_close = False

    for name, value in headers:
        if name in _ORDINARY:
            continue
        meaning = _MEANINGS.get(name.lower())
        if meaning is None:
            continue
        if meaning == _HOST:
            # RFC 9112 3.2: one, and valid. Empty is valid: the target has no authority.
            if host is not None:
                raise BadRequestError("more than one Host")
            if value and (len(value) > AUTHORITY_BYTES or not is_authority(value)):
                raise BadRequestError("invalid Host")
            host = value
        elif meaning == _CONNECTION:
            if value == b"keep-alive":
                keep_alive = True
            else:
                options = [option.strip(BLANKS) for option in value.lower().split(b",")]
                asks_close = asks_close or b"close" in options
                keep_alive = keep_alive or b"keep-alive" in options
        elif meaning == _LENGTH:
            # RFC 9112 6.3 would let equal lengths pass; no client needs that.
            if length >= 0:
                raise BadRequestError("more than one Content-Length")
            if not CONTENT_LENGTH.fullmatch(value):
                raise BadRequestError("invalid Content-Length")
            length = int(value)
        elif meaning == _CODING:
            codings = value if codings is None else codings + b"," + value
        else:
            expectation = value if expectation is None else expectation + b"," + value

    if len(headers) > limits.fields:
        raise HeadTooLargeError(f"more than {limits.fields} fields")
    if host is None and minor:
        raise BadRequestError("HTTP/1.1 request without Host")
    if target[:1] == "/":
        path, _, query = target.partition("?")
    else:
        path, query, authority = split_target(method, target)
        if authority is not None:
            _replace_host(headers, authority)
            host = authority
    if codings is not None:
        _check_codings(codings, minor, length)
        _spell_chunked(headers)
    if length > limits.body > 0:
        raise BodyTooLargeError(f"Content-Length is over the limit of {limits.body} bytes")
    expects = False
    if expectation is not None and minor:
        # RFC 9110 10.1.1: the only one there is; a 1.0 client cannot expect anything.
        if expectation.lower() != b"100-continue":
            raise BadRequestError("unknown expectation", 417)
        expects = codings is not None or length > 0

    return RequestHead(
        method,
        target,
        minor,
        headers,
        length,
        codings is not None,
        keep_alive and not asks_close,
        expects,
        path,
        query,
        host or b"",
    )


def _check_codings(codings: bytes, minor: int, length: int) -> None:
    """Let a lone `chunked` pass (RFC 9112 6.1 and 6.3).

    Of the others those are 400 that leave open where the message ends, and 501 those that
    would be clear to a server that knew the coding.
    """
    if not minor:
        raise BadRequestError("Transfer-Encoding in HTTP/1.0")
    if length >= 0:
        raise BadRequestError("both Content-Length and Transfer-Encoding")
    names = [name.strip(BLANKS) for name in codings.lower().split(b",")]
    if names == [b"chunked"]:
        return
    if not all(TOKEN_ONLY.fullmatch(name) for name in names):
        raise BadRequestError("invalid Transfer-Encoding")
    if b"chunked" in names[:-1]:
        raise BadRequestError("chunked is not the one last transfer coding")
    if names[-1] != b"chunked" and OTHER_CODINGS.issuperset(names):
        raise BadRequestError("chunked is not the last transfer coding")
    raise BadRequestError("unknown transfer coding", 501)


def _spell_chunked(headers: list[tuple[bytes, bytes]]) -> None:
    """Write the coding's name in lower case, as h11 does, so that both parsers give the same."""
    for index, (name, value) in enumerate(headers):
        if value != b"chunked" and name.lower() == b"transfer-encoding":
            headers[index] = (name, b"chunked")


def _replace_host(headers: list[tuple[bytes, bytes]], authority: bytes) -> None:
    """RFC 9112 3.2.2: the authority of the target replaces the Host field received."""
    for index, (name, _) in enumerate(headers):
        if name.lower() == b"host":
            headers[index] = (name, authority)
            return
    headers.append((b"Host", authority))
