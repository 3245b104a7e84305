"""The overview in a browser, on a real hub: what an operator sees, hears and steers by keyboard."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.cloud.console.conftest import RunningHub, WatchedPage

pytestmark = [pytest.mark.browser, pytest.mark.broker]

ALARM_LIGHT = (176, 0, 32)
ALARM_DARK = (255, 92, 119)
READY_MS = 15_000
STALE_MS = 7_000


def test_an_overload_is_seen_in_picture_figures_and_tables_and_nothing_is_asked_elsewhere(watched: WatchedPage) -> None:
    page = watched.page
    expect(page.get_by_role("status")).to_have_text("live", timeout=READY_MS)
    branches = page.get_by_role("region", name="Branch list").get_by_role("row")
    expect(branches.filter(has_text="harbour/tr1")).to_contain_text("127.0", timeout=READY_MS)
    expect(branches.filter(has_text="harbour/tr1")).to_contain_text("measured")
    expect(branches.filter(has_text="mill/tr1")).to_contain_text("assumed")
    edge = page.get_by_role("region", name="Edges").get_by_role("row").filter(has_text="harbour")
    expect(edge).to_contain_text("current plan")
    expect(edge).to_contain_text("discharging 120.0 kW")
    expect(edge).to_contain_text("61.5 h without the hub")
    expect(page.get_by_role("region", name="Edges")).to_contain_text("1 load shed: load01")
    expect(page.get_by_role("region", name="Edges")).to_contain_text("tagged “do not operate”: bat01")
    expect(page.get_by_role("region", name="Event list")).to_contain_text("transformer at 127 %")
    expect(page.get_by_text("Highest transformer loading").locator("..")).to_contain_text("127.0 %")
    boxes = [figure.bounding_box() for figure in page.locator(".kpi").all()]
    assert len(boxes) == 6
    assert all(box is not None and box["height"] < 64 for box in boxes), "a figure has wrapped"
    assert watched.pixels(*ALARM_LIGHT) > 50
    assert watched.errors == []
    assert watched.elsewhere == []


def test_a_node_of_somebody_else_is_marked_and_is_not_expected_to_run_a_plan(watched: WatchedPage) -> None:
    page = watched.page
    edges = page.get_by_role("region", name="Edges")
    press = edges.get_by_role("row").filter(has_text="plant-press")
    expect(press).to_contain_text("third party, at most once, never heard", timeout=READY_MS)
    expect(press).to_contain_text("not ours to plan")
    expect(page.get_by_text("Edges on the current plan").locator("..")).to_contain_text("1 of 1")
    assert watched.errors == []


def test_the_theme_turns_over_and_the_picture_with_it(watched: WatchedPage) -> None:
    page = watched.page
    expect(page.get_by_role("region", name="Branch list")).to_contain_text("127.0", timeout=READY_MS)
    assert watched.pixels(*ALARM_DARK) == 0
    page.get_by_role("button", name="Light or dark").click()
    expect(page.locator("body")).to_have_css("background-color", "rgb(21, 24, 28)")
    assert watched.pixels(*ALARM_DARK) > 50
    assert watched.pixels(*ALARM_LIGHT) == 0
    assert watched.errors == []


def test_arrow_keys_walk_the_branches_from_the_worst_and_say_them(watched: WatchedPage) -> None:
    page = watched.page
    expect(page.get_by_role("region", name="Branch list")).to_contain_text("127.0", timeout=READY_MS)
    picture = page.get_by_role("application", name="Network picture")
    spoken = page.locator("tl-network [aria-live=polite]")
    picture.focus()
    page.keyboard.press("ArrowDown")
    expect(spoken).to_have_text(re.compile(r"^harbour/tr1, loading 127\.0 %, end voltage \d\.\d{3} pu, measured$"))
    expect(page.locator("tr[aria-current=true]")).to_contain_text("harbour/tr1")
    page.keyboard.press("ArrowDown")
    expect(spoken).not_to_contain_text("harbour/tr1")
    page.keyboard.press("ArrowUp")
    expect(spoken).to_contain_text("harbour/tr1")
    page.keyboard.press("Escape")
    expect(spoken).to_have_text("")
    assert watched.errors == []


def test_a_killed_hub_makes_the_page_stale_and_its_return_needs_no_reload(watched: WatchedPage, hub: RunningHub) -> None:
    page = watched.page
    link = page.get_by_role("status")
    expect(page.get_by_role("region", name="Branch list")).to_contain_text("127.0", timeout=READY_MS)
    page.get_by_role("button", name="harbour/tr1").click()
    page.evaluate("() => { globalThis.sameDocument = true; }")
    hub.kill()
    expect(link).to_have_text(re.compile("^stale"), timeout=STALE_MS)
    frozen = page.locator("#asof").inner_text()
    hub.start()
    expect(link).to_have_text("live", timeout=READY_MS)
    expect(page.locator("#asof")).not_to_have_text(frozen, timeout=READY_MS)
    expect(page.get_by_text("Edges on the current plan").locator("..")).to_contain_text("1 of 1", timeout=READY_MS)
    assert page.evaluate("() => globalThis.sameDocument") is True
    expect(page.locator("tr[aria-current=true]")).to_contain_text("harbour/tr1")
    network_trouble = re.compile(r"net::ERR_|WebSocket connection")
    assert [error for error in watched.errors if not network_trouble.search(error)] == []
