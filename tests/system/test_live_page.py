"""The live page in a real browser: what it shows of a real server, and whom it leaves out: nobody.

One server and one browser for all of it. Where the sight of a situation is what is tested, the
page is given that situation's data in place of the server's.
"""

from __future__ import annotations

import copy
import json
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.system.chromium import Visit, chromium
from tests.system.conftest import Servers
from tests.system.harness import Server

pytestmark = pytest.mark.program("chromium")

# Of text and ground, by WCAG 2.2, 1.4.3 and 1.4.11.
TEXT_CONTRAST, LINE_CONTRAST = 4.5, 3.0

# Every visible text with its contrast to the ground it stands on; every line of a chart with its.
CONTRASTS = """() => {
  const channel = (v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const ground = (node) => {
    for (; node; node = node.parentElement) {
      const colour = parse(getComputedStyle(node).backgroundColor);
      if (colour.length < 4 || colour[3] === 1) return colour;
      if (colour[3] > 0) throw new Error("a ground that one sees through");
    }
    throw new Error("no ground");
  };
  const ratio = (a, b) => {
    const [x, y] = [light(a), light(b)];
    return (Math.max(x, y) + 0.05) / (Math.min(x, y) + 0.05);
  };
  const found = [];
  for (const node of document.querySelectorAll("body *")) {
    const style = getComputedStyle(node);
    if (node.closest(".unseen, noscript") || style.display === "none") continue;
    const own = [...node.childNodes].some((part) => part.nodeType === 3 && part.data.trim());
    if (own) {
      const value = ratio(parse(style.color), ground(node));
      found.push({ kind: "text", what: `${node.className} ${node.textContent.trim()}`, value });
    }
    if (node.tagName === "path" && /^line/.test(node.getAttribute("class"))) {
      const value = ratio(parse(style.stroke), ground(node.closest(".card")));
      found.push({ kind: "line", what: node.getAttribute("class"), value });
    }
  }
  return found;
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One Chromium."""
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Two workers of three threads, whose requests are long after a second, stuck after two."""
    servers = Servers(tmp_path_factory.mktemp("live"))
    try:
        found = servers(
            "behaviours:app", "--timeout", "2", workers=2, threads=3, metrics=True,
            allow_errors=True,
        )  # fmt: skip
        found.wait_ready()
        yield found
    finally:
        servers.finish()


@pytest.fixture
def visit(browser: Any, server: Server) -> Iterator[Visit]:
    """The page, open, with its first answer shown; in the end nothing has been complained of."""
    found = Visit(browser, viewport={"width": 1280, "height": 800})
    found.page.goto(f"{server.metrics_url}/")
    found.wait("() => document.querySelector('#grid tbody tr')")
    try:
        yield found
        assert found.complaints == []
    finally:
        found.page.close()


def situation(server: Server) -> dict[str, Any]:
    """Data of the server's own form, of a bad day: all kinds of threads, workers and advice."""
    state: dict[str, Any] = json.loads(server.probe("/live.json").text)
    worker = state["workers"][0]
    state["workers"] = [
        {**worker, "slot": 0, "threads": [-1, 0.42, 2.5, 75.0]},
        {**worker, "slot": 1, "threads": [-1, -1, -1, 3.0], "silent_s": 7},
        {**worker, "slot": 2, "threads": [-1, -1], "state": "booting", "rate": None, "cpu": None,
         "memory": None},
        {**worker, "slot": 3, "threads": [12.0, -1], "state": "draining"},
    ]  # fmt: skip
    state |= {"timeout_s": 4.0, "long_s": 2.0, "stuck_s": 4.0}
    state["advice"] = {
        "seconds": 10,
        "found": [
            {"limit": "threads", "text": "raise --threads from 4 to 6", "numbers": ["a", "b"]},
            {"limit": "quota", "text": "raise its CPU limit", "numbers": ["throttled 40%"]},
        ],
    }
    state["exits"] = [{"reason": "max_requests", "all": 1234, "recent": 2}]
    state["history"] = {
        name: [value] * 4
        for name, value in {"at": 0.0, "rate": 5.0, "exits": 1.0}.items()
    } | {name: [None, 1.0, None, 2.0] for name in state["history"] if name not in ("at", "rate", "exits")}  # fmt: skip
    state["history"]["at"] = [state["now"] - 90 + 30 * number for number in range(4)]
    return state


