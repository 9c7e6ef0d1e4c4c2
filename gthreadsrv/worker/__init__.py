"""One worker process: connections, the thread pool, the watchdog, the drain."""
