"""The time of each request in the log, and a worker that leaves when it has grown too large."""

import time

workers = 1
threads = 1
errorlog = "-"
loglevel = "debug"


def pre_request(worker, req):
    req.started = time.time()
    worker.log.debug("%s %s", req.method, req.path)


def post_request(worker, req, environ, resp):
    total = time.time() - req.started
    worker.log.info("%s: [%s] %s took %.6f", worker.pid, req.method, req.path, total)
    if req.path == "/grown":
        worker.alive = False
