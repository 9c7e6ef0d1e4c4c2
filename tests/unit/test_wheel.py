"""The wheel: what it installs, and that it works without the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from what a checkout holds, by the build back end and without a network."""
    folder = tmp_path_factory.mktemp("build")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / name)
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "gthreadsrv", folder / "gthreadsrv", ignore=ignore)
    shutil.copytree(ROOT / "metrics", folder / "metrics", ignore=ignore)
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder / "dist")],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip
    [built] = (folder / "dist").iterdir()
    return built


def test_top_level_names(wheel: Path) -> None:
    """Only gthreadsrv and gthreadsrv_metrics: a package `metrics` would shadow users' own."""
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.partition("/")[0] for name in archive.namelist()}

    assert {top for top in tops if not top.endswith(".dist-info")} == {
        "gthreadsrv", "gthreadsrv_metrics",
    }  # fmt: skip


def test_every_module_is_in_the_wheel(wheel: Path) -> None:
    """No module, no type marker and no file of the live page is left behind."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    for package in (ROOT / "gthreadsrv", ROOT / "metrics" / "gthreadsrv_metrics"):
        pages = [path for path in package.rglob("web/*") if path.is_file()]
        assert bool(pages) == (package.name == "gthreadsrv_metrics")
        for path in [*package.rglob("*.py"), package / "py.typed", *pages]:
            assert str(path.relative_to(package.parent)) in names


def test_metadata(wheel: Path) -> None:
    """Name, licence, Python version and the two commands are there."""
    with zipfile.ZipFile(wheel) as archive:
        [info] = [name for name in archive.namelist() if name.endswith("METADATA")]
        metadata = archive.read(info).decode()
        [entry] = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
        scripts = archive.read(entry).decode()
        licences = [name for name in archive.namelist() if name.endswith("LICENSE")]

    assert "\nName: gthreadsrv\n" in metadata
    assert "\nRequires-Python: >=3.10\n" in metadata
    assert "gthreadsrv = gthreadsrv.cli:main" in scripts
    assert len(licences) == 1


def test_runs_from_the_wheel_alone(wheel: Path, tmp_path: Path) -> None:
    """The unpacked wheel answers --version from its own files, with no checkout on the path."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    env = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    # Coverage is for the checkout; measured here, the copy would count as code never run.
    env.pop("COVERAGE_PROCESS_CONFIG", None)
    code = "import gthreadsrv, gthreadsrv_metrics as m; print(gthreadsrv.__file__, m.__file__)"
    where = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    version = subprocess.run(
        [sys.executable, "-m", "gthreadsrv", "--version"],
        cwd=tmp_path, env=env, capture_output=True, text=True, check=True,
    )  # fmt: skip

    assert all(path.startswith(str(tmp_path)) for path in where.stdout.split())
    assert version.stdout.startswith("gthreadsrv ")
