"""An agent that wraps a preloaded application in the master."""

preload_app = True
workers = 1
threads = 2


def when_ready(server):
    from compat_app import traced

    server.app.callable = traced(server.app.callable)
