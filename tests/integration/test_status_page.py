"""The gateway's status page in a real browser: what it shows, by keyboard too, and that it says when it is cut off."""

from __future__ import annotations

import asyncio
import json
import math
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.cloud.console.conftest import WatchedPage, chromium
from tieline_edge.page.html import status_page
from tieline_edge.pages import Page, Pages

pytestmark = pytest.mark.browser
NOW = datetime(2016, 12, 7, 16, 45, 12, tzinfo=UTC)


def value(quantity: str, number: float | None, unit: str, quality: str = "good", age_s: float = 0.4) -> dict[str, Any]:
    at = (NOW - timedelta(seconds=age_s)).isoformat()
    return {"quantity": quantity, "value": number, "unit": unit, "text": quantity, "at": at, "quality": quality}


def device(role: str, *values: dict[str, Any], **rest: Any) -> dict[str, Any]:
    plain = {"online": True, "error": None, "command": None, "tag": None, "told": None, "because": None}
    return {"role": role, **plain, "values": list(values), **rest}


def document() -> dict[str, Any]:
    start = NOW.replace(minute=45, second=0)
    median = [400e3 + 180e3 * math.sin((n - 8) / 15.3) ** 2 for n in range(96)]
    return {
        "edge": "harbour",
        "site": "Harbour substation",
        "software": "tieline-edge/0.1.0",
        "at": NOW.isoformat(),
        "time_zone": "Europe/Berlin",
        "monitor_only": False,
        "dry_run": False,
        "hub_online": False,
        "hub_heard_at": (NOW - timedelta(hours=2)).isoformat(),
        "ladder": {"step": 2, "name": "local_schedule", "reason": "no plan covers now: plan p-7 ended 16:00 UTC"},
        "plan": None,
        "shed": ["load03", "load07"],
        "forecast": "by model 4f1c22a90b7e",
        "forecast_curve": {
            "point": "harbour/site/load_w",
            "issued_at": start.isoformat(),
            "start": start.isoformat(),
            "step_s": 900,
            "p10": [one * 0.88 for one in median],
            "p50": median,
            "p90": [one * 1.15 for one in median],
        },
        "autonomy": {"hours": 9.25, "limited_by": "energy", "parts": {"energy": 9.25, "outbox": 611.0}},
        "cycle": {"count": 86412, "p99_ms": 11.2, "late_p99_ms": 4.31, "missed": 0},
        "backlog": {"alarm": {"readings": 0}, "measure": {"readings": 48200}, "bulk": {"readings": 0}},
        "outbox": {"usable": True, "used_bytes": 81e6, "max_bytes": 512e6, "room_h": 611.0},
        "devices": {
            "tr1": device(
                "transformer", value("p_w", 541.2e3, "W"), value("loading_pct", 103.4, "%"), value("v_v", 398.1, "V")
            ),
            "bat1": device(
                "storage",
                value("p_w", -42.5e3, "W"),
                value("soc_pct", 61.5, "%"),
                told="hold -42.5 kW (discharge)",
                because="plan: local schedule, step 3",
                command="effective",
            ),
            "pv1": device("pv", value("p_w", -3.2e3, "W"), told="no limit of generation", command="confirmed"),
            "load03": device(
                "load",
                value("p_w", 0.0, "W"),
                value("closed", 0.0, ""),
                told="open",
                because="local protection: transformer at 103 %, hold 60 s over",
                command="effective",
            ),
            "load07": device(
                "load",
                value("p_w", 8.1e3, "W", "stale", 95.0),
                value("closed", None, "", "bad", 95.0),
                told="open",
                because="local protection: transformer at 103 %, hold 60 s over",
                command="unconfirmed",
                online=False,
                error="no answer within 1 s",
            ),
            "load10": device(
                "load",
                value("p_w", 12e3, "W"),
                value("closed", 1.0, ""),
                told="left alone",
                tag="do not operate: cable work, until removed (E. Berg)",
            ),
        },
    }


