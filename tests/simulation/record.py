"""Records how long the demo's requests hold a thread: what service_times.json was made by.

    python -m tests.simulation.record [--seconds 300] [--into FILE]

A real server with the demo, 2 workers of 3 threads, is asked by docker/load.py as the compose stack
is: the same routes in the same shares, 100 requests a second on the mean. What its access log says
of their durations is boiled down to 500 quantiles. On a machine that has other things to do requests
take longer, and everything that is computed from the file with them: after recording anew, run
`make simulate-pods SIMULATE=--write` and read docker/SCALING.md again.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Final

from tests.simulation.queueing import RECORDED
from tests.system.conftest import Servers
from tests.system.harness import Server

WORKERS: Final = 2
THREADS: Final = 3
RATE: Final = 100.0
CLIENTS: Final = 64
QUANTILES: Final = 500
WAVE_S: Final = 300.0
"""One of docker/load.py's waves: shorter, and the busy or the quiet half is left out."""

WHAT: Final = (
    "Durations of the demo's requests as docker/load.py asks for them (its routes in their shares, "
    f"{RATE:g} requests a second), from the access log of one server with {WORKERS} workers of "
    f"{THREADS} threads: {QUANTILES} quantiles."
)


def load_script() -> ModuleType:
    """The compose stack's load generator, which is a script and in no package."""
    path = Path(__file__).parents[2] / "docker" / "load.py"
    spec = importlib.util.spec_from_file_location("load_script", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def durations_ms(lines: Iterable[str]) -> Iterator[float]:
    """What an access log in JSON says of each request."""
    for line in lines:
        yield 1000 * float(json.loads(line)["duration"])


def quantiles(values: Iterable[float]) -> list[float]:
    """The middles of so many equal parts of what was seen, so that their mean is its mean."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("no request was logged")
    last = len(ordered) - 1
    places = ((part + 0.5) / QUANTILES * len(ordered) for part in range(QUANTILES))
    return [round(ordered[min(int(place), last)], 3) for place in places]


def record(seconds: float, folder: Path) -> list[float]:
    """Serve and ask for so long; the quantiles, in milliseconds."""
    log = folder / "access.log"
    servers = Servers(folder)
    try:
        server = servers(
            "gthreadsrv.demo:app", "--access-logfile", str(log), "--access-logformat", "json",
            workers=WORKERS, threads=THREADS, allow_errors=True,  # /fail does
        )  # fmt: skip
        server.wait_workers(WORKERS)
        _ask(server, seconds)
        servers.finish()
    finally:
        servers.kill()
    return quantiles(durations_ms(log.read_text().splitlines()))


def _ask(server: Server, seconds: float) -> None:
    host, _, port = server.address.removeprefix("tcp://").rpartition(":")
    load_script().run(host, int(port), RATE, CLIENTS, seconds, threading.Event())


def text(milliseconds: Sequence[float]) -> str:
    """The file."""
    return json.dumps({"what": WHAT, "milliseconds": list(milliseconds)}) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tool."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.record")
    parser.add_argument("--seconds", type=float, default=WAVE_S, help="how long [%(default)g]")
    parser.add_argument("--into", type=Path, default=RECORDED, help="file [%(default)s]")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        found = record(options.seconds, Path(folder))
    options.into.write_text(text(found))
    print(f"{options.into}: mean {sum(found) / len(found):.1f} ms")
    return 0


if __name__ == "__main__":
    sys.exit(main())
