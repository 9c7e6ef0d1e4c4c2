"""Takes the pictures in grafana/screenshots: the dashboards over a life of two minutes.

``make screenshots`` runs it. It needs npm, Prometheus and Chromium (``make test-deps`` names
Prometheus; Chromium is the package ``chromium``) and playwright from PyPI. What npm brings goes
to build/grafana and is kept there. ``--keep FILE`` writes Prometheus' answers to a file that
``--from FILE`` draws again, to look at a change of colours or places without the two minutes.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import shutil
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from functools import partial
from pathlib import Path
from typing import Any, Final

from grafana.pictures.stage import staged
from grafana.source.__main__ import DASHBOARDS

HERE: Final = Path(__file__).parent
WORK: Final = HERE.parents[1] / "build" / "grafana"
SCREENSHOTS: Final = HERE.parent / "screenshots"
RANGE_S: Final = 120
RATE_INTERVAL: Final = "8s"
CHROMIUM: Final = ("chromium", "chromium-browser", "google-chrome")
_NOWHERE: Final = "pictures.invalid"
FLAGS: Final = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


def ask(url: str, path: str, **parameters: object) -> Any:
    """One call of Prometheus' API."""
    query = urllib.parse.urlencode(parameters)
    with urllib.request.urlopen(f"{url}{path}?{query}", timeout=10) as answer:  # noqa: S310
        return json.loads(answer.read())["data"]


def filled(expr: str, instance: str) -> str:
    """A query as Grafana would send it."""
    values = {"__rate_interval": RATE_INTERVAL, "__range": f"{RANGE_S}s", "instance": instance}
    values["job"] = "gthreadsrv"
    return re.sub(r"\$(\w+)", lambda match: values.get(match[1], ".*"), expr)


def answers(url: str, troubled: str) -> dict[str, dict[str, Any]]:
    """What each dashboard needs to be drawn."""
    end = math.floor(time.time())
    given = {}
    for file, dashboard in DASHBOARDS.items():
        made = dashboard.json()
        instance = troubled if dashboard.one_instance else ".*"
        found: dict[str, Any] = {}
        exemplars: dict[str, Any] = {}
        for panel in made["panels"]:
            for target in panel.get("targets", ()):
                query = filled(target["expr"], instance)
                if target["instant"]:
                    data = ask(url, "/api/v1/query", query=query, time=end)
                else:
                    window = {"start": end - RANGE_S, "end": end, "step": 1}
                    data = ask(url, "/api/v1/query_range", query=query, **window)
                found[f"{panel['id']}{target['refId']}"] = data["result"]
                if target["exemplar"]:
                    window = {"start": end - RANGE_S, "end": end}
                    data = ask(url, "/api/v1/query_exemplars", query=query, **window)
                    exemplars[str(panel["id"])] = [e for one in data for e in one["exemplars"]]
        given[file] = {
            "dashboard": made,
            "answers": found,
            "exemplars": exemplars,
            "start": end - RANGE_S,
            "end": end,
            "step": 1,
            "heading": f"job gthreadsrv, instance {instance if dashboard.one_instance else 'All'},"
            " worker All, last 2 minutes",
        }
    return given


def bundle() -> None:
    """Make the script that draws; npm's packages are fetched the first time."""
    npm = shutil.which("npm")
    if npm is None:
        raise SystemExit("npm is not installed: it brings Grafana's components")
    WORK.mkdir(parents=True, exist_ok=True)
    wanted = (HERE / "package.json").read_text()
    package = WORK / "package.json"
    if not (WORK / "node_modules").exists() or package.read_text() != wanted:
        package.write_text(wanted)
        quiet = ["--legacy-peer-deps", "--no-audit", "--no-fund", "--no-package-lock", "--silent"]
        subprocess.run([npm, "install", *quiet], cwd=WORK, check=True)
    shutil.copy(HERE / "draw.tsx", WORK / "draw.tsx")
    fonts = [f"--loader:.{kind}=dataurl" for kind in ("woff", "woff2", "ttf", "svg", "png")]
    subprocess.run(
        [
            WORK / "node_modules" / ".bin" / "esbuild", "draw.tsx", "--bundle", "--jsx=automatic",
            '--define:process.env.NODE_ENV="production"', "--define:global=window", *fonts,
            "--outfile=draw.js", "--log-level=error",
        ],
        cwd=WORK, check=True,
    )  # fmt: skip