def stage(visit: Visit, state: dict[str, Any]) -> None:
    """Show this in place of the server's data, from now on."""
    visit.page.route("**/live.json", lambda route: route.fulfill(json=state))
    visit.page.reload()
    visit.wait("() => document.querySelector('#grid tbody tr')")


def test_a_staged_load_is_seen(server: Server, visit: Visit) -> None:
    """Idle threads, then two that are busy, long and stuck; rates and percentiles come."""
    grid = "#grid tbody td.thread"
    visit.wait("(grid) => document.querySelectorAll(grid + '.idle').length === 6", grid)
    assert visit.text("#cards article:nth-child(1) .value") == "0 of 6"
    done = threading.Event()

    def ask_on() -> None:
        while not done.is_set():
            server.get("/hello")

    client = threading.Thread(target=ask_on)
    slow = [server.connect(timeout_s=60) for _ in range(2)]
    client.start()
    try:
        for connection in slow:
            connection.request("GET", "/sleep?s=8")
        # A look a second may miss one of these, not all: each is the next one's past.
        kinds = "(kinds) => document.querySelectorAll(kinds).length >= 2"
        visit.wait(kinds, "#grid .busy, #grid .long, #grid .stuck")
        visit.wait(kinds, "#grid .long, #grid .stuck")
        visit.wait(kinds, "#grid .stuck")
        assert visit.page.locator("#grid .stuck").first.inner_text().startswith("✕ ")
        visit.wait("() => /^[1-9]/.test(document.querySelectorAll('.value')[1].textContent)")
        durations = (
            "() => [...document.querySelectorAll('.lines dd')].every(d => d.textContent !== '–')"
        )
        visit.wait(durations)
        line = visit.page.locator("#cards article:nth-child(2) path.line-1").get_attribute("d")
        assert line.count("L") >= 1, "a line through what was seen"
        assert visit.text("#health") == "✓ ready"
        assert visit.page.title().endswith("busy · gthreadsrv")
    finally:
        done.set()
        client.join()
        for connection in slow:
            connection.close()


def test_a_reload_shows_workers_come_and_go(server: Server, visit: Visit) -> None:
    """New slots appear beside the old, which leave; the count of reloads moves.

    The exporter is replaced too, and begins its history anew: the page keeps what it has seen.
    """
    before = visit.text("#events")
    begun = visit.page.evaluate("() => kept[0].at")
    server.send_signal(signal.SIGHUP)
    visit.wait("(before) => document.querySelector('#events').innerText !== before", before)
    visit.wait("() => /[1-9]\\d* ok/.test(document.querySelector('#events').innerText)")
    visit.wait("() => document.querySelectorAll('#grid tbody tr').length === 2")
    assert visit.page.evaluate("() => kept[0].at") == begun
    visit.wait(
        "() => document.querySelector('#cards article:nth-child(9) .value span').textContent"
        " === String(kept.reduce((sum, one) => sum + (one.exits || 0), 0))"
    )
    # The exporter was replaced with them; what was asked on its way out may have failed.
    visit.wait("() => !document.querySelector('#lost').textContent")
    visit.complaints.clear()


def test_no_request_is_told(server: Server, visit: Visit) -> None:
    """Neither a path nor a client's address, whatever runs."""
    with server.connect() as connection:
        port = connection.sock.getsockname()[1]
        connection.request("GET", "/sleep?s=1.5&secret=12345", {"User-Agent": "confidential"})
        visit.wait("() => document.querySelector('#grid tbody td.busy')")
        told = server.probe("/live.json").text + visit.page.content()
        connection.response()
    for text in ("secret", "12345", "confidential", "/sleep", f":{port}"):
        assert text not in told


def test_a_server_that_is_gone_is_called_so(visit: Visit) -> None:
    """An alert says since when; it goes when the answers come back."""
    visit.page.route("**/live.json", lambda route: route.abort())
    alert = visit.page.get_by_role("alert")
    visit.wait("() => document.querySelector('#lost').textContent")
    assert alert.inner_text().startswith("The server cannot be reached since ")
    assert visit.text("#health") == "✕ no answer"
    assert "no answer" in visit.page.title()
    visit.page.unroute("**/live.json")
    visit.page.evaluate("() => goOn()")  # what it does by itself after two seconds
    visit.wait("() => !document.querySelector('#lost').textContent")
    assert visit.text("#health") == "✓ ready"
    visit.page.route("**/live.json", lambda route: route.fulfill(status=500))
    visit.page.evaluate("() => goOn()")
    visit.wait("() => document.querySelector('#lost').textContent")
    assert alert.inner_text().startswith("The metrics port answers with 500 since ")
    assert all("Failed to load resource" in one for one in visit.complaints)
    visit.complaints.clear()


