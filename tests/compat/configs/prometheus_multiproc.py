"""The Prometheus client's own advice for several processes."""

from prometheus_client import multiprocess

workers = 1
threads = 2


def child_exit(server, worker):
    multiprocess.mark_process_dead(worker.pid)
    server.log.info("marked dead %s", worker.pid)
