"""httpbin, in a release that other packages of the tests' environment leave to be installed.

httpbin 0.10.2 wants greenlet below 3, playwright and gevent want 3 and more; 0.10.0 asks Werkzeug for
a function that has since become a method.
"""

from __future__ import annotations

import werkzeug.http
from werkzeug.datastructures import Authorization

if not hasattr(werkzeug.http, "parse_authorization_header"):
    werkzeug.http.parse_authorization_header = Authorization.from_header  # type: ignore[attr-defined]

from httpbin import app

__all__ = ["app"]
