"""A Falcon application: resources with methods."""

from __future__ import annotations

import falcon


class Hello:
    """Greets by name."""

    def on_get(self, _req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """Answer."""
        resp.content_type = falcon.MEDIA_TEXT
        resp.text = f"Hello, {name}!"


class Upload:
    """Takes a form with a file."""

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Tell the file's size."""
        for part in req.get_media():
            resp.media = {"size": len(part.stream.read())}


app = falcon.App()
app.add_route("/hello/{name}", Hello())
app.add_route("/upload", Upload())
