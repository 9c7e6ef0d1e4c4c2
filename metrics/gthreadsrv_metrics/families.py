"""Metric families as prometheus_client wants them, built from the catalogue.

The one place where a catalogue entry becomes a family, so that a sample cannot get a name,
a type or a label the catalogue does not know. Runs wherever a collector does: in the
exporter, or in an application that mounted one.
"""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, Final

from prometheus_client.core import Metric as Family
from prometheus_client.samples import Exemplar, Sample

from gthreadsrv_metrics.catalogue import CATALOGUE, Metric

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["Exemplar", "Families", "Family", "empty_family"]

_LE: Final = {
    metric.name: (*(repr(bound) for bound in metric.bounds), "+Inf")
    for metric in CATALOGUE
    if metric.bounds
}


def empty_family(metric: Metric) -> Family:
    """Return a catalogue entry's family without samples."""
    # OpenMetrics names a counter's family without the suffix of its samples.
    return Family(metric.full_name.removesuffix("_total"), metric.help, metric.type)


class Families:
    """The families of one collection, in the catalogue's order; empty ones are left out."""

    def __init__(self) -> None:
        self._families = {metric.name: empty_family(metric) for metric in CATALOGUE}
        self._full_names = {metric.name: metric.full_name for metric in CATALOGUE}

    def __iter__(self) -> Iterator[Family]:
        return (family for family in self._families.values() if family.samples)

    def samples(self, name: str) -> Sequence[Sample]:
        """Return what was added to one metric."""
        return self._families[name].samples

    def add(self, name: str, value: float | None, labels: Mapping[str, str] | None = None) -> None:
        """Add one sample; None is not known, and so is not there."""
        if value is not None:
            self._families[name].samples.append(
                Sample(self._full_names[name], dict(labels or {}), value)
            )

    def add_each(
        self,
        name: str,
        label: str,
        values: Sequence[str],
        numbers: Sequence[float],
        labels: Mapping[str, str] | None = None,
    ) -> None:
        """Add a sample for each value of a label."""
        for value, number in zip(values, numbers, strict=True):
            self.add(name, number, {**(labels or {}), label: value})

    def add_histogram(
        self,
        name: str,
        cells: Sequence[float],
        labels: Mapping[str, str] | None = None,
        exemplars: Mapping[int, Exemplar] | None = None,
    ) -> None:
        """Add a histogram: ``cells`` are its sum and the count of each bucket by itself."""
        samples = self._families[name].samples
        full_name = self._full_names[name]
        fixed = dict(labels or {})
        found = exemplars or {}
        count = 0.0
        for bucket, (le, count) in enumerate(zip(_LE[name], accumulate(cells[1:]), strict=True)):
            samples.append(
                Sample(f"{full_name}_bucket", {**fixed, "le": le}, count, None, found.get(bucket))
            )
        # The count is the last bucket, so the two agree whatever is written meanwhile.
        samples.append(Sample(f"{full_name}_count", fixed, count))
        samples.append(Sample(f"{full_name}_sum", fixed, cells[0]))
