"""What both programs, the benchmark and the scaling, do before and after they measure."""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.peers.environment import (
    ROOT,
    VENV,
    Installed,
    SetupError,
    describe,
    install,
    interpreter,
    say,
)
from tests.bench.peers.running import Surroundings
from tests.bench.peers.workloads import LOAD_CORE

OUTPUT = ROOT / "build" / "bench"
FILE_BYTES = 100 * 1024 * 1024
# Ten thousand connections, the server's own files, and a margin.
DESCRIPTORS = 12_000


@dataclass(frozen=True)
class Session:
    """Ready to measure."""

    around: Surroundings
    installed: Installed
    about: dict[str, str]


@contextmanager
def session(python: str | None, seconds: int) -> Iterator[Session]:
    """Check the machine, install, and make room for one run of a program."""
    for program in ("wrk", "taskset"):
        if not shutil.which(program):
            raise SetupError(f"{program} is not installed: run `make bench-deps`")
    if len(os.sched_getaffinity(0)) <= LOAD_CORE:
        raise SetupError("two cores are needed: one for the server, one for the load")
    chosen = interpreter(python)
    if not chosen.optimised:
        say(f"warning: {chosen}; name a better one with --python")
    installed = install(chosen)
    about = {"date": dt.date.today().isoformat(), **describe(chosen, installed)}
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < DESCRIPTORS:
        say(f"warning: only {hard} descriptors (ulimit -Hn): 10,000 connections will not fit")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    # The clients written in Python stay off the server's core, as wrk does.
    os.sched_setaffinity(0, {LOAD_CORE})
    with tempfile.TemporaryDirectory() as folder:
        big_file = Path(folder) / "big"
        big_file.write_bytes(bytes(FILE_BYTES))
        yield Session(
            Surroundings(installed.programs, Path(folder), big_file, seconds), installed, about
        )


def options(description: str | None) -> argparse.ArgumentParser:
    """What both take."""
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="short: to see that it works")
    parser.add_argument("--seconds", type=int, default=3, help="of load in each run")
    parser.add_argument("--minutes", type=float, default=25, help="begin no run after so long")
    parser.add_argument("--python", help="the interpreter that serves [an optimised one]")
    parser.add_argument(
        "--publish", action="store_true", help="write docs/ and the README, not only build/bench"
    )
    return parser


def check(parser: argparse.ArgumentParser, chosen: argparse.Namespace) -> None:
    """Refuse what makes no sense together."""
    if chosen.quick and chosen.publish:
        parser.error("--publish: numbers of a --quick run are not worth it")
    if chosen.seconds < 1:
        parser.error(f"--seconds {chosen.seconds}: must be 1 or more")


def words(parser: argparse.ArgumentParser, flag: str, text: str, known: list[str]) -> list[str]:
    """A list with commas, of these words only."""
    found = [word.strip() for word in text.split(",") if word.strip()]
    for word in found:
        if word not in known:
            parser.error(f"{flag}: there is no {word}; there are {', '.join(known)}")
    return found


def save(name: str, found: dict[str, Any], picture: Path) -> None:
    """Keep the numbers, and draw them."""
    OUTPUT.mkdir(parents=True, exist_ok=True)
    path = OUTPUT / f"{name}.json"
    path.write_text(json.dumps(found, indent=1))
    picture.parent.mkdir(exist_ok=True)
    done = subprocess.run(
        [VENV / "bin" / "python", "-m", "tests.bench.peers.plot", path, picture],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        say(f"no picture: {done.stderr.strip().splitlines()[-1]}")


def fail(error: Exception) -> int:
    """One line for people."""
    sys.stderr.write(f"bench: {error}\n")
    return 1
