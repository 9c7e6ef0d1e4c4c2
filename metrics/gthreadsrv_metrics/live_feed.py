"""What stands behind /live.json: collects when somebody asks, once for all who do.

Lives in the exporter, whose threads share it. Costs nothing while nobody looks, but for the
moment that each scrape leaves in the history.
"""

from __future__ import annotations

import gzip
import json
import threading
from typing import TYPE_CHECKING, Final

from gthreadsrv_metrics.live import live_state
from gthreadsrv_metrics.live_history import History, moment_of

if TYPE_CHECKING:
    from gthreadsrv_metrics.collector import MultiprocessCollector
    from gthreadsrv_metrics.families import Families
    from gthreadsrv_metrics.reading import FleetReading
    from gthreadsrv_metrics.sources import Sources

__all__ = ["LiveFeed"]

# An answer is good for this long: any number of viewers cost one collection a second.
FRESH_S: Final = 0.8
# Viewers are told to ask again after this, or after so many times what an answer took to
# make: a fleet of a thousand threads is not watched at the price of a tenth of a CPU.
POLL_S: Final = 1.0
COST_SHARE: Final = 0.02
POLL_MAX_S: Final = 5.0


class LiveFeed:
    """The live page's data."""

    def __init__(self, collector: MultiprocessCollector, sources: Sources) -> None:
        self._collector = collector
        self._sources = sources
        self._history = History()
        self._lock = threading.Lock()  # guards what follows; held while one collects for all
        self._made_at = float("-inf")
        self._plain = b""
        self._zipped = b""
        self._cost_s = 0.0

    def note(self, families: Families, fleet: FleetReading) -> None:
        """Take up what a scrape has collected."""
        self._history.add(moment_of(families, fleet))

    def answer(self, *, compress: bool) -> bytes:
        """Return the JSON text, at most a second old."""
        with self._lock:
            started = self._sources.monotonic()
            if started - self._made_at >= FRESH_S:
                self._plain = self._make()
                self._zipped = b""
                self._made_at = started
                self._cost_s = self._sources.monotonic() - started
            if not compress:
                return self._plain
            if not self._zipped:
                self._zipped = gzip.compress(self._plain, 1, mtime=0)
            return self._zipped

    def _make(self) -> bytes:
        families, fleet = self._collector.measure()
        moment = moment_of(families, fleet)
        self._history.add(moment)
        state = live_state(families, fleet, moment, self._history, self._sources)
        # By what the last one cost: this one's end is not known yet.
        state["poll_s"] = round(min(max(POLL_S, self._cost_s / COST_SHARE), POLL_MAX_S), 1)
        return json.dumps(state, separators=(",", ":"), allow_nan=False).encode()
