"""The virtual environment in which everything that is compared runs, and what the machine is.

One interpreter serves all. It must be built with optimisation, or the table would compare what
nobody deploys: of the interpreters at hand the first such one is taken. Each server is installed by
itself, so that one that will not build is left out by name.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.bench.peers.servers import SERVERS

ROOT = Path(__file__).parents[3]
VENV = ROOT / ".venv-bench"
OLDEST = (3, 10)
REASON_LENGTH = 160
# For the applications, and for the plots.
COMMON = ("flask>=3.0", "django>=4.2", "matplotlib>=3.8")

QUESTION = """
import json, sys, sysconfig
print(json.dumps({
    "executable": sys.executable, "version": list(sys.version_info[:3]), "prefix": sys.base_prefix,
    "config": sysconfig.get_config_var("CONFIG_ARGS") or "",
}))
"""


class SetupError(Exception):
    """It cannot be made; the text tells what to do."""


@dataclass(frozen=True)
class Interpreter:
    """One Python."""

    executable: str
    version: tuple[int, ...]
    prefix: str
    config: str

    @property
    def optimised(self) -> bool:
        """Whether it was built with profile-guided optimisation.

        Distributions do that in their own build scripts, where CONFIG_ARGS does not show it.
        """
        return "--enable-optimizations" in self.config or self.prefix == "/usr"

    def __str__(self) -> str:
        """For people."""
        how = "optimised build" if self.optimised else "built WITHOUT optimisation"
        return f"CPython {'.'.join(map(str, self.version))} ({how})"


def inspect(executable: str) -> Interpreter | None:
    """Ask it; None when it is none."""
    try:
        done = subprocess.run(
            [executable, "-c", QUESTION], capture_output=True, text=True, check=True, timeout=30
        )
        found = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return Interpreter(
        found["executable"], tuple(found["version"]), found["prefix"], found["config"]
    )


def choose(candidates: Iterable[Interpreter | None]) -> Interpreter | None:
    """The first that is new enough and optimised, or else the first that is new enough."""
    usable = [found for found in candidates if found and found.version >= OLDEST]
    return next((found for found in usable if found.optimised), usable[0] if usable else None)


def interpreter(wanted: str | None) -> Interpreter:
    """The one that was asked for, or the best at hand."""
    if wanted:
        found = inspect(wanted)
        if found is None or found.version < OLDEST:
            raise SetupError(f"--python {wanted}: not a Python 3.10 or newer")
        return found
    own = getattr(sys, "_base_executable", sys.executable)
    names = [own, "/usr/bin/python3", shutil.which("python3")]
    found = choose(inspect(name) for name in dict.fromkeys(filter(None, names)))
    if found is None:
        raise SetupError("there is no Python 3.10 or newer; name one with --python")
    return found


@dataclass(frozen=True)
class Installed:
    """What there is to run."""

    programs: Path
    versions: Mapping[str, str]
    # Servers that could not be installed, with the reason.
    left_out: Mapping[str, str]


def install(python: Interpreter) -> Installed:
    """Make the environment, or take it as it is when nothing it is made of has changed."""
    stamp = VENV / "installed.json"
    wanted = fingerprint(python)
    if not stamp.exists() or json.loads(stamp.read_text())["made_of"] != wanted:
        say(f"installing servers in {VENV.name}, with {python}")
        shutil.rmtree(VENV, ignore_errors=True)
        run([python.executable, "-m", "venv", str(VENV)])
        run([*PIP, *COMMON])
        run([*PIP, "-e", f"{ROOT}[fast]"])
        left_out = {}
        for server in SERVERS.values():
            try:
                if server.packages:
                    run([*PIP, *server.packages])
            except SetupError as error:
                left_out[server.name] = str(error)
                say(f"{server.name} is left out: {error}")
        stamp.write_text(json.dumps({"made_of": wanted, "left_out": left_out}))
    listed = subprocess.run(
        [*PIP[:3], "list", "--format", "json"], capture_output=True, text=True, check=True
    )
    versions = {item["name"].lower(): item["version"] for item in json.loads(listed.stdout)}
    return Installed(VENV / "bin", versions, json.loads(stamp.read_text())["left_out"])


PIP = (
    *(str(VENV / "bin" / "python"), "-m", "pip", "install"),
    *("--quiet", "--disable-pip-version-check"),
)


def fingerprint(python: Interpreter) -> str:
    """Changes with all that the environment is made of; our own code is used where it lies."""
    parts = [
        str(ROOT), repr(python), *COMMON, (ROOT / "pyproject.toml").read_text(),
        *(package for server in SERVERS.values() for package in server.packages),
    ]  # fmt: skip
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def run(argv: list[str]) -> None:
    """Run it to its end, or say in one line why not."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SetupError(reason(done.stderr or done.stdout))


def reason(output: str) -> str:
    """The line that tells most: a compiler's or pip's first error."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if "error:" in line.lower()]
    missing = [line for line in errors if "No such file" in line]
    line = (missing or errors or lines or ["no reason given"])[0]
    return textwrap.shorten(line, REASON_LENGTH, placeholder=" ...")


def say(text: str) -> None:
    """Progress, for people."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def describe(python: Interpreter, installed: Installed) -> dict[str, str]:
    """The machine and the versions, for the report."""
    names = ["gthreadsrv", "httptools", "h11", *(
        package.partition("==")[0].partition("[")[0]
        for server in SERVERS.values()
        if server.name not in installed.left_out
        for package in server.packages
    ), "flask", "django"]  # fmt: skip
    versions = ", ".join(
        f"{name} {installed.versions[name]}"
        for name in dict.fromkeys(names)
        if name in installed.versions
    )
    return {
        "CPU": f"{cpu_model()}, {os.cpu_count()} cores",
        "kernel": f"{platform.system()} {platform.release()}",
        "Python": str(python),
        "versions": versions,
        "commit": commit(),
    }


def cpu_model() -> str:
    """As the kernel names it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def commit() -> str:
    """Of the checkout; with a + when files differ from it."""
    done = subprocess.run(
        ["git", "-C", str(ROOT), "describe", "--always", "--dirty=+"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout.strip() or "not a git checkout"
