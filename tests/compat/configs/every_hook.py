"""Every hook, recording when and where it was called."""

import os

workers = 1
threads = 2
graceful_timeout = 5
_record = os.environ["RECORD"]


def _note(name, *words):
    with open(_record, "a") as file:
        file.write(" ".join([name, str(os.getpid()), *map(str, words)]) + "\n")


def nworkers_changed(server, new_value, old_value):
    _note("nworkers_changed", new_value, old_value)


def on_starting(server):
    _note("on_starting", server.pid == os.getpid(), len(server.WORKERS), server.cfg.threads)


def when_ready(server):
    _note("when_ready", len(server.WORKERS), server.num_workers)


def on_reload(server):
    _note("on_reload", len(server.WORKERS))


def pre_fork(server, worker):
    _note("pre_fork", worker.pid, worker.age)


def post_fork(server, worker):
    _note("post_fork", worker.pid == os.getpid(), worker.ppid == server.pid)
    worker.tmp.notify()


def post_worker_init(worker):
    _note("post_worker_init", worker.alive, worker.wsgi is not None)


def worker_int(worker):
    _note("worker_int", worker.pid == os.getpid())


def worker_abort(worker):
    _note("worker_abort", worker.pid == os.getpid())


def pre_request(worker, req):
    req.seen = worker.nr
    _note("pre_request", req.method, req.path, req.query, req.version)


def post_request(worker, req, environ, resp):
    _note("post_request", environ["PATH_INFO"], str(resp.status)[:3], hasattr(req, "seen"))


def worker_exit(server, worker):
    _note("worker_exit", worker.pid == os.getpid())


def child_exit(server, worker):
    _note("child_exit", worker.pid != os.getpid(), worker.pid in server.WORKERS)


def pre_exec(server):
    _note("pre_exec", os.getppid() == server.pid)


def on_exit(server):
    _note("on_exit", len(server.WORKERS))
