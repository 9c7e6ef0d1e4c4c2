"""Interpreters of their own, in which a few lines play master, workers and application.

prometheus_client decides at its import how values are kept, so no two tests of that can share
a process.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from gthreadsrv_metrics.app_files import read_app_metrics

PROLOGUE = """
import os, sys
from gthreadsrv_metrics.app_metrics import clear_live, install_app_metrics

directory = sys.argv[1]

def run(worker):
    "Run a function in a forked process and wait for it."
    pid = os.fork()
    if pid == 0:
        try:
            worker()
            os._exit(0)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
"""


def play(directory: Path, story: str) -> str:
    """Run a story and return what it prints."""
    environ = {k: v for k, v in os.environ.items() if k.lower() != "prometheus_multiproc_dir"}
    done = subprocess.run(
        [sys.executable, "-c", PROLOGUE + story, str(directory)],
        capture_output=True, text=True, env=environ, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def totals(directory: Path) -> dict[str, float]:
    """Return what the exporter reads, by the name of each series."""
    reading = read_app_metrics(str(directory))
    assert not reading.torn
    return {
        sample.name + "".join(f"[{v}]" for k, v in sorted(sample.labels.items())): sample.value
        for family in reading.families
        for sample in family.samples
    }


def files(directory: Path) -> list[str]:
    """Return the names of the metric files."""
    return sorted(path.name for path in directory.glob("*.db"))
