"""Checks the committed dashboards against Grafana's own TypeScript types, by tsc.

``python -m grafana.typecheck`` needs npm; ``make check-grafana`` runs it. The JSON is written
down as TypeScript, since only literals are checked for fields that do not exist: the dashboard
against the model of dashboards, each panel's options, custom field settings and queries against
those of its kind. A kind that is not among these is an error by itself.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

GRAFANA: Final = Path(__file__).parents[1]
WORK: Final = GRAFANA.parent / "build" / "grafana-types"
# Panel type -> where its types are; the settings of its curves, if it has some.
KINDS: Final = {
    "stat": ("stat", False),
    "timeseries": ("timeseries", True),
    "bargauge": ("bargauge", False),
    "table": ("table", True),
}
RAW: Final = "./node_modules/@grafana/schema/dist/types/raw"
HEAD: Final = """
import type { Dashboard } from '{RAW}/dashboard/x/types.gen';
import type { DataQuery } from '@grafana/schema';
// Enumerations are written as their values in JSON.
type Plain<T> = T extends string ? `${T}` : T extends number | boolean | null | undefined ? T
  : T extends (infer U)[] ? Plain<U>[]
  : T extends object ? { [K in keyof T]: Plain<T[K]> } : T;
interface PromQuery extends DataQuery {
  expr: string; legendFormat: string; range: boolean; instant: boolean; exemplar: boolean;
  format: 'table' | 'time_series' | 'heatmap'; editorMode: 'code' | 'builder';
}
// What Grafana's data source for Prometheus adds to an annotation and to a variable.
type Model = Plain<Omit<Dashboard, 'annotations'>>;
"""


def typescript(dashboards: dict[str, dict[str, Any]]) -> str:
    """The dashboards as typed literals."""
    parts = [HEAD.replace("{RAW}", RAW)]
    for kind, (folder, has_fields) in KINDS.items():
        names = f"Options as {kind}Options"
        if has_fields:
            names += f", FieldConfig as {kind}Fields"
        place = f"{RAW}/composable/{folder}/panelcfg/x/types.gen"
        parts.append(f"import type {{ {names} }} from '{place}';")
    number = 0

    def check(kind: str, value: object, where: str) -> None:
        nonlocal number
        number += 1
        parts.append(f"// {where}\nexport const v{number}: {kind} = {json.dumps(value)};")

    for name, dashboard in dashboards.items():
        check("Model", {k: v for k, v in dashboard.items() if k != "annotations"}, name)
        for panel in dashboard["panels"]:
            if panel["type"] == "row":
                continue
            where, kind = f"{name}: {panel['title']}", panel["type"]
            # Not a kind of KINDS: tsc names the type that does not exist.
            check(f"Plain<Partial<{kind}Options>>", panel["options"], where)
            custom = panel["fieldConfig"]["defaults"].get("custom")
            if custom is not None:
                check(f"Plain<Partial<{kind}Fields>>", custom, where)
            check("Plain<PromQuery>[]", panel["targets"], where)
    parts.append(f"export const checked = {number};")
    return "\n".join(parts) + "\n"


def main() -> int:
    """Install the types once, write the TypeScript, run the compiler."""
    npm = shutil.which("npm")
    if npm is None:
        sys.stderr.write("npm is not installed: it brings Grafana's types\n")
        return 1
    WORK.mkdir(parents=True, exist_ok=True)
    wanted = (GRAFANA / "typecheck" / "package.json").read_text()
    package = WORK / "package.json"
    compiler = WORK / "node_modules" / ".bin" / "tsc"
    if not compiler.exists() or package.read_text() != wanted:
        package.write_text(wanted)
        quiet = ["--legacy-peer-deps", "--no-audit", "--no-fund", "--no-package-lock", "--silent"]
        subprocess.run([npm, "install", *quiet], cwd=WORK, check=True)
    files = sorted((GRAFANA / "dashboards").glob("*.json"))
    text = typescript({path.name: json.loads(path.read_text()) for path in files})
    (WORK / "dashboards.ts").write_text(text)
    flags = "--noEmit --strict --skipLibCheck --module esnext --moduleResolution bundler"
    done = subprocess.run(
        [compiler, *flags.split(), "dashboards.ts"], cwd=WORK, check=False, text=True
    )
    if done.returncode == 0:
        last = text.rsplit("=", 1)[1].strip(" ;\n")
        sys.stdout.write(f"{len(files)} dashboards, {last} values: Grafana's types fit\n")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
