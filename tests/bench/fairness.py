"""Fairness: a burst of new connections, as many as there are threads, starts at once.

    python -m tests.bench.fairness [--rounds 20] [--workers 4] [--threads 2]

Each round opens one new connection per thread at the same moment, each with a request
that holds its thread for 0.3 s.  If a request waits behind a busy worker while another
worker is free, the round's slowest request takes twice as long.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from pathlib import Path

from tests.system.client import Connection, build_request
from tests.system.harness import open_socket, running

LIMIT_S = 0.40


def burst(address: str, requests: int, hold_s: float) -> float:
    """Send that many requests at once on new connections; the slowest one's seconds."""
    barrier = threading.Barrier(requests)
    # Made beforehand: what lies between connect and send should be as short as can be.
    request = build_request("GET", f"/sleep?s={hold_s}", {"Connection": "close"})
    durations: list[float] = []

    def client() -> None:
        barrier.wait()
        started = time.monotonic()
        with Connection(open_socket(address)) as connection:
            connection.send(request)
            if connection.response().status == 200:
                durations.append(time.monotonic() - started)

    clients = [threading.Thread(target=client) for _ in range(requests)]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join()
    assert len(durations) == requests, f"{requests - len(durations)} requests failed"
    return max(durations)


def main() -> int:
    """Run the rounds on TCP and on a unix socket; 1 when a round was too slow."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--hold", type=float, default=0.3, metavar="SECONDS")
    options = parser.parse_args()
    limit_s = options.hold + LIMIT_S - 0.3
    fair = True
    with tempfile.TemporaryDirectory() as folder:
        for bind in ("127.0.0.1:0", f"unix:{folder}/web.sock"):
            with running(
                "behaviours:app",
                cwd=Path(folder),
                bind=(bind,),
                workers=options.workers,
                threads=options.threads,
            ) as server:
                server.wait_workers(options.workers)
                requests = options.workers * options.threads
                slowest = [
                    burst(server.address, requests, options.hold) for _ in range(options.rounds)
                ]
            good = sum(value < limit_s for value in slowest)
            fair = fair and good == options.rounds
            print(
                f"{bind.partition(':')[0] if bind.startswith('unix') else 'tcp':4}  "
                f"{good}/{options.rounds} rounds under {limit_s:.2f} s; slowest request: "
                f"mean {sum(slowest) / len(slowest):.3f} s, worst {max(slowest):.3f} s"
            )
    return 0 if fair else 1


if __name__ == "__main__":
    sys.exit(main())
