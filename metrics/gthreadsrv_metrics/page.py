"""A metrics page read back: from Prometheus' text format to series and values.

For those that ask a server from outside, such as `gthreadsrvctl advise`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from gthreadsrv_metrics.advice import Labels

__all__ = ["parse_page"]


def parse_page(text: str) -> dict[str, dict[Labels, float]]:
    """Return series name -> label set -> value. Raises ValueError where it is no such page."""
    page: dict[str, dict[Labels, float]] = {}
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                labels = tuple(sorted(sample.labels.items()))
                page.setdefault(sample.name, {})[labels] = sample.value
    except (IndexError, KeyError) as error:
        raise ValueError(f"no page of metrics: {error}") from None
    return page
