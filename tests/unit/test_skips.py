"""A skipped test is not a passed one: what continuous integration makes of skips."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SAMPLES = {
    "root": "@pytest.mark.skipif(True, reason='needs root')\ndef test_it(): pass",
    "inside": "def test_it(): pytest.skip('another user cannot use this interpreter')",
    "module": "pytest.importorskip('a_module_that_is_not_there')\ndef test_it(): pass",
    "kernel": "def test_it(): pytest.skip('this kernel keeps no schedstat')",
    "marker": "@pytest.mark.program('a-program-that-is-not-there')\ndef test_it(): pass",
}


def run(tmp_path: Path, code: str, ci: str) -> tuple[int, str]:
    """A test run of its own over this code; its exit code and output."""
    file = tmp_path / "test_sample.py"
    file.write_text(f"import pytest\n{code}\n")
    environ = {name: value for name, value in os.environ.items() if "COVERAGE" not in name}
    environ |= {"CI": ci, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider",
         "-c", os.devnull, "--rootdir", str(tmp_path), "-q", "-ra", str(file)],
        env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout


@pytest.mark.parametrize("kind", SAMPLES)
def test_for_a_user_a_skip_is_named(tmp_path: Path, kind: str) -> None:
    """And nothing fails; without a single test pytest says 5."""
    code, output = run(tmp_path, SAMPLES[kind], "")
    assert code == (5 if kind == "module" else 0), output
    assert "SKIPPED" in output


@pytest.mark.parametrize("kind", ["root", "inside", "module", "marker"])
def test_in_continuous_integration_it_fails(tmp_path: Path, kind: str) -> None:
    """With the reason, so that somebody gives the machine what it lacks."""
    code, output = run(tmp_path, SAMPLES[kind], "true")
    assert code not in (0, 5), output
    assert re.search(r"needs root|another user|could not import|is not installed", output)


def test_what_no_machine_can_be_given_may_be_skipped_there_too(tmp_path: Path) -> None:
    """It is named, as for a user."""
    code, output = run(tmp_path, SAMPLES["kernel"], "true")
    assert code == 0, output
    assert "SKIPPED" in output
