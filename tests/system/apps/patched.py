"""An application whose first line is the one that the libraries' own documents ask for."""

# ruff: noqa: E402, I001 - that is the point

import os

if os.environ["LIBRARY"] == "gevent":
    from gevent import monkey

    monkey.patch_all()
else:
    import eventlet

    eventlet.monkey_patch()

from greenlets import app

__all__ = ["app"]
