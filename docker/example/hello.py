"""The application of the example: plain WSGI, with a counter of its own on the metrics page."""

from prometheus_client import Counter

GREETINGS = Counter("hello_greetings_total", "Greetings given.")


def app(environ, start_response):
    """Greet."""
    GREETINGS.inc()
    body = b"Hello from a container!\n"
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
