"""The grammar of HTTP/1.1 heads as regular expressions and tables, each beside its RFC rule.

Data only: what a line is made of is said here, what becomes of one that is not is decided in
`lines` and `screen`. Every expression is matched against one line of bounded length and none
can backtrack further than that line.
"""

from __future__ import annotations

import re
from typing import Final

# RFC 9110 5.6.2. Field names and methods are tokens.
TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
TOKEN_ONLY: Final = re.compile(TOKEN)
TOKEN_BYTES: Final = frozenset(byte for byte in range(256) if TOKEN_ONLY.match(bytes([byte])))

# RFC 9112 3.2 with RFC 3986: visible ASCII. More than URI characters, because clients send
# them raw ("|", quotes) and both parsers take them; applications decode paths anyway. Not "#":
# a fragment is never sent, and two readers may disagree about where the path ends.
TARGET: Final = re.compile(rb"[!-\"$-~]+")

# RFC 9112 2.3: one digit on each side, upper case.
VERSION: Final = re.compile(rb"HTTP/([0-9])\.([0-9])")

# RFC 9112 5 with RFC 9110 5.5: no blank before the colon, no control byte but HTAB, obs-text
# allowed. Blanks around the value are stripped afterwards: an expression that also did that
# could share a run of them out in many ways, and take quadratic time to find none fits.
FIELD_LINE: Final = re.compile(rb"(" + TOKEN + rb"):([\t -~\x80-\xff]*)")
BLANKS: Final = b" \t"

# RFC 3986 3.2.2 and 3.2.3 without user information (RFC 9110 4.2.4 and 7.2). No comma,
# although a reg-name may hold one: it is what two Host fields look like once an intermediary
# has joined them. What stands in brackets is checked as an IPv6 address by its user.
_REG_NAME = rb"(?:[A-Za-z0-9\-._~!$&'()*+;=]|%[0-9A-Fa-f]{2})+"
AUTHORITY: Final = re.compile(
    rb"(?:" + _REG_NAME + rb"|\[([0-9A-Fa-f:.]{2,45})\])(?::([0-9]{0,5}))?"
)
# 253 is the longest name DNS can hold, the rest is a port; also keeps the cache of them small.
AUTHORITY_BYTES: Final = 255 + len(":65535")

# RFC 9110 8.6. 18 digits are an exabyte short of overflowing 64 bits, here and in llhttp.
CONTENT_LENGTH: Final = re.compile(rb"[0-9]{1,18}")

# RFC 9112 7.1. 15 digits stay inside 60 bits; leading zeros are counted as digits.
CHUNK_SIZE: Final = re.compile(rb"[0-9A-Fa-f]{1,15}")
# RFC 9112 7.1.1, blanks (BWS) around ";" and "=" as a recipient must take them, none at the end.
_QUOTED = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*"'
CHUNK_EXTENSIONS: Final = re.compile(
    rb"(?:[ \t]*;[ \t]*" + TOKEN + rb"(?:[ \t]*=[ \t]*(?:" + TOKEN + rb"|" + _QUOTED + rb"))?)+"
)

# What llhttp calls HTTP methods, less CONNECT (a WSGI server is no tunnel) and PRI (HTTP/2).
# A method outside this list is answered 501 by both parsers.
_METHODS = (
    "ACL BIND CHECKOUT COPY DELETE GET HEAD LINK LOCK M-SEARCH MERGE MKACTIVITY MKCALENDAR MKCOL"
    " MOVE NOTIFY OPTIONS PATCH POST PROPFIND PROPPATCH PURGE PUT QUERY REBIND REPORT SEARCH"
    " SOURCE SUBSCRIBE TRACE UNBIND UNLINK UNLOCK UNSUBSCRIBE"
)
METHODS: Final = frozenset(_METHODS.split())

# Transfer codings of the IANA registry that this server does not undo (RFC 9112 7.2).
OTHER_CODINGS: Final = frozenset(
    (b"gzip", b"x-gzip", b"deflate", b"compress", b"x-compress", b"identity")
)

# RFC 9112 6.1 and 6.2.
FRAMING_FIELDS: Final = frozenset((b"content-length", b"transfer-encoding"))

# RFC 9110 6.5.1: fields that say how the message is framed or routed have no meaning once its
# body has gone by; found in a trailer they are an attempt to have two readers disagree.
NOT_IN_TRAILERS: Final = FRAMING_FIELDS | {b"host", b"trailer"}
