"""The table holds together: record, flags, help, reference and printed settings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gthreadsrv.settings import Origin, Settings, Source, load, reference
from gthreadsrv.settings.flags import build_parser, default_text
from gthreadsrv.settings.show import show
from gthreadsrv.settings.table import BY_NAME, GROUPS, TABLE

README = Path(__file__).parents[3] / "README.md"


def test_table_and_record_name_the_same_settings() -> None:
    """The typed record repeats the table so that a type checker sees it."""
    fields = set(Settings._fields)
    # What only a configuration file can hold, beside settings.
    assert set(BY_NAME) == fields - {"hooks", "foreign"}
    assert len(BY_NAME) == len(TABLE)


def test_no_flag_and_no_variable_means_two_things() -> None:
    """Names are used once."""
    flags = [flag for setting in TABLE for flag in setting.flags]
    assert len(flags) == len(set(flags))
    variables = [s.variable for s in TABLE if s.in_environment]
    variables += [s.fallback.name for s in TABLE if s.fallback]
    assert len(variables) == len(set(variables))


@pytest.mark.parametrize("setting", TABLE, ids=lambda setting: setting.name)
def test_a_default_survives_being_written_down_and_read_again(setting: object) -> None:
    """What help, reference and --print-config show can be pasted back."""
    assert isinstance(setting, type(TABLE[0]))
    text = default_text(setting)
    if text:
        assert setting.convert(text) == setting.default


def test_the_help_has_every_flag_in_its_group() -> None:
    """--help is made from the table."""
    text = build_parser(Source.COMMAND_LINE).format_help()
    positions = [text.index(f"\n{group}:") for group in GROUPS]
    assert positions == sorted(positions)
    for setting in TABLE:
        section = text[positions[GROUPS.index(setting.group)] :].split("\n\n")[0]
        for flag in setting.flags:
            assert re.search(rf"{re.escape(flag)}[, \n]", section), flag
    assert max(map(len, text.splitlines())) <= 100


def test_the_reference_has_every_setting_and_can_be_put_into_a_document(tmp_path: Path) -> None:
    """--write fills the place between the markers, --check sees when it is out of date."""
    text = reference.reference()
    for setting in TABLE:
        assert not setting.in_file or f"`{setting.file_name}`" in text
        assert not setting.in_environment or f"`{setting.variable}`" in text
    document = tmp_path / "README.md"
    document.write_text(f"before\n{reference.BEGIN}\nold\n{reference.END}\nafter\n")
    assert reference.main([str(document), "--check"]) == 1
    assert reference.main([str(document), "--write"]) == 0
    assert reference.main([str(document), "--check"]) == 0
    assert document.read_text().startswith(f"before\n{reference.BEGIN}\n### Application")
    assert document.read_text().endswith(f"{reference.END}\nafter\n")


def test_a_document_without_markers_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is written where nothing was asked for."""
    document = tmp_path / "x.md"
    document.write_text("text")
    assert reference.main([str(document), "--write"]) == 1
    assert document.read_text() == "text"
    assert "there are no lines" in capsys.readouterr().err


def test_the_readme_is_up_to_date() -> None:
    """The README's reference is the table's; so is what GUNICORN.md says of gunicorn's."""
    documents = [str(README), str(README.with_name("GUNICORN.md"))]
    assert reference.main([*documents, "--check"]) == 0


def test_every_row_of_the_reference_has_its_five_cells() -> None:
    """A bar in a text must not make a sixth."""
    rows = [line for line in reference.reference().splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {6}
    rows = [line for line in reference.gunicorn_reference().splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {4}


def test_printed_settings_show_value_and_origin_but_no_secret(tmp_path: Path) -> None:
    """Each value with where it came from; variables of -e by name only."""
    (tmp_path / "gthreadsrv.conf.py").write_text("timeout = 7")
    loaded = load(
        ["a:b", "-e", "KEY=hunter2", "-m", "22"], {"GTHREADSRV_BACKLOG": "9"}, str(tmp_path)
    )
    origins = {**loaded.origins, "workers": Origin(Source.SIZING, "why")}
    text = show(loaded.settings, origins)
    lines = {
        line.split(" = ")[0].strip(): " ".join(line.split(" = ")[1].split())
        for line in text.splitlines()
    }
    assert lines["wsgi_app"] == "a:b # APP, command line"
    assert lines["timeout"] == "7 # gthreadsrv.conf.py:1"
    assert lines["backlog"] == "9 # GTHREADSRV_BACKLOG, environment"
    assert lines["umask"] == "22 # -m, command line"
    assert lines["workers"] == "auto # sizing: why"
    assert lines["keepalive"] == "75 # default"
    assert lines["raw_env"] == "KEY=*** # -e, command line"
    assert "hunter2" not in text
    assert len(lines) == len(TABLE)