def test_nothing_is_asked_while_nobody_looks(browser: Any, server: Server) -> None:
    """Hidden, and paused: no request in an hour; seen again, one at once."""
    visit = Visit(browser)
    visit.page.clock.install()
    visit.page.goto(f"{server.metrics_url}/")
    visit.wait("() => document.querySelector('#grid tbody tr')")

    def hide(hidden: bool) -> None:
        visit.page.evaluate(
            "(hidden) => { Object.defineProperty(document, 'hidden', {value: hidden,"
            " configurable: true}); document.dispatchEvent(new Event('visibilitychange')); }",
            hidden,
        )

    def asks_in_an_hour() -> int:
        before = len(visit.asked)
        visit.page.clock.fast_forward(3_600_000)
        visit.page.evaluate("() => fetch('livez')")  # what was asked before it has been seen
        return sum(url.endswith("live.json") for url in visit.asked[before:])

    hide(True)
    assert asks_in_an_hour() == 0
    with visit.page.expect_request("**/live.json"):
        hide(False)
    button = visit.page.get_by_role("button")
    button.click()
    assert button.inner_text() == "Resume"
    assert asks_in_an_hour() == 0
    hide(True)
    hide(False)
    assert asks_in_an_hour() == 0, "it is still paused"
    with visit.page.expect_request("**/live.json"):
        button.click()
    assert button.inner_text() == "Pause"
    visit.page.close()


def test_a_fleet_of_a_thousand_threads(server: Server, visit: Visit) -> None:
    """64 workers of 16: all are there, and a second's changes are drawn in a fraction of it."""
    state = situation(server)
    worker = state["workers"][0]
    state["workers"] = [
        {**worker, "slot": slot, "threads": [(slot + number) % 5 - 1 for number in range(16)]}
        for slot in range(64)
    ]
    other = copy.deepcopy(state)
    for one in other["workers"]:
        one["threads"].reverse()
    stage(visit, state)
    assert visit.page.locator("#grid tbody td.thread").count() == 1024
    took_ms = visit.page.evaluate(
        "(states) => { const begun = performance.now(); states.forEach(show);"
        " document.body.offsetHeight; return performance.now() - begun; }",
        [copy.deepcopy(one) for one in (other, state) * 5],
    )
    # Some 20 ms each where this was written; the rest is for machines that do other things.
    assert took_ms / 10 < 500


def test_roles_and_names(server: Server, visit: Visit) -> None:
    """What a screen reader is told: landmarks, headings, a table with headers, states in words."""
    stage(visit, situation(server))
    page = visit.page
    assert page.locator("html").get_attribute("lang") == "en"
    for role in ("banner", "main", "contentinfo", "navigation"):
        assert page.get_by_role(role).count() == 1, role
    levels = page.locator("h1, h2, h3").evaluate_all("(all) => all.map((h) => +h.tagName[1])")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(levels, levels[1:], strict=False))
    table = page.get_by_role("table", name="Workers and their threads: idle, busy")
    assert table.get_by_role("columnheader", name="Thread 4", exact=True).count() == 1
    assert table.get_by_role("rowheader").all_inner_texts() == [
        "0 ready", "1 silent for 7 s", "2 booting", "3 draining",
    ]  # fmt: skip
    cells = table.get_by_role("row", name="0 ready").get_by_role("cell")
    words = [cells.nth(number).locator(".unseen").text_content() for number in range(4)]
    assert words == ["idle", "busy 0.4s", "long 2.5s", "stuck 1m"]
    signs = [cells.nth(number).locator("[aria-hidden]").text_content() for number in range(4)]
    assert signs == ["·", "0.4s", "! 2.5s", "✕ 1m"], "told apart without a colour"
    for picture in page.get_by_role("img").all():
        assert "over two minutes: now " in picture.get_attribute("aria-label")
    assert page.get_by_role("img").count() == 9
    assert page.get_by_role("article", name="Queue time").count() == 1
    said = page.get_by_role("status")
    assert said.get_attribute("aria-live") == "polite"
    assert said.text_content().startswith("Advice. threads: raise --threads from 4 to 6. quota:")
    assert [one.split()[0] for one in page.locator("#advice-list li").all_inner_texts()] == [
        "threads:", "quota:",
    ]  # fmt: skip
    assert "2 max requests" in visit.text("#cards article:nth-child(9)")
    assert "1,234 max requests" in visit.text("#events")