ALARMS = [
    ("ALARM", "write.unconfirmed", "load07: no effect within 10 s: p_w 8100, closed None"),
    ("ALARM", "shed.thermal", "transformer at 103 %: 17.2 kW shed, 90 % expected: load03 (class 3), load07 (class 3)"),
    ("ACTION", "ladder.step", "local schedule: no plan covers now: plan p-7 ended 16:00 UTC"),
]
WHY = (
    "load03 at 2016-12-07 17:45:12 CET (16:45:12 UTC): open\n  because   local protection (thermal-overload): open, at 103 %;"
    " tr1 needs relief until load03 and load07 are seen open\n"
)


class Gateway:
    """Serves the real page over scripted answers, in a thread of its own."""

    def __init__(self) -> None:
        self.document = document()
        self._loop = asyncio.new_event_loop()
        self._port: Future[int] = Future()
        self._thread = threading.Thread(target=self._run)
        self._serving: asyncio.Task[None] | None = None

    def _run(self) -> None:
        async def serve() -> None:
            self._serving = asyncio.create_task(Pages(0, self._pages()).run(self._port.set_result))
            await asyncio.gather(self._serving, return_exceptions=True)

        self._loop.run_until_complete(serve())
        self._loop.close()

    def _pages(self) -> Mapping[str, Any]:
        async def page(_query: Mapping[str, str]) -> Page:
            return status_page()

        def answering(made: Callable[[Mapping[str, str]], object]) -> Any:
            async def answer(query: Mapping[str, str]) -> Page:
                if query.get("device") == "load10":
                    return Page.problem(HTTPStatus.BAD_REQUEST, "nothing is kept about it")
                return Page.of_json(made(query))

            return answer

        told = [{"severity": s, "code": c, "text": t, "at": NOW.isoformat(), "device": None} for s, c, t in ALARMS]
        return {
            "/": page,
            "/status": answering(lambda _query: self.document),
            "/alarms": answering(lambda _query: {"alarms": told}),
            "/why": answering(lambda query: {"text": WHY.replace("load03", query["device"])}),
        }

    def start(self) -> str:
        self._thread.start()
        return f"http://127.0.0.1:{self._port.result(20)}"

    def stop(self) -> None:
        if self._serving is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._serving.cancel)
        self._thread.join(20)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = chromium()
    if program is None and not os.environ.get("CI") and os.geteuid() != 0:
        pytest.skip("chromium is not installed (see deploy/system-packages.sh)")
    assert program is not None, "chromium has to be there: see deploy/system-packages.sh"
    arguments = ["--disable-gpu", "--disable-background-networking", "--disable-component-update", "--no-sandbox"]
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=program, args=arguments)
        yield running
        running.close()


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    made = Gateway()
    yield made
    made.stop()


def opened(browser: Browser, url: str, scheme: Literal["light", "dark"] = "light", width: int = 1280) -> WatchedPage:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    context.set_default_timeout(20_000)
    watching = WatchedPage(context.new_page(), url)
    watching.watch()
    watching.page.goto(f"{url}/")
    expect(watching.page.locator("#rows tr")).to_have_count(6, timeout=20_000)
    return watching


def shot(watched: WatchedPage, name: str) -> None:
    """Keep a picture where a folder for them is named."""
    folder = os.environ.get("TIELINE_SHOTS")
    if folder:
        watched.page.screenshot(path=f"{folder}/{name}.png", full_page=True)