def draw(given: dict[str, dict[str, Any]]) -> list[str]:
    """Draw and photograph every dashboard; what the pages complained about."""
    from playwright.sync_api import sync_playwright

    browser_path = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if browser_path is None:
        raise SystemExit("chromium is not installed")
    SCREENSHOTS.mkdir(exist_ok=True)
    styles = (WORK / "draw.css").read_text()
    complaints: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=list(FLAGS))
        for file, data in given.items():
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.on("pageerror", partial(_note, complaints, file))
            text = json.dumps(data).replace("</", "<\\/")
            html = WORK / file.replace(".json", ".html")
            html.write_text(
                f"<!doctype html><meta charset=utf-8><style>{styles} *{{box-sizing:border-box}}"
                " body{margin:0} h1,h2,h6{margin:0;font-size:14px;font-weight:500}</style>"
                f"<div id=root></div><script>window.GIVEN = {text};"
                "window.grafanaBootData = {settings: {featureToggles: {}}, user: {}};</script>"
                "<script src=draw.js></script>"
            )
            page.route("**/*", _answer)
            page.goto(f"http://{_NOWHERE}/{html.name}")
            page.wait_for_function("document.fonts.status === 'loaded'")
            page.wait_for_selector("h2, h6, canvas", timeout=10_000)
            # What is below the fold is not painted, so there must be no fold.
            height = page.evaluate("document.getElementById('root').scrollHeight")
            page.set_viewport_size({"width": 1280, "height": height})
            # Curves are drawn in the frames after the first.
            page.evaluate("new Promise((r) => setTimeout(r, 1500))")
            path = SCREENSHOTS / file.replace(".json", ".png")
            page.screenshot(path=path)
            page.close()
        browser.close()
    return complaints


def _note(complaints: list[str], name: str, error: object) -> None:
    complaints.append(f"{name}: {error}")


def _answer(route: Any) -> None:
    """What a page asks for is on disk: no server, and nothing from a network."""
    path = urllib.parse.urlsplit(route.request.url).path.lstrip("/")
    if path.startswith("public/build/"):
        path = "node_modules/@grafana/ui/dist/public/" + path.removeprefix("public/build/")
    if (WORK / path).is_file():
        route.fulfill(path=WORK / path)
    else:
        route.fulfill(status=404)


def squeeze(path: Path) -> None:
    """Write a picture again, as small as the format allows."""
    from PIL import Image

    with Image.open(path) as picture:
        small = picture.convert("RGB")
    small.save(path, optimize=True)


def main() -> int:
    """Take the pictures."""
    parser = argparse.ArgumentParser(prog="python -m grafana.pictures")
    parser.add_argument("--keep", type=Path, help="write Prometheus' answers here")
    parser.add_argument("--from", dest="kept", type=Path, help="draw these answers again")
    options = parser.parse_args()
    bundle()
    if options.kept:
        given = json.loads(options.kept.read_text())
        for file, dashboard in DASHBOARDS.items():
            given[file]["dashboard"] = dashboard.json()
    else:
        with staged() as (url, troubled):
            given = answers(url, troubled)
    if options.keep:
        options.keep.write_text(json.dumps(given))
    complaints = draw(given)
    for path in sorted(SCREENSHOTS.glob("*.png")):
        squeeze(path)
        sys.stdout.write(f"{path.relative_to(HERE.parents[1])}: {path.stat().st_size} bytes\n")
    for complaint in complaints:
        sys.stderr.write(complaint + "\n")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
