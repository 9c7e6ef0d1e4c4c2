"""The application's metrics, read from its processes' files.

Runs in the exporter at a scrape. The files belong to others who write while we read, or who
were killed while they wrote, so any file may be short, torn or gone: such a file is left
out and counted, and the page is made of the rest. prometheus_client does the merging, as it
defines what its gauge modes mean.
"""

from __future__ import annotations

import glob
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector

from gthreadsrv_metrics.catalogue import PREFIX

if TYPE_CHECKING:
    from gthreadsrv_metrics.families import Family

__all__ = ["AppReading", "read_app_metrics"]


@dataclass(slots=True)
class AppReading:
    """What the application's files hold, and what could not be had of them."""

    families: list[Family] = field(default_factory=list)
    torn: list[str] = field(default_factory=list)  # paths
    collisions: list[str] = field(default_factory=list)  # names


def read_app_metrics(directory: str) -> AppReading:
    """Read and merge all files of a directory."""
    paths = [
        path
        for path in sorted(glob.glob(os.path.join(glob.escape(directory), "*.db")))
        # Nothing but a file: reading a pipe would wait for somebody to write.
        if os.path.isfile(path) and not _untouched(path)
    ]
    reading = AppReading()
    families = _merge(paths)
    if families is None:
        reading.torn = [path for path in paths if _merge([path]) is None]
        # None again: written between the two looks. The next scrape has another try.
        families = _merge([path for path in paths if path not in reading.torn]) or []
    for family in families:
        # Ours are the truth about the server; one page cannot have two of a name.
        if family.name.startswith(PREFIX):
            reading.collisions.append(family.name)
        else:
            reading.families.append(family)
    return reading


def _merge(paths: list[str]) -> list[Family] | None:
    """Merge files; None if one of them cannot be read."""
    try:
        return list(MultiProcessCollector.merge(paths))  # type: ignore[no-untyped-call]
    except Exception:  # noqa: BLE001 - boundary: a file may hold anything, whoever wrote it
        return None


def _untouched(path: str) -> bool:
    """Say whether these are gauges that a preloading import made, and nobody has set.

    Every worker files its own; a minimum or maximum over the import's zeros too would be theirs.
    """
    name = os.path.basename(path)
    if not (name.startswith("gauge_") and name.endswith("_master.db")):
        return False
    try:
        entries = MmapedDict.read_all_values_from_file(path)  # type: ignore[no-untyped-call]
        return all(value == 0 for _, value, *_ in entries)
    except Exception:  # noqa: BLE001 - as above; the merge counts it
        return False
