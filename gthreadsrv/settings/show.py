"""`--print-config`: every setting, its value and where it came from, as text.

Pure; the command line prints it. Values that may hold secrets are shown by name only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gthreadsrv.settings.model import Origin, Source
from gthreadsrv.settings.table import TABLE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gthreadsrv.settings.model import Settings


def show(settings: Settings, origins: Mapping[str, Origin]) -> str:
    """One line a setting, in the table's order."""
    rows = [
        (setting.file_name, setting.show(getattr(settings, setting.name)) or "-", setting.name)
        for setting in TABLE
    ]
    rows += [(name, "a function", name) for name in settings.hooks]
    name_width = max(len(name) for name, _, _ in rows)
    value_width = min(40, max(len(value) for _, value, _ in rows))
    default = Origin(Source.DEFAULT)
    return "".join(
        f"{name:<{name_width}} = {value:<{value_width}}  # {origins.get(key, default)}\n"
        for name, value, key in rows
    )
