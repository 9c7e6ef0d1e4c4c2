"""The live page's three files, and the fields they are served with.

Read when the exporter starts, so that page and data are of one version whatever is installed
meanwhile. Plain files, no build step; the page needs nothing from anywhere else, and its policy
lets it reach nothing else.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import Final

__all__ = ["POLICY", "PageFile", "page_files"]

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_FILES: Final = (
    ("/", "live.html", "text/html; charset=utf-8"),
    ("/live.css", "live.css", "text/css; charset=utf-8"),
    ("/live.js", "live.js", "text/javascript; charset=utf-8"),
)


@dataclass(frozen=True, slots=True)
class PageFile:
    """One file as it is served."""

    body: bytes
    etag: str
    headers: tuple[tuple[str, str], ...]

    def is_known(self, if_none_match: str) -> bool:
        """Whether a client that sent this field has the file (RFC 9110 section 13.1.2)."""
        known = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
        return self.etag in known or "*" in known


def page_files() -> dict[str, PageFile]:
    """Return path -> file."""
    # importlib.resources would bring zipfile and more: 800 KiB of the exporter.
    folder = os.path.join(os.path.dirname(__file__), "web")
    found = {}
    for path, name, content_type in _FILES:
        with open(os.path.join(folder, name), "rb") as file:
            body = file.read()
        etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
        headers = (
            ("Content-Type", content_type),
            ("Content-Security-Policy", POLICY),
            ("X-Content-Type-Options", "nosniff"),
            ("Referrer-Policy", "no-referrer"),
            # Kept, and asked about each time: the next version is seen at once.
            ("Cache-Control", "no-cache"),
            ("ETag", etag),
        )
        found[path] = PageFile(body, etag, headers)
    return found
