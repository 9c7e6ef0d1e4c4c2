"""The pictures: `python -m tests.bench.peers.plot RESULTS.json PICTURE.png`.

Runs as a program in the benchmark's environment, the only place that has matplotlib. The colours
are Okabe and Ito's, which colour-blind people can tell apart; ours is told by weight as well.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402 - after the backend is chosen

from tests.bench.peers.goals import median  # noqa: E402
from tests.bench.peers.servers import OURS  # noqa: E402

OURS_COLOUR, PEER_COLOUR = "#0072B2", "#A0A0A0"
LINES = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9")
MARKERS = "osDv^x"
DPI = 100


def plain(axes: Any) -> None:
    """Only the lines that carry something."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def bars(axes: Any, numbers: Mapping[str, float], title: str, form: str) -> None:
    """One bar for each server, the best on top, with its number."""
    names = sorted(numbers, key=numbers.__getitem__, reverse=True)
    found = [numbers[name] for name in names]
    colours = [OURS_COLOUR if name.startswith(OURS) else PEER_COLOUR for name in names]
    drawn = axes.barh(names, found, color=colours)
    axes.bar_label(drawn, labels=[format(value, form) for value in found], padding=3)
    for label, name in zip(axes.get_yticklabels(), names, strict=True):
        label.set_fontweight("bold" if name.startswith(OURS) else "normal")
    axes.set_title(title, loc="left")
    axes.set_xlim(0, max(found) * 1.15)
    axes.tick_params(left=False, bottom=False, labelbottom=False)
    axes.spines["bottom"].set_visible(False)
    plain(axes)


def draw_servers(results: Mapping[str, Any], about: Mapping[str, str]) -> None:
    """CPU per request and p99 of hello world."""
    figure, panels = plt.subplots(1, 2, figsize=(10, 4.2), dpi=DPI)
    for axes, metric, title, form in (
        (panels[0], "cpu_us", "CPU per request, microseconds", ".1f"),
        (panels[1], "p99_ms", "99th percentile, milliseconds", ".2f"),
    ):
        numbers = {
            key: value
            for key in results["hello"]
            if (value := median(results, "hello", key, metric)) is not None
        }
        bars(axes, numbers, title, form)
    figure.suptitle("Hello world, one worker on one core, 32 connections; less is better", x=0.5)
    figure.text(0.99, 0.01, f"{about['Python']}, {about['date']}", ha="right", size=8, color="#555")
    figure.tight_layout(rect=(0, 0.02, 1, 1))


def draw_scaling(sweeps: Sequence[Mapping[str, Any]], about: Mapping[str, str]) -> None:
    """For each sweep throughput above, CPU per request below."""
    size = (3.4 * len(sweeps), 6)
    figure, panels = plt.subplots(2, len(sweeps), figsize=size, dpi=DPI, squeeze=False)
    for column, sweep in enumerate(sweeps):
        for line, (server, points) in enumerate(sweep["servers"].items()):
            style = {"color": LINES[line], "marker": MARKERS[line], "label": server, "ms": 4}
            for axes, metric in zip(panels[:, column], ("rate", "cpu_us"), strict=True):
                drawn = [(at, sample[metric]) for at, sample in points]
                axes.plot(*zip(*drawn, strict=True), **style)
        for axes, label in zip(panels[:, column], ("requests/s", "CPU us/request"), strict=True):
            axes.set_xscale("log", base=sweep["base"])
            axes.set_xlabel(sweep["unit"])
            if sweep["log_scale"]:
                axes.set_yscale("log")
            else:
                axes.set_ylim(bottom=0)
            axes.grid(alpha=0.3)
            plain(axes)
            if column == 0:
                axes.set_ylabel(label)
        panels[0, column].set_title(sweep["title"], loc="left", size=10)
    panels[0, 0].legend(frameon=False)
    figure.text(0.99, 0.01, f"{about['Python']}, {about['date']}", ha="right", size=8, color="#555")
    figure.tight_layout(rect=(0, 0.03, 1, 1))


def main() -> None:
    """Draw what the file holds."""
    source, picture = sys.argv[1:]
    with open(source, encoding="utf-8") as file:
        found = json.load(file)
    plt.rcParams.update({"font.size": 10, "axes.titlesize": 11})
    if "sweeps" in found:
        draw_scaling(found["sweeps"], found["about"])
    else:
        draw_servers(found["results"], found["about"])
    plt.savefig(picture)


if __name__ == "__main__":
    main()
