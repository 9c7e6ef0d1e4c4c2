"""The committed dashboards are what their source says, and Grafana's own model takes them."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from grafana.source.__main__ import FOLDER, main, rendered
from tests.unit.grafana.queries import load

NAMES = sorted(load())
# Grafana's data source reads these of an annotation; the SDK's model of annotations, which
# serves all data sources, leaves them out.
UNKNOWN_TO_THE_SDK = re.compile(r"/annotations/list\[\d+\]/(titleFormat|textFormat|step)")


def lost(before: Any, after: Any, path: str = "") -> list[str]:
    """The paths of what is different or gone after a round trip."""
    if isinstance(before, dict) and isinstance(after, dict):
        return [
            place
            for key, value in before.items()
            for place in lost(value, after.get(key, "(gone)"), f"{path}/{key}")
        ]
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        pairs = enumerate(zip(before, after, strict=True))
        return [place for i, (x, y) in pairs for place in lost(x, y, f"{path}[{i}]")]
    return [] if before == after else [path]


def test_the_files_are_the_source(capsys: pytest.CaptureFixture[str]) -> None:
    """`python -m grafana.source --check` has no complaint about the committed files."""
    assert main(["--check"]) == 0, capsys.readouterr().err
    assert {path.name for path in FOLDER.iterdir()} == set(rendered())


def test_a_stale_file_is_told_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that was edited, or is missing, is named, and --write brings it up to date."""
    assert main(["--write", "--into", str(tmp_path / "new")]) == 0
    (tmp_path / "new" / "overview.json").write_text("{}")
    (tmp_path / "new" / "resources.json").unlink()

    assert main(["--check", "--into", str(tmp_path / "new")]) == 1
    told = capsys.readouterr().err
    assert "overview.json is out of date" in told
    assert "resources.json is out of date" in told
    assert "exporter.json" not in told
    assert main(["--write", "--into", str(tmp_path / "new")]) == 0
    assert main(["--check", "--into", str(tmp_path / "new")]) == 0


def test_the_runbook_is_where_the_user_has_it(tmp_path: Path) -> None:
    """--runbook puts the runbook's address into the copies, once in each, as a variable."""
    assert main(["--write", "--into", str(tmp_path), "--runbook", "https://wiki.example/R"]) == 0
    for path in tmp_path.iterdir():
        [variable] = [
            one
            for one in json.loads(path.read_text())["templating"]["list"]
            if one["name"] == "runbook"
        ]
        assert variable["query"] == variable["current"]["value"] == "https://wiki.example/R"
        assert "metrics/RUNBOOK.md#" not in path.read_text()


@pytest.mark.skipif(sys.version_info < (3, 11), reason="the SDK needs Python 3.11")
@pytest.mark.parametrize("name", NAMES)
def test_grafanas_sdk_loses_nothing(name: str) -> None:
    """A dashboard read by Grafana's SDK and written again has every field it had."""
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.plugins import register_default_plugins
    from grafana_foundation_sdk.models.dashboard import Dashboard

    register_default_plugins()
    before = load()[name]
    after = json.loads(json.dumps(Dashboard.from_json(before), cls=JSONEncoder))

    assert [path for path in lost(before, after) if not UNKNOWN_TO_THE_SDK.fullmatch(path)] == []
