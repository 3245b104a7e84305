"""Plans held, plans refused, and the fallback ladder."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.certificates import clean_certificate
from tieline_core.errors import TransientError
from tieline_core.ids import DeviceId, EdgeId
from tieline_core.messages.desired import LadderStep
from tieline_core.messages.plan import Plan
from tieline_edge.control.claims import NO_LIMIT, Band, Interval
from tieline_edge.control.local_schedule import LocalSchedule
from tieline_edge.control.plan_book import MAX_PLANS, PlanBook, PlanRefusedError, default_claims, parse_plan
from tieline_edge.control.state_file import StateFile
from tieline_edge.drivers.capabilities import Capability, DeviceSpec, Role

EDGE = EdgeId("harbour")
START = datetime(2016, 12, 7, 16, tzinfo=UTC)
BAT, PV, LOAD, VITAL = map(DeviceId, ("bat1", "pv1", "load01", "load10"))
SPECS = {
    BAT: DeviceSpec(BAT, Role.STORAGE, frozenset({Capability.HOLD_POWER})),
    PV: DeviceSpec(PV, Role.PV, frozenset({Capability.LIMIT_GENERATION})),
    LOAD: DeviceSpec(LOAD, Role.LOAD, frozenset({Capability.SWITCH}), 3),
    VITAL: DeviceSpec(VITAL, Role.LOAD, frozenset({Capability.SWITCH}), 0),
}
CERTIFICATE = clean_certificate(START).model_dump(mode="json")
VIOLATION = {
    "element": "tr1",
    "at": START.isoformat(),
    "quantity": "loading_pct",
    "value": 104.0,
    "limit": 100.0,
    "without_plan": 112.0,
}


def document(plan_id: str = "plan-001", *, start_min: int = 0, issued_min: int = -10, **rest: Any) -> dict[str, Any]:
    return {
        "plan_id": plan_id,
        "edge_id": "harbour",
        "issued_at": (START + timedelta(minutes=issued_min)).isoformat(),
        "start": (START + timedelta(minutes=start_min)).isoformat(),
        "step_s": 900,
        "devices": [
            {"device_id": "bat1", "mode": "setpoint_w", "values_w": [-5e3, None, 5e3, 0.0]},
            {"device_id": "pv1", "mode": "generation_limit_w", "values_w": [-12e3, None, 0.0, -1e3]},
            {"device_id": "load01", "mode": "load_limit_w", "values_w": [None, 0.0, None, 4e3]},
        ],
        "certificate": CERTIFICATE,
        **rest,
    }


def plan(*args: Any, **rest: Any) -> Plan:
    return Plan.model_validate(document(*args, **rest))


@pytest.fixture
def book(tmp_path: Path) -> PlanBook:
    return PlanBook(EDGE, SPECS, StateFile(tmp_path / "plans.json"))


def at(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


LOCAL = LocalSchedule(at(-5), at(0), 900, {BAT: (-1e3, 0.0)}, 420e3, "weekly-naive")


def test_without_anything_devices_follow_their_default(book: PlanBook) -> None:
    standing = book.stand(None, at(0))
    assert (standing.step, standing.claims) == (LadderStep.DEVICE_DEFAULT, ())
    assert standing.reason == "no plan and no local schedule"


async def test_the_current_plan_speaks_for_its_devices_until_the_end_of_the_step(book: PlanBook) -> None:
    await book.offer(plan(), "a" * 64, at(0))
    standing = book.stand(LOCAL, at(14.9))
    assert standing.step is LadderStep.CURRENT_PLAN
    assert standing.reason == "plan plan-001, step 1 of 4"
    by_device = {claim.device: claim for claim in standing.claims}
    assert by_device[BAT].setpoint_w == -5e3
    assert by_device[BAT].expires_at == at(15)
    assert by_device[PV].limit == Interval(lo=-12e3)
    assert by_device[LOAD].limit == NO_LIMIT
    assert {claim.band for claim in standing.claims} == {Band.PLAN}


async def test_a_step_without_a_number_gives_no_setpoint_and_lifts_a_limit_in_so_many_words(book: PlanBook) -> None:
    await book.offer(plan(), "a" * 64, at(0))
    by_device = {claim.device: claim for claim in book.stand(None, at(15)).claims}
    assert BAT not in by_device
    assert by_device[PV].limit == NO_LIMIT
    assert by_device[LOAD].limit == Interval(hi=0.0)


async def test_a_newer_plan_wins_where_two_overlap_whatever_the_order_of_arrival(book: PlanBook) -> None:
    await book.offer(plan("plan-new", issued_min=-1), "b" * 64, at(0))
    await book.offer(plan("plan-old", issued_min=-9), "a" * 64, at(0))
    standing = book.stand(None, at(1))
    assert standing.step is LadderStep.CURRENT_PLAN
    assert standing.held is not None
    assert standing.held.plan.plan_id == "plan-new"


async def test_the_last_plan_holds_while_the_newest_does_not_cover_now(book: PlanBook) -> None:
    await book.offer(plan("plan-old"), "a" * 64, at(0))
    await book.offer(plan("plan-next", start_min=60, issued_min=5), "b" * 64, at(5))
    standing = book.stand(None, at(30))
    assert standing.step is LadderStep.LAST_PLAN
    assert "plan-next starts at 17:00" in standing.reason
    assert book.stand(None, at(60)).step is LadderStep.CURRENT_PLAN


async def test_a_longer_older_plan_covers_after_a_shorter_newer_one_has_ended(book: PlanBook) -> None:
    await book.offer(plan("plan-old", start_min=30), "a" * 64, at(0))
    await book.offer(plan("plan-new", issued_min=-1), "b" * 64, at(0))
    standing = book.stand(None, at(61))
    assert standing.step is LadderStep.LAST_PLAN
    assert "ended at 17:00" in standing.reason


async def test_a_gap_between_plans_is_bridged_by_the_local_schedule_and_then_by_defaults(book: PlanBook) -> None:
    await book.offer(plan("plan-far", start_min=120), "a" * 64, at(0))
    standing = book.stand(LOCAL, at(1))
    assert standing.step is LadderStep.LOCAL_SCHEDULE
    assert "plan-far does not cover now" in standing.reason
    assert [(claim.device, claim.setpoint_w) for claim in standing.claims] == [(BAT, -1e3)]
    assert book.stand(LOCAL, at(30)).step is LadderStep.DEVICE_DEFAULT


async def test_plans_survive_a_restart_and_old_ones_go(book: PlanBook, tmp_path: Path) -> None:
    for number in range(MAX_PLANS + 3):
        await book.offer(plan(f"plan-{number:03}", issued_min=number - 20), f"{number:064x}", at(0))
    again = PlanBook(EDGE, SPECS, StateFile(tmp_path / "plans.json"))
    assert again.restore() is None
    assert again.plans == book.plans
    assert len(again.plans) == MAX_PLANS
    await again.offer(plan("plan-late", start_min=60, issued_min=60), "f" * 64, at(61))
    assert [held.plan.plan_id for held in again.plans] == ["plan-late"]


def test_an_unreadable_book_is_kept_aside_and_said(book: PlanBook, tmp_path: Path) -> None:
    assert book.restore() is None
    (tmp_path / "plans.json").write_text('[{"plan": 3}]')
    message = book.restore()
    assert message is not None
    assert "plans.json.unreadable" in message
    assert (tmp_path / "plans.json.unreadable").exists()


def device(device_id: str, mode: str, value: float | None = 0.0) -> list[dict[str, Any]]:
    return [{"device_id": device_id, "mode": mode, "values_w": [value]}]


@pytest.mark.parametrize(
    ("check", "change"),
    [
        ("edge", {"edge_id": "mill"}),
        ("validity", {"start": (START - timedelta(hours=2)).isoformat()}),
        ("validity", {"devices": []}),
        ("device", {"devices": device("bat9", "setpoint_w")}),
        ("device", {"devices": device("load10", "load_limit_w")}),
        ("mode", {"devices": device("pv1", "setpoint_w")}),
        ("mode", {"devices": device("bat1", "generation_limit_w")}),
        ("mode", {"devices": device("pv1", "generation_limit_w", 5.0)}),
        ("certificate", {"certificate": {**CERTIFICATE, "input_sha256": {}}}),
        ("certificate", {"certificate": {**CERTIFICATE, "violations": [VIOLATION]}}),
        ("certificate", {"certificate": {**CERTIFICATE, "verdict": "relief"}}),
        ("certificate", {"certificate": {**CERTIFICATE, "verdict": "relief", "violations": [{**VIOLATION, "value": 120.0}]}}),
    ],
)
async def test_a_plan_that_must_not_be_followed_is_refused_by_name_and_the_old_one_stays(
    book: PlanBook, check: str, change: dict[str, Any]
) -> None:
    await book.offer(plan(), "a" * 64, at(0))
    with pytest.raises(PlanRefusedError) as refused:
        await book.offer(plan("plan-bad", **change), "b" * 64, at(0))
    assert refused.value.check == check
    assert [held.plan.plan_id for held in book.plans] == ["plan-001"]


async def test_a_relief_plan_that_is_no_worse_than_none_is_taken(book: PlanBook) -> None:
    await book.offer(plan(certificate={**CERTIFICATE, "verdict": "relief", "violations": [VIOLATION]}), "a" * 64, at(0))
    assert book.stand(None, at(1)).step is LadderStep.CURRENT_PLAN


def test_a_plan_without_a_certificate_is_refused_at_the_border() -> None:
    bare = {key: value for key, value in document().items() if key != "certificate"}
    with pytest.raises(PlanRefusedError) as refused:
        parse_plan(json.dumps(bare).encode(), "artifact")
    assert refused.value.check == "certificate"
    with pytest.raises(PlanRefusedError) as garbage:
        parse_plan(b"\x00garbage", "artifact")
    assert garbage.value.check == "format"
    assert parse_plan(json.dumps(document()).encode(), "artifact") == plan()


def test_by_default_loads_run() -> None:
    claims = default_claims(SPECS, at(0), 10.0)
    assert {claim.device for claim in claims} == {LOAD, VITAL}
    assert all(claim.closed and claim.band is Band.DEFAULT for claim in claims)


async def test_a_plan_for_devices_that_have_gone_since_says_nothing_about_them(book: PlanBook, tmp_path: Path) -> None:
    await book.offer(plan(), "a" * 64, at(0))
    fewer = PlanBook(EDGE, {BAT: SPECS[BAT]}, StateFile(tmp_path / "plans.json"))
    fewer.restore()
    assert {claim.device for claim in fewer.stand(None, at(1)).claims} == {BAT}


async def test_a_plan_that_cannot_be_stored_is_offered_again_later(book: PlanBook, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_text: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(book._file, "write", full)
    with pytest.raises(TransientError, match="cannot be stored now"):
        await book.offer(plan(), "a" * 64, at(0))
    assert book.plans == ()


async def test_f43_the_last_step_is_held_for_one_slot_and_no_longer(book: PlanBook) -> None:
    """F43 (I6): after its end at 60 min a plan without a successor is held until 75 min."""
    await book.offer(plan(), "a" * 64, START)
    assert book.stand(None, at(59)).step is LadderStep.CURRENT_PLAN
    held = book.stand(None, at(61))
    assert held.step is LadderStep.LAST_PLAN
    assert "its last step is held until 17:15 UTC" in held.reason
    battery = next(claim for claim in held.claims if claim.device == BAT)
    assert (battery.setpoint_w, battery.expires_at) == (0.0, at(75))
    assert book.stand(None, at(75)).step is LadderStep.DEVICE_DEFAULT


async def test_a_local_schedule_is_better_than_a_held_step(book: PlanBook) -> None:
    await book.offer(plan(), "a" * 64, START)
    local = LocalSchedule(START, START, 900, {BAT: (1e3,) * 40}, 5e4, "weekly")
    assert book.stand(local, at(61)).step is LadderStep.LOCAL_SCHEDULE


@pytest.mark.parametrize("seen_at", [61, 200])
async def test_f36_a_clock_set_back_revives_no_plan_that_has_ended(book: PlanBook, tmp_path: Path, seen_at: float) -> None:
    """F36 (I5): seen to have ended, a plan is over for good, in this run, in the next one, and when it is offered again."""
    await book.offer(plan(), "a" * 64, START)
    book.stand(None, at(seen_at))
    assert book.stand(None, at(10)).step is LadderStep.DEVICE_DEFAULT
    assert book.stand(None, at(62)).step is LadderStep.DEVICE_DEFAULT, "nor is its last step held a second time"
    await book.disk.close()
    again = PlanBook(EDGE, SPECS, StateFile(tmp_path / "plans.json"))
    assert again.restore() is None
    assert again.stand(None, at(10)).step is LadderStep.DEVICE_DEFAULT
    with pytest.raises(PlanRefusedError, match="has ended before"):
        await again.offer(plan(), "a" * 64, at(10))


async def test_slots_follow_utc_when_the_clock_is_set_inside_a_plan(book: PlanBook) -> None:
    await book.offer(plan(), "a" * 64, START)
    for minutes, step in ((40, 3), (10, 1), (50, 4)):
        assert f"step {step} of 4" in book.stand(None, at(minutes)).reason


async def test_f43_a_plan_issued_in_the_future_is_refused(book: PlanBook) -> None:
    with pytest.raises(PlanRefusedError, match="still to come"):
        await book.offer(plan(issued_min=20), "a" * 64, START)
    await book.offer(plan(issued_min=4), "a" * 64, START)


async def test_f43_gaps_and_overlaps_have_one_answer(book: PlanBook) -> None:
    """F43 (I5): the newest of overlapping plans is followed, in any order of arrival; in a gap the older one that covers."""
    old, new, late = plan(), plan("plan-002", start_min=30, issued_min=-5), plan("plan-003", start_min=120, issued_min=-1)
    for order in ((old, new, late), (late, new, old)):
        for number, one in enumerate(order):
            await book.offer(one, f"{number}" + one.plan_id[-1] * 63, START)
        assert "plan-001" in book.stand(None, at(20)).reason
        assert book.stand(None, at(40)).reason.split("; ")[-1].startswith("plan plan-002")
        assert book.stand(None, at(20)).step is LadderStep.LAST_PLAN, "the newest has not started"


async def test_the_end_of_a_plan_is_known_even_when_the_disk_refuses(book: PlanBook, monkeypatch: pytest.MonkeyPatch) -> None:
    await book.offer(plan(), "a" * 64, START)

    def full(_text: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(StateFile, "write", lambda _self, text: full(text))
    book.stand(None, at(61))
    assert book.stand(None, at(10)).step is LadderStep.DEVICE_DEFAULT
