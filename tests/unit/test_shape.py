"""The shape of the project: who imports whom, what stays out of which process, how long files are."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = (ROOT / "gthreadsrv", ROOT / "metrics" / "gthreadsrv_metrics")
MAX_LINES = 500
# Tables of cases make test files longer without making them harder to read.
MAX_TEST_LINES = 700


def sources(*folders: Path) -> list[Path]:
    """Every Python file below these folders."""
    return sorted(path for folder in folders for path in folder.rglob("*.py"))


def modules_after_importing(*names: str) -> set[str]:
    """What a fresh interpreter has loaded after these imports."""
    code = "import importlib, sys\n" + "".join(f"importlib.import_module({n!r})\n" for n in names)
    done = subprocess.run(
        [sys.executable, "-c", code + "print(*sys.modules, sep='\\n')"],
        capture_output=True, text=True, check=True, cwd=ROOT / "tests",
    )  # fmt: skip
    return set(done.stdout.split())


def test_imports_point_one_way() -> None:
    """The contracts in .importlinter are kept."""
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "names",
    [
        ("gthreadsrv", "gthreadsrv.cli"),
        ("gthreadsrv.master.arbiter",),
        ("gthreadsrv.worker.process",),
        ("gthreadsrv_metrics", "gthreadsrv_metrics.scoreboard", "gthreadsrv_metrics.catalogue"),
    ],
)
def test_prometheus_client_stays_out(names: tuple[str, ...]) -> None:
    """Command line, master and workers run without prometheus_client: only the exporter has it."""
    loaded = modules_after_importing(*names)

    assert set(names) <= loaded
    assert not {name for name in loaded if name.partition(".")[0] == "prometheus_client"}


# What only some servers need, or need once in a while: it would be in every process of all.
SELDOM = {
    "difflib", "shutil", "tempfile",
    "gthreadsrv.net.proxy_protocol", "gthreadsrv.net.tls", "gthreadsrv.worker.hooked",
    "gthreadsrv.worker.preface", "gthreadsrv.worker.tls_stream", "gthreadsrv.worker.tls_wire",
}  # fmt: skip


def test_what_is_seldom_needed_is_not_imported_before_the_fork() -> None:
    """TLS, PROXY protocol, hooks and spooled bodies cost those memory that have them."""
    loaded = modules_after_importing("gthreadsrv.cli", "gthreadsrv.master")

    assert "gthreadsrv.worker.process" in loaded
    assert not (loaded - modules_after_importing("structlog")) & SELDOM


def test_metrics_package_stands_alone() -> None:
    """Importing gthreadsrv_metrics, all of it, loads nothing of gthreadsrv."""
    package = PACKAGES[1]
    names = [f"gthreadsrv_metrics.{path.stem}" for path in package.glob("[a-z]*.py")]
    loaded = modules_after_importing(*names)

    assert "gthreadsrv" not in {name.partition(".")[0] for name in loaded}


def test_the_demo_needs_only_the_standard_library() -> None:
    """The demo loads no part of the server and no dependency of it."""
    loaded = {name.partition(".")[0] for name in modules_after_importing("gthreadsrv.demo")}
    parts = {name for name in modules_after_importing("gthreadsrv.demo") if "gthreadsrv." in name}

    assert parts == {"gthreadsrv.demo"}
    assert not loaded & {"structlog", "h11", "httptools", "prometheus_client", "setproctitle"}


@pytest.mark.parametrize(
    "path",
    sources(*PACKAGES, ROOT / "grafana", ROOT / "tests"),
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_files_are_readable_in_one_sitting(path: Path) -> None:
    """No file is too long to be read at once, and each that is not empty says what it is for."""
    text = path.read_text()

    limit = MAX_TEST_LINES if path.is_relative_to(ROOT / "tests") else MAX_LINES
    assert len(text.splitlines()) <= limit
    assert not text or re.match(r'(#!.*\n)?r?"""\S', text), "no module docstring"


def test_every_package_is_typed() -> None:
    """Both packages tell type checkers that they carry types."""
    for package in PACKAGES:
        assert (package / "py.typed").exists()
