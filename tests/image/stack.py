"""The compose stack, run with what can be had without a registry of images.

Debian's nginx and Prometheus stand in under the names of the images that compose.yaml asks for.
There is no such thing for Grafana, which is left out.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.image.engine import BASE, ROOT, Engine, run

FILE = ROOT / "docker" / "compose.yaml"
SERVED = ("app", "nginx", "prometheus", "load")
PROJECT = "gthreadsrvtest"

_INSTALL = "RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends {}\n"
STAND_INS = {
    "nginx": _INSTALL.format("nginx-light")
    + 'USER 33:33\nENTRYPOINT []\nCMD ["nginx", "-g", "daemon off;"]\n',
    "prometheus": _INSTALL.format("prometheus")
    + "RUN mkdir /prometheus && chown 65534:65534 /prometheus\n"
    + 'USER 65534:65534\nENTRYPOINT ["/usr/bin/prometheus"]\n',
}


def services() -> dict[str, Any]:
    """The services of the committed file."""
    return yaml.safe_load(FILE.read_text())["services"]


def stand_ins(engine: Engine) -> None:
    """Build an image for each name."""
    for service, lines in STAND_INS.items():
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "Dockerfile").write_text(f"FROM {BASE}\n{lines}")
            engine.build(Path(folder), services()[service]["image"])


class Stack:
    """The running stack."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def compose(self, *arguments: str, timeout_s: float = 180) -> str:
        """One command of docker-compose."""
        command = ["docker-compose", "--project-name", PROJECT, "--file", str(FILE)]
        return run([*command, "--profile", "load", *arguments], timeout_s, env=self.engine.environ)

    def up(self, *options: str) -> None:
        """Start what is not there yet."""
        self.compose("up", "--detach", "--no-build", *options, *SERVED)

    def containers(self, service: str) -> list[str]:
        """The containers of one service."""
        return self.compose("ps", "--quiet", service).split()


@contextlib.contextmanager
def stack(engine: Engine) -> Iterator[Stack]:
    """The stack, taken down at the end with its volumes and networks."""
    one = Stack(engine)
    try:
        one.up()
        yield one
    finally:
        one.compose("down", "--volumes", "--timeout", "40")
