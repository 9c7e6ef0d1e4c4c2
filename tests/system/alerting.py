"""The committed rules in a real Prometheus, with their times made short.

`for` of ten minutes and windows of hours do not fit into a test.  `scaled` divides every duration
in the rules by one factor, and Prometheus scrapes and evaluates as much more often: expressions,
thresholds and the proportions between windows, `for` and scrapes are those of the committed files.
What it cannot scale is the server's own rhythm: a heartbeat is a second, and events per window
are as many fewer.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.bench.boot import free_port
from tests.system.harness import Server, wait_until
from tests.system.test_prometheus import Prometheus, program
from tests.unit.metrics.rule_files import ALERTS, RECORDING

# What the rules are written for, and what Prometheus does by itself.
SCRAPE_S = 15.0
EVALUATION_S = 30.0
LOOKBACK_S = 300.0

CONFIG = """
global: {{scrape_interval: {scrape}ms, scrape_timeout: {scrape}ms, evaluation_interval: {evaluation}ms}}
rule_files: [{rules}]
scrape_configs:
  - job_name: shop
    static_configs: [{{targets: ["{target}"]}}]
"""

_UNIT_MS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION = re.compile(r"\b(\d+)([smhd])\b")
# Where a duration can be in a file of rules: a range, a subquery, an offset, a hold time.
_PLACE = re.compile(
    r"\[\d+[smhd](?::\d+[smhd])?\]|\boffset \d+[smhd]\b|^ *(?:for|interval): *\d+[smhd]$",
    re.MULTILINE,
)


def scaled(rules: str, factor: float) -> str:
    """A file of rules with each of its durations divided by the factor."""

    def shorter(found: re.Match[str]) -> str:
        return f"{round(int(found[1]) * _UNIT_MS[found[2]] / factor)}ms"

    return _PLACE.sub(lambda place: _DURATION.sub(shorter, place[0]), rules)


class Watch(Prometheus):
    """A Prometheus that evaluates the rules for one server."""

    def data(self, path: str, **parameters: str) -> Any:
        """The data of one call of its API."""
        answer = self.get(path, **parameters)
        assert answer is not None, f"Prometheus does not answer {path}"
        return json.loads(answer)["data"]

    def rules(self) -> list[dict[str, Any]]:
        """All rules with their health."""
        return [rule for group in self.data("/api/v1/rules")["groups"] for rule in group["rules"]]

    def firing(self) -> set[str]:
        """The alerts that fire now."""
        alerts = self.data("/api/v1/alerts")["alerts"]
        return {one["labels"]["alertname"] for one in alerts if one["state"] == "firing"}

    def fired(self) -> set[str]:
        """The alerts that have ever fired."""
        query = 'count by (alertname) (max_over_time(ALERTS{alertstate="firing"}[1h]))'
        result = self.data("/api/v1/query", query=query)["result"]
        return {one["metric"]["alertname"] for one in result}

    def scrapes(self) -> float:
        """How often the server was asked."""
        return self.query("count_over_time(up[1h])") or 0


@contextmanager
def watched(server: Server, folder: Path, factor: float) -> Iterator[Watch]:
    """Prometheus with the rules, this many times faster than life."""
    for path in (RECORDING, ALERTS):
        (folder / path.name).write_text(scaled(path.read_text(), factor))
    config = folder / "prometheus.yml"
    config.write_text(
        CONFIG.format(
            scrape=round(SCRAPE_S * 1000 / factor),
            evaluation=round(EVALUATION_S * 1000 / factor),
            rules=", ".join(str(folder / path.name) for path in (RECORDING, ALERTS)),
            target=server.metrics_url.removeprefix("http://"),
        )
    )
    port = free_port()
    with open(folder / "prometheus.log", "wb") as log:
        process = subprocess.Popen(
            [
                program("prometheus"),
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
                f"--query.lookback-delta={round(LOOKBACK_S * 1000 / factor)}ms",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        found = Watch(port)
        wait_until(lambda: found.get("/-/ready"), what="Prometheus")
        wait_until(lambda: found.query("up") == 1, what="first scrape")
        yield found
    finally:
        process.kill()
        process.wait()
