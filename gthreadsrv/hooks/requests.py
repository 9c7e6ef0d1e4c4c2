"""`req` and `resp`: what pre_request and post_request look at.

Made for each request, in its thread, while one of the two hooks is set; never otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gthreadsrv.http.request import RequestHead


class Request:
    """A request, by gunicorn's attributes. Both hooks get the same one, and may add to it."""

    def __init__(self, head: RequestHead, environ: dict[str, Any]) -> None:
        self.method = head.method
        self.uri = head.target
        self.path = head.path
        self.query = head.query
        self.fragment = ""
        self.version = (1, head.minor)
        self.headers = [
            (name.decode("latin-1").upper(), value.decode("latin-1"))
            for name, value in head.headers
        ]
        self.trailers: list[tuple[str, str]] = []
        self.body = environ["wsgi.input"]
        self.scheme = environ["wsgi.url_scheme"]
        self.remote_addr = (environ["REMOTE_ADDR"], environ["REMOTE_PORT"])
        self.peer_addr = self.remote_addr
        self._came = len(self.headers)

    def added(self) -> list[tuple[str, str]]:
        """Fields that a hook has put after those that came."""
        return self.headers[self._came :]

    def should_close(self) -> bool:
        """Whether the client asked for the connection's end."""
        fields = dict(self.headers)
        word = fields.get("CONNECTION", "").lower().strip()
        return word == "close" or (self.version == (1, 0) and word != "keep-alive")


class Response:
    """A response, as far as it has come when post_request is called."""

    def __init__(
        self,
        status: str,
        headers: list[tuple[str, str]],
        sent: int,
        version: tuple[int, int],
        *,
        headers_sent: bool,
    ) -> None:
        self.status = status or None
        self.status_code = int(status[:3]) if status[:3].isdecimal() else None
        self.headers = headers
        self.sent = sent
        self.version = version
        self.headers_sent = headers_sent
        lengths = [value for name, value in headers if name.lower() == "content-length"]
        self.response_length = (
            int(lengths[-1]) if lengths and lengths[-1].strip().isdecimal() else None
        )
