"""Tracing and error reporting libraries start their threads after the fork."""

preload_app = True
workers = 1
threads = 2


def post_fork(server, worker):
    server.log.info("Worker spawned (pid: %s)", worker.pid)
    from compat_app import connect, trace

    trace()
    # Sessions that were opened before the fork are not to be shared.
    connect()


def pre_fork(server, worker):
    pass


def when_ready(server):
    server.log.info("Server is ready. Spawning workers")


def worker_int(worker):
    worker.log.info("worker received INT or QUIT signal")

    import sys
    import threading
    import traceback

    names = {thread.ident: thread.name for thread in threading.enumerate()}
    code = []
    for ident, stack in sys._current_frames().items():
        code.append(f"\n# Thread: {names.get(ident, '')}({ident})")
        for filename, number, name, line in traceback.extract_stack(stack):
            code.append(f'File: "{filename}", line {number}, in {name}')
            if line:
                code.append(f"  {line.strip()}")
    worker.log.debug("\n".join(code))


def worker_abort(worker):
    worker.log.info("worker received SIGABRT signal")
