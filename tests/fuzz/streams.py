"""Byte streams a client might send: a grammar of requests, and ways to spoil them.

Everything is drawn from one `random.Random`, so a seed names a stream. Well-formed parts are
frequent enough for streams to get past the first line, and what spoils them is what readers
of HTTP are known to disagree about: blanks, line ends, lengths, codings, hosts, versions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random

METHODS = [b"GET"] * 8 + [b"POST"] * 6 + [b"HEAD", b"PUT", b"OPTIONS", b"M-SEARCH", b"QUERY"]
ODD_METHODS = [
    *[b"CONNECT", b"PRI", b"get", b"GETT", b"G", b"", b"DESCRIBE", b"SOURCE", b"GET_PARAMETER"],
    *[b"G\x00T", b"GE T", b"PO\tST", b"\xffGET", b"FOO", b"POST,GET"],
]
TARGETS = [b"/"] * 6 + [
    *[b"/a/b?c=d&e", b"/%41%2f?%3f", b"//x", b"/a?b?c", b'/|"<>\\^`{}[]', b"/?"],
    *[b"http://h/p?q", b"HTTPS://h:8443", b"http://h?q", b"http://[::1]:80/x", b"http://a_b.c/"],
]
ODD_TARGETS = [
    *[b"*", b"a", b"?q", b"", b"h:80", b"/a#b", b"/a b", b"/\x7f", b"/\x80", b"/\t", b"/a\x00b"],
    *[b"http:///p", b"http://u@h/", b"ftp://h/", b"http:/h", b"http://h:x/", b"http://a,b/"],
    *[b"*a", b"http://h#f", b"http://%zz/", b"http://[::g]/", b"http://h:99999/", b"/\xc3\xa9"],
]
VERSIONS = [b"HTTP/1.1"] * 12 + [b"HTTP/1.0"] * 4
ODD_VERSIONS = [
    *[b"HTTP/2.0", b"HTTP/0.9", b"HTTP/1.2", b"HTTP/1.10", b"HTTP/11", b"http/1.1", b"HTTP/1", b""],
    *[b"HTTP/1.1 ", b"HTTP/ 1.1", b"ICE/1.0", b"RTSP/1.0", b"HTTP/1,1", b"HTTP/3.0", b"HTTP/1.1\t"],
]
HOSTS = [b"h"] * 6 + [
    *[b"example.com:8080", b"[::1]", b"127.0.0.1:1", b"", b"a-b_c", b"h:"],
    *[b"a b", b"a/b", b"u@a", b"a,b", b"h:x", b"[::1", b"\xe9", b"h:80:80", b"x" * 300, b"[v1.a]"],
]
LENGTHS = [b"+3", b"-3", b"3,3", b"3 3", b"0x3", b"", b"3.0", b"1e1", b"\xb3", b"9" * 18, b"9" * 19]
CODINGS = [
    *[b"Chunked", b"CHUNKED", b"gzip", b"gzip, chunked", b"chunked, chunked", b"chunked, gzip"],
    *[b"identity", b"xchunked", b"chunked;a=b", b",chunked", b"chunked,", b"", b"\x0bchunked"],
    *[b"chun ked", b"deflate", b"foo", b"foo, chunked", b'"chunked"'],
]
CONNECTIONS = [
    *[b"close", b"keep-alive", b"foo, close", b"close, keep-alive", b"Keep-Alive", b"upgrade"],
    *[b"", b",", b"close;a", b"CLOSE\t,x", b"clos", b"closed", b"TE, close", b"upgrade, close"],
]
EXPECTATIONS = [
    b"100-continue",
    b"100-Continue",
    b"100-continue, x",
    b"",
    b"200-ok",
    b"100-continue;q",
]
PLAIN_FIELDS = [
    *[(b"Accept", b"*/*"), (b"Cookie", b"a=b; c=d"), (b"X-A", b""), (b"x_b", b"1"), (b"X-A", b"2")],
    *[(b"X-Obs", b"caf\xe9\xff"), (b"X-Tab", b"a\tb"), (b"Upgrade", b"websocket"), (b"TE", b"x")],
    *[(b"Proxy-Connection", b"close"), (b"Content_Length", b"5"), (b"X-Long", b"v" * 150)],
    *[(b"!#$%&'*+-.^_`|~9", b"odd name"), (b"Keep-Alive", b"timeout=5"), (b"Trailer", b"X-T")],
]
ODD_LINES = [
    *[
        b" folded: yes",
        b"\tfolded",
        b"no colon",
        b": no name",
        b"Blank : x",
        b"Tab\t: x",
        b"A\x00: x",
    ],
    *[
        b"Ctl: \x01",
        b"Del: \x7f",
        b"Cr: a\rb",
        b"Lf: a\nb",
        b"Nul: a\x00",
        b"\xc3\xa9: x",
        b"A(b): x",
    ],
    *[b"Vt: a\x0bb", b"Ff: \x0ca", b"\x85: x", b"@: x", b'"q": x', b"Host", b"Transfer-Encoding"],
]
LINE_ENDS = [b"\n", b"\r", b"\r\r\n", b"\n\r", b"", b"\r\n\r\n", b" \r\n", b"\x00\r\n"]
SIZES = [b"0x3", b"+3", b"-1", b"", b" 3", b"3 ", b"g", b"f" * 15, b"f" * 16, b"0" * 16, b"3_0"]
EXTENSIONS = [
    *[b";a", b";a=b", b" ; a = b", b';a="b;c\\"\\\\"', b";a=b;c=d", b"\t;\ta"],
    *[
        b";",
        b";a=",
        b";=b",
        b" ",
        b"; a ",
        b';a="',
        b";a\x00",
        b";a=\x7f",
        b"a",
        b";a=b c",
        b';a="\x01"',
    ],
    *[b";" + b"e" * 1100],
]
NASTY = [
    b"\x00",
    b"\t",
    b"\n",
    b"\r",
    b" ",
    b":",
    b",",
    b";",
    b"\x7f",
    b"\x80",
    b"\xff",
    b"a",
    b"0",
    b"#",
]


def make_stream(rng: Random) -> bytes:
    """One to four requests in a row, whole or spoilt, perhaps with a ragged end."""
    requests = []
    for _ in range(rng.choice((1, 1, 2, 2, 3, 4))):
        if rng.random() < 0.1:
            requests.append(b"\r\n" * rng.choice((1, 1, 1, 2)))
        requests.append(_request(rng))
    stream = b"".join(requests)
    if rng.random() < 0.3:
        stream = _spoil(rng, stream)
    if rng.random() < 0.1:
        stream = stream[: rng.randrange(len(stream) + 1)]
    return stream


def cut(rng: Random, stream: bytes) -> list[bytes]:
    """The stream in pieces, none of them empty: single bytes, a few cuts, or many."""
    if rng.random() < 0.15:
        return [stream[index : index + 1] for index in range(len(stream))]
    count = min(rng.choice((1, 1, 2, 3, 10)), max(0, len(stream) - 1))
    places = sorted(rng.sample(range(1, len(stream)), count)) if count else []
    return [
        stream[start:end] for start, end in zip([0, *places], [*places, len(stream)]) if start < end
    ]


def _odd(rng: Random, usual: list[bytes], odd: list[bytes], share: float = 0.02) -> bytes:
    return rng.choice(odd if rng.random() < share else usual)


def _request(rng: Random) -> bytes:
    minor_version = _odd(rng, VERSIONS, ODD_VERSIONS)
    space = b" " if rng.random() > 0.01 else rng.choice((b"  ", b"\t", b"\x0b", b""))
    start = _odd(rng, METHODS, ODD_METHODS) + space + _odd(rng, TARGETS, ODD_TARGETS, 0.04)
    fields = []
    if rng.random() > 0.03:
        fields.append((b"Host", rng.choice(HOSTS[:12] if rng.random() > 0.05 else HOSTS)))
    count = rng.choice((0, 1, 1, 2, 3, 14 if rng.random() < 0.1 else 4))
    fields += [rng.choice(PLAIN_FIELDS) for _ in range(count)]
    if rng.random() < 0.25:
        fields.append((b"Connection", rng.choice(CONNECTIONS)))
    if rng.random() < 0.08:
        fields.append(
            (b"Expect", rng.choice(EXPECTATIONS if rng.random() < 0.3 else [b"100-continue"]))
        )
    body = _body(rng, fields)
    if rng.random() < 0.02:
        fields.append(rng.choice(fields or [(b"Host", b"h")]))
    rng.shuffle(fields)
    lines = [start + b" " + minor_version, *(_field_line(rng, *field) for field in fields)]
    if rng.random() < 0.03:
        lines.insert(rng.randrange(1, len(lines) + 1), rng.choice(ODD_LINES))
    if rng.random() < 0.03:
        lines.insert(rng.randrange(len(lines) + 1), rng.choice(lines))
    return b"".join(line + _line_end(rng) for line in [*lines, b""]) + body


def _field_line(rng: Random, name: bytes, value: bytes) -> bytes:
    if rng.random() < 0.15:
        name = rng.choice((name.lower(), name.upper(), name.swapcase()))
    before = rng.choice((b"", b"  ", b"\t", b" \t ")) if rng.random() < 0.1 else b" "
    after = rng.choice((b" ", b"\t", b" \t ")) if rng.random() < 0.1 else b""
    return name + b":" + before + value + after


def _line_end(rng: Random) -> bytes:
    return b"\r\n" if rng.random() > 0.004 else rng.choice(LINE_ENDS)


def _body(rng: Random, fields: list[tuple[bytes, bytes]]) -> bytes:
    """A body, with the fields that announce it added; now and then they do not fit."""
    kind = rng.random()
    data = bytes(rng.choice(b"abc\r\n0\x00") for _ in range(rng.choice((0, 1, 3, 10, 40))))
    length = (b"Content-Length", b"%d" % len(data))
    if kind < 0.5:
        return b""
    if kind < 0.72:
        if rng.random() < 0.06:
            length = (b"Content-Length", rng.choice(LENGTHS))
        elif rng.random() < 0.05:
            length = (b"Content-Length", b"00%d" % len(data))
        fields.append(length)
        return data
    coding = rng.choice(CODINGS) if rng.random() < 0.08 else b"chunked"
    fields.append((b"Transfer-Encoding", coding))
    if rng.random() < 0.04:
        fields.append(rng.choice((length, (b"Transfer-Encoding", b"chunked"))))
    return _chunks(rng, data)


def _chunks(rng: Random, data: bytes) -> bytes:
    pieces = []
    while data:
        size = rng.randint(1, len(data))
        digits = rng.choice((b"%x", b"%X", b"0%x", b"%04x")) % size
        pieces.append(_odd(rng, [digits], SIZES, 0.01))
        if rng.random() < 0.1:
            pieces.append(rng.choice(EXTENSIONS[:6] if rng.random() < 0.7 else EXTENSIONS))
        pieces += [_line_end(rng), data[:size], _line_end(rng)]
        data = data[size:]
    pieces += [_odd(rng, [b"0", b"0", b"000"], SIZES, 0.01), _line_end(rng)]
    for _ in range(rng.choice((0, 0, 0, 0, 1, 2))):
        line = _field_line(rng, *rng.choice(PLAIN_FIELDS[:6]))
        if rng.random() < 0.1:
            line = rng.choice([*ODD_LINES, b"Content-Length: 3", b"host: x", b"Trailer: x"])
        pieces += [line, _line_end(rng)]
    return b"".join([*pieces, _line_end(rng)])


def _spoil(rng: Random, stream: bytes) -> bytes:
    spoilt = bytearray(stream)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at = rng.randrange(len(spoilt) + 1)
        action = rng.randrange(4)
        if action == 0:
            spoilt[at:at] = rng.choice(NASTY)
        elif action == 1:
            del spoilt[at : at + rng.choice((1, 1, 2, 7))]
        elif action == 2:
            spoilt[at : at + 1] = rng.choice(NASTY)
        else:
            spoilt[at:at] = spoilt[at : at + rng.choice((1, 2, 20))]
    return bytes(spoilt)
