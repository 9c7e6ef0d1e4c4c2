"""Takes the picture of the live page in metrics/screenshots: two minutes of a server's life.

    python -m tests.bench.live_picture [--seconds 120]

A quiet server, more and more to do for it, a reload in the middle, and in the end more requests
than threads, two of which have run for long. `make screenshots` runs it; it needs Chromium, and
playwright and Pillow from PyPI.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from grafana.pictures.__main__ import squeeze
from tests.system.chromium import Visit, chromium
from tests.system.client import ClosedError
from tests.system.conftest import Servers
from tests.system.harness import Server

PICTURE = Path(__file__).parents[2] / "metrics" / "screenshots" / "live.png"
WORKERS, THREADS = 3, 8
# What is asked, by how many, with what pause, from which share of the time on.
STORY = (
    ("/fast", 2, 0.02, 0.0),
    ("/slow?ms=120", 4, 0.05, 0.0),
    ("/slow?ms=200", 8, 0.02, 0.35),
    ("/fail", 1, 1.0, 0.5),
    ("/cpu?ms=30", 1, 0.1, 0.5),
    ("/slow?ms=250", 22, 0.0, 0.7),
    ("/slow?ms=19000", 2, 0.0, 0.9),
)


@contextlib.contextmanager
def told(server: Server, seconds: float) -> Iterator[None]:
    """The story's clients; inside, it has come to its end and still goes on."""
    done = threading.Event()

    def ask(target: str, pause_s: float, begins: float) -> None:
        done.wait(begins * seconds)
        while not done.wait(pause_s):
            with contextlib.suppress(OSError, ClosedError, AssertionError):
                server.get(target)

    clients = [
        threading.Thread(target=ask, args=(target, pause_s, begins), daemon=True)
        for target, count, pause_s, begins in STORY
        for _ in range(count)
    ]
    for client in clients:
        client.start()
    try:
        time.sleep(seconds * 0.55)
        server.send_signal(signal.SIGHUP)
        time.sleep(seconds * 0.45)
        yield
    finally:
        done.set()


def look(browser: Any, server: Server, **options: Any) -> Visit:
    """The page, open."""
    visit = Visit(browser, **options)
    visit.page.goto(f"{server.metrics_url}/")
    return visit


def main() -> int:
    """Take the picture; 1 when the page complained."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=125.0)
    parser.add_argument("--all", type=Path, help="also dark and narrow ones, to this folder")
    options = parser.parse_args()
    PICTURE.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        servers = Servers(Path(folder))
        try:
            server = servers(
                "gthreadsrv.demo:app", "--timeout", "20", workers=WORKERS, threads=THREADS,
                metrics=True, allow_errors=True,
            )  # fmt: skip
            server.wait_ready()
            size = {"width": 1280, "height": 800}
            visit = look(browser, server, viewport=size, color_scheme="light")
            with told(server, options.seconds):
                visit.page.screenshot(path=PICTURE, full_page=True)
                for scheme in ("light", "dark") if options.all else ():
                    for width in (1280, 400):
                        visit.page.emulate_media(color_scheme=scheme)
                        visit.page.set_viewport_size({"width": width, "height": 800})
                        path = options.all / f"live-{scheme}-{width}.png"
                        visit.page.screenshot(path=path, full_page=True)
        finally:
            servers.kill()
    squeeze(PICTURE)
    sys.stdout.write(f"{PICTURE.name}: {PICTURE.stat().st_size} bytes\n")
    # The exporter is replaced in the reload: one answer may be late for it.
    faults = [one for one in visit.complaints if "Failed to load resource" not in one]
    sys.stderr.write("".join(f"{fault}\n" for fault in faults))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
