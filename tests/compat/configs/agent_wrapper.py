"""An agent that wraps the application once it is there."""

workers = 1
threads = 2


def post_worker_init(worker):
    from compat_app import traced

    worker.wsgi = traced(worker.wsgi)


def pre_request(worker, req):
    req.headers.append(("X-ADDED", "by a hook"))