#: Contrast of text against its background after WCAG 2.2, for every visible text of the page.
CONTRAST = """() => {
  const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const lum = (c) => { const [r, g, b] = c.map((v) => linear(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const rgb = (text) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = text; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data]; };
  const back = (node) => { for (let one = node; one; one = one.parentElement) {
    const c = rgb(getComputedStyle(one).backgroundColor); if (c[3] === 255) return c.slice(0, 3); } return [255, 255, 255]; };
  const bad = [];
  for (const node of document.querySelectorAll('body *')) {
    const own = [...node.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !node.checkVisibility() || ['SCRIPT', 'STYLE'].includes(node.tagName)) continue;
    const style = getComputedStyle(node), svg = node instanceof SVGElement;
    const a = lum(rgb(svg ? style.fill : style.color).slice(0, 3)), b = lum(back(node));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) bad.push(`${node.tagName}.${node.className} ${node.textContent.slice(0, 30)}: ${ratio.toFixed(2)}`);
  }
  return bad;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_shows_how_the_edge_stands_with_unit_time_and_quality(
    browser: Browser, gateway: Gateway, scheme: Literal["light", "dark"]
) -> None:
    watched = opened(browser, gateway.start(), scheme)
    page = watched.page
    for where, words in (
        ("#name", "Harbour substation"),
        ("#asof", "2016-12-07 17:45:12 Europe/Berlin"),
        ("#ladder", "local schedule"),
        ("#reason", "step 2 of 3: no plan covers now"),
        ("#hub", "away"),
        ("#heard", "last heard 2016-12-07 15:45:12"),
        ("#shed", "2 loads"),
        ("#shedlist", "load03, load07"),
        ("#autonomy", "9.3 h"),
        ("#autonomywhy", "then storage is at its reserve"),
        ("#room", "25 days"),
        ("#jitter", "4.3 ms late"),
        ("#device-bat1", "-42.50 kW"),
        ("#device-bat1", "power 17:45:11"),
        ("#device-bat1", "in effect"),
        ("#device-load07", "offline: no answer within 1 s"),
        ("#device-load07", "stale, 2 min"),
        ("#device-load10", "do not operate: cable work"),
        ("#plot", "highest 580 kW"),
        ("#alarms", "shed.thermal"),
    ):
        expect(page.locator(where)).to_contain_text(words)
    expect(page.locator("#rows tr").first).to_have_attribute("id", "device-load07")  # what is away comes first
    assert page.evaluate(CONTRAST) == []
    shot(watched, f"status-{scheme}")
    assert watched.errors == []
    assert watched.elsewhere == []
    page.context.close()


def test_why_opens_by_keyboard_and_closes_with_escape(browser: Browser, gateway: Gateway) -> None:
    watched = opened(browser, gateway.start())
    page = watched.page
    page.get_by_role("button", name="Why? Explain load03").focus()
    page.wait_for_timeout(2500)  # a refresh must not take the focus away
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog", name="Why load03 does what it does")).to_be_visible()
    expect(page.locator("#whytext")).to_contain_text("local protection (thermal-overload)")
    page.set_viewport_size({"width": 800, "height": 900})
    rectangles = page.locator("#whytext .labelled").evaluate(
        "node => { const range = document.createRange(); range.selectNodeContents(node);"
        " return [...range.getClientRects()].map(({ left, top }) => [left, top]); }"
    )
    lines = [min(left for left, line in rectangles if line == top) for top in sorted({top for _, top in rectangles})]
    assert len(lines) > 1
    assert all(left > lines[0] + 60 for left in lines[1:]), "a long reason goes on below its words, not below its label"
    shot(watched, "status-why-800")
    for width in (420, 600, 740, 780, 900):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width, f"wider than a window of {width} px"
        shot(watched, f"status-why-{width}")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.get_by_role("button", name="Why? Explain load10").click()
    expect(page.locator("#whytext")).to_contain_text("nothing is kept about it")
    page.get_by_role("button", name="Close").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert [error for error in watched.errors if "400" not in error] == []
    page.context.close()


def test_it_follows_and_says_so_when_the_agent_is_gone(browser: Browser, gateway: Gateway) -> None:
    watched = opened(browser, gateway.start(), width=420)
    page = watched.page
    shot(watched, "status-narrow")
    assert page.evaluate("document.documentElement.scrollWidth") <= 420
    gateway.document = json.loads(json.dumps({**document(), "shed": [], "dry_run": True, "forecast_curve": None}))
    expect(page.locator("#shed")).to_have_text("nothing")
    expect(page.locator("#banners")).to_contain_text("Dry run")
    expect(page.locator("#plot")).to_contain_text("No forecast yet")
    gateway.stop()
    expect(page.locator("#banners")).to_contain_text("does not answer", timeout=30_000)
    expect(page.locator("#banners")).not_to_contain_text("Dry run")
    page.context.close()
