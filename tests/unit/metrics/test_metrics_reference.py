"""The written reference is the catalogue, and its queries are PromQL."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from gthreadsrv_metrics.catalogue import CATALOGUE
from gthreadsrv_metrics.reference import main, reference, updated

README = Path(__file__).parents[3] / "metrics" / "README.md"


def test_the_readme_is_up_to_date() -> None:
    """The tool that writes it (--write) finds nothing to change."""
    assert main([str(README), "--check"]) == 0


def test_each_metric_has_its_line_and_its_query() -> None:
    """Name, labels with their values, help and PromQL."""
    text = reference()
    for metric in CATALOGUE:
        assert f"| `{metric.full_name}` | {metric.type} |" in text
        assert metric.promql in text.splitlines()
    assert "| mode = user, system |" not in text
    assert "| worker; mode = user, system |" in text


def test_writing_and_checking(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Only the text between the markers is written; a check tells an old file by name."""
    begin, end = "<!-- begin: written by python -m gthreadsrv_metrics.reference -->", "<!-- end -->"
    file = tmp_path / "README.md"
    file.write_text(f"before\n{begin}\nstale text\n{end}\nafter\n")
    assert main([str(file), "--check"]) == 1
    assert str(file) in capsys.readouterr().err
    assert main([str(file), "--write"]) == 0
    text = file.read_text()
    assert text.startswith(f"before\n{begin}\n| metric |")
    assert text.endswith(f"\n{end}\nafter\n")
    assert "stale text" not in text
    assert main([str(file), "--check"]) == 0


def test_a_file_without_markers_is_left_alone() -> None:
    """There is nowhere to write."""
    with pytest.raises(ValueError, match="no lines"):
        updated("some text\n")


@pytest.mark.program("promtool")
def test_every_query_is_promql(tmp_path: Path) -> None:
    """Prometheus's own parser takes each of them, as a rule's expression."""
    rules = [{"record": f"r:{metric.name}", "expr": metric.promql} for metric in CATALOGUE]
    file = tmp_path / "rules.json"  # JSON is YAML
    file.write_text(json.dumps({"groups": [{"name": "all", "rules": rules}]}))
    program = shutil.which("promtool")
    assert program is not None
    done = subprocess.run(
        [program, "check", "rules", file], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
