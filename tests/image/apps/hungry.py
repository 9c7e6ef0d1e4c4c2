"""An application that takes the memory it is asked for."""

import time

KEPT = []


def app(environ, start_response):
    """/eat?MB holds that many megabytes for ever; /slow?MS waits; anything else answers at once."""
    path, query = environ["PATH_INFO"], environ["QUERY_STRING"]
    if path == "/eat":
        KEPT.append(b"x" * (int(query) << 20))
    elif path == "/slow":
        time.sleep(int(query) / 1000)
    body = path.encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