def test_advice_is_read_aloud_when_it_changes_and_only_then(server: Server, visit: Visit) -> None:
    """Its numbers move every second; nobody wants to hear that."""
    state = situation(server)
    stage(visit, state)
    visit.page.evaluate(
        "() => { window.heard = 0; new MutationObserver(() => { window.heard += 1; }).observe("
        "document.querySelector('#advice-said'), {childList: true, characterData: true,"
        " subtree: true}); }"
    )

    def heard(change: dict[str, Any]) -> int:
        now = copy.deepcopy(state)
        now["advice"]["found"][0] |= change
        return int(
            visit.page.evaluate(
                "async (state) => { window.heard = 0; show(state); await null;"
                " return window.heard; }",
                now,
            )
        )

    assert heard({"numbers": ["other", "numbers"]}) == 0
    assert heard({"text": "raise --threads from 4 to 7"}) == 0
    assert heard({"limit": "backlog"}) > 0


def test_every_part_is_reached_by_keyboard(visit: Visit) -> None:
    """Tab goes from the skip link to the last link, in order, and one sees where one is."""
    page = visit.page
    where: list[str] = []
    for _ in range(12):
        page.keyboard.press("Tab")
        where.append(
            page.evaluate(
                "() => { const at = document.activeElement; const style = getComputedStyle(at);"
                " if (at !== document.body && !(style.outlineStyle === 'solid'"
                " && parseFloat(style.outlineWidth) >= 2)) throw new Error('no focus is seen');"
                " return at === document.body ? 'body' : at.getAttribute('aria-labelledby')"
                " || at.textContent; }"
            )
        )
        if len(where) == 9:
            break
    assert where == [
        "Skip to the threads", "Pause", "threads-title", "listeners-title",
        "/metrics", "/livez", "/readyz", "/startupz", "/live.json",
    ]  # fmt: skip
    page.get_by_role("button").focus()
    page.keyboard.press("Space")
    assert visit.text("#pause") == "Resume"
    page.keyboard.press("Enter")
    assert visit.text("#pause") == "Pause"
    page.get_by_role("link", name="Skip to the threads").focus()
    page.keyboard.press("Enter")
    assert page.evaluate("() => document.activeElement.id") == "threads"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_reflow_and_rest(server: Server, visit: Visit, scheme: str) -> None:
    """Both schemes are readable in every state, fit a width of 320, and do not move."""
    page = visit.page
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    stage(visit, situation(server))
    page.evaluate("() => lost('The server cannot be reached')")
    found = page.evaluate(CONTRASTS)
    assert {one["kind"] for one in found} == {"text", "line"}
    assert len(found) > 60
    faint = [
        one for one in found
        if one["value"] < (TEXT_CONTRAST if one["kind"] == "text" else LINE_CONTRAST)
    ]  # fmt: skip
    assert faint == []
    dark = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    assert (dark == "rgb(15, 19, 24)") is (scheme == "dark")
    moving = (
        "() => document.getAnimations().length + [...document.querySelectorAll('*')].filter("
        "(one) => parseFloat(getComputedStyle(one).transitionDuration) > 0).length"
    )
    assert page.evaluate(moving) == 0
    for width in (320, 400, 900):
        page.set_viewport_size({"width": width, "height": 800})
        over = page.evaluate(
            "() => document.documentElement.scrollWidth <= document.documentElement.clientWidth ? [] :"
            " ['something', ...[...document.querySelectorAll('body *')].filter((one) =>"
            " !one.closest('.scroll') && one.getBoundingClientRect().right > innerWidth)"
            ".map((one) => `${one.tagName} ${one.textContent.slice(0, 40)}`)]"
        )
        assert over == [], f"one would have to scroll sideways at {width}"
