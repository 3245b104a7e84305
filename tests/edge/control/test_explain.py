"""``why``: replayed from the trace alone, told in words, and helpful when there is nothing to tell."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tieline_core.errors import BadInputError
from tieline_core.ids import DeviceId, EdgeId
from tieline_core.messages.command import CommandState
from tieline_core.messages.telemetry import Event, Severity
from tieline_edge.control.arbiter import decide
from tieline_edge.control.claims import Band, Claim, Failsafe, Interval
from tieline_edge.control.executor import Outcome
from tieline_edge.control.explain import alarms, explain, timeline
from tieline_edge.control.facts import DeviceFacts, SiteFacts
from tieline_edge.control.memory import ArbiterMemory
from tieline_edge.control.replay import (
    Asked,
    action_from_json,
    action_to_json,
    question_from_json,
    question_to_json,
    spec_to_json,
)
from tieline_edge.control.ring import RingReader
from tieline_edge.control.trace import Trace
from tieline_edge.control.words import action_words, explanation_words, timeline_words, watts
from tieline_edge.drivers.capabilities import (
    Action,
    Capability,
    DeviceSpec,
    HoldPower,
    LimitGeneration,
    Release,
    Role,
    SwitchContact,
)
from tieline_edge.why import answer

NOW = datetime(2016, 12, 7, 16, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")
BAT, PV, LOAD = map(DeviceId, ("bat1", "pv1", "load01"))
SPECS = {
    BAT: DeviceSpec(
        BAT,
        Role.STORAGE,
        frozenset({Capability.HOLD_POWER}),
        None,
        -6e3,
        6e3,
        1e4,
        10.0,
        90.0,
        True,
        ramp_w_per_s=500.0,
        dead_time_s=3,
    ),
    PV: DeviceSpec(PV, Role.PV, frozenset({Capability.LIMIT_GENERATION}), None, -9e3, 0.0, reverts=True, ramp_w_per_s=900.0),
    LOAD: DeviceSpec(LOAD, Role.LOAD, frozenset({Capability.SWITCH}), 3, min_off_s=30.0, min_on_s=20.0),
}


def wish(device: DeviceId, band: Band, seconds: int, value: float, expires_s: int) -> Claim:
    expires = NOW + timedelta(seconds=seconds + expires_s)
    source, reason = f"{band.name.lower()}-1", f"it is {value:.6g}"
    if device == LOAD:
        return Claim(device, band, source, reason, closed=value > 0, expires_at=expires)
    if device == PV or band is Band.ENVELOPE:
        limit = Interval(lo=min(value, 0.0)) if device == PV else Interval(-abs(value), abs(value))
        return Claim(
            device, band, source, reason, limit=limit, expires_at=expires, failsafe=Failsafe(Interval(-1e3, 1e3), 20.0)
        )
    return Claim(device, band, source, reason, setpoint_w=value, expires_at=expires)


CYCLES = st.lists(
    st.tuples(
        st.lists(
            st.tuples(
                st.sampled_from([BAT, PV, LOAD]),
                st.sampled_from([Band.SAFETY, Band.OPERATOR, Band.ENVELOPE, Band.PLAN, Band.DEFAULT]),
                st.floats(-2e4, 2e4, allow_nan=False),
                st.integers(1, 30),
            ),
            max_size=6,
        ),
        st.floats(5.0, 95.0),
        st.booleans() | st.none(),
        st.booleans() | st.none(),
    ),
    min_size=1,
    max_size=12,
)


@given(CYCLES)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_kept_decision_is_reached_again_from_the_trace_alone(tmp_path: Path, cycles: list[Any]) -> None:
    """Any site history: for each cycle and device the trace tells what was decided, and the arbiter answers it again."""
    path = tmp_path / "trace.sqlite"
    path.unlink(missing_ok=True)
    trace, memory, decided = Trace.open(path), ArbiterMemory(), []
    for number, (wishes, soc, closed, bus) in enumerate(cycles):
        now = NOW + timedelta(seconds=7 * number)
        claims = tuple(wish(device, band, 7 * number, value, expires) for device, band, value, expires in wishes)
        known = {
            BAT: DeviceFacts(1e3, soc, ages_s={"p_w": 0.1, "soc_pct": 0.2}),
            LOAD: DeviceFacts(2e3, None, closed, {"closed": 0.1}),
        }
        asked = Asked(SPECS, claims, memory, SiteFacts(known, bus), now, 180.0)
        judged = decide(SPECS, claims, memory, asked.facts, now, 180.0)
        trace.decided(judged.by_device, asked, now, set(SPECS))
        memory = judged.memory
        decided.append((now, judged.by_device))
    trace.close()
    for now, by_device in decided:
        for device in SPECS:
            told = explain(path, device, now, replay=True)
            assert told["replay"]["same"], told["replay"]
            assert action_from_json(told["action"]) == by_device[device].action


def kept(path: Path) -> None:
    """An evening of a battery: a plan, an operator's command that a limit cuts, and its refreshes."""
    trace = Trace.open(path, software="tieline-edge/1")
    memory = ArbiterMemory()
    plan = Claim(BAT, Band.PLAN, "plan", "plan p-7", setpoint_w=-2e3, expires_at=NOW + timedelta(hours=9))
    order = Claim(BAT, Band.OPERATOR, "command-1", "asked by ada", setpoint_w=5e3, expires_at=NOW + timedelta(hours=9))
    cap = Claim(
        BAT, Band.ENVELOPE, "cap", "grid operator", limit=Interval(hi=3e3), expires_at=NOW + timedelta(hours=9),
        failsafe=Failsafe(Interval(0.0, 0.0), 60.0),
    )  # fmt: skip
    facts = SiteFacts({BAT: DeviceFacts(1e3, 55.5, ages_s={"p_w": 0.4, "soc_pct": 2.0})})
    for seconds in range(120):
        now = NOW + timedelta(seconds=seconds)
        asked = Asked(SPECS, (plan, cap) if seconds < 60 else (plan, order, cap), memory, facts, now, 180.0)
        judged = decide(SPECS, asked.claims, memory, facts, now, 180.0)
        trace.decided(judged.by_device, asked, now)
        memory = judged.memory
    at = NOW + timedelta(seconds=80)
    trace.happened(Outcome(BAT, CommandState.CONFIRMED, HoldPower(3e3, 180.0), "command-1", "WSet -3000", at))
    for minute in range(1, 4):
        again = at + timedelta(minutes=minute)
        trace.happened(
            Outcome(BAT, CommandState.EFFECTIVE, HoldPower(3e3, 180.0), "command-1", "WSet -3000", again, refresh=True)
        )
    trace.close()


def test_why_tells_winner_losers_limits_values_ages_and_what_became_of_the_write(tmp_path: Path) -> None:
    path = tmp_path / "trace.sqlite"
    kept(path)
    text = explanation_words(explain(path, BAT, NOW + timedelta(seconds=119), replay=True), BERLIN)
    for part in (
        "bat1 at 2016-12-07 17:01:59 CET (16:01:59 UTC): hold 3 kW (charge)",
        "because   operator (command-1): hold 5000 W, asked by ada",
        "against   plan (plan): hold -2000 W, plan p-7",
        "limit     network limit of the hub (cap): limit [-∞, 3000] W, grid operator",
        "leaves    [-6000, 3000] W",
        "note      clamped from 5000 W to 3000 W",
        "power 1 kW (0.4 s old)",
        "state of charge 55.5 % (2 s old)",
        "replay    asked again, the arbiter answers the same: hold 3 kW (charge)",
    ):
        assert part in text, text
    assert "17:01:20 CET (16:01:20 UTC) hold 3 kW (charge): confirmed, WSet -3000" in text
    earlier = explain(path, BAT, NOW + timedelta(seconds=50))
    assert earlier["winner"][0] == "plan"
    assert "written   nothing" in explanation_words(earlier, BERLIN)


def test_the_timeline_has_a_line_for_each_change(tmp_path: Path) -> None:
    path = tmp_path / "trace.sqlite"
    kept(path)
    told = timeline(path, BAT, NOW - timedelta(hours=1), NOW + timedelta(hours=1))
    text = timeline_words(told, BERLIN)
    assert "hold -2 kW (discharge): plan plan: plan p-7" in text
    assert "hold 3 kW (charge): operator command-1: asked by ada (clamped from 5000 W to 3000 W" in text
    assert "wrote hold 3 kW (charge): confirmed: WSet -3000" in text
    assert "rest" in text  # the dead time between the two signs
    late = timeline(path, BAT, NOW + timedelta(seconds=100), NOW + timedelta(hours=1))
    assert late["lines"][0]["words"] == "hold 3 kW (charge)"
    with pytest.raises(BadInputError, match="has to be before"):
        timeline(path, BAT, NOW, NOW)
    with pytest.raises(BadInputError, match="nothing is kept about bat1 up to then: kept is 2016-12-07T16:00:00"):
        timeline(path, BAT, NOW - timedelta(hours=2), NOW - timedelta(hours=1))


def test_why_says_what_there_is_when_there_is_no_answer(tmp_path: Path) -> None:
    path = tmp_path / "trace.sqlite"
    with pytest.raises(BadInputError, match="no trace yet"):
        explain(path, BAT, NOW)
    kept(path)
    with pytest.raises(BadInputError, match=r"did you mean bat1\? There is: bat1, load01, pv1"):
        explain(path, "bat11", NOW)
    with pytest.raises(BadInputError, match="kept is 2016-12-07T16:00:00"):
        explain(path, BAT, NOW - timedelta(seconds=1))
    with pytest.raises(BadInputError, match="2 minutes ago"):
        answer(path, {"device": BAT, "at": "noon"}, NOW, BERLIN)
    with pytest.raises(BadInputError, match="device"):
        answer(path, {"device": "!"}, NOW, BERLIN)
    with pytest.raises(BadInputError, match="lies ahead"):
        answer(path, {"device": BAT, "at": (NOW + timedelta(minutes=5)).isoformat()}, NOW, BERLIN)


def test_a_file_that_is_no_trace_is_said(tmp_path: Path) -> None:
    path = tmp_path / "trace.sqlite"
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(BadInputError, match="unreadable"):
        explain(path, BAT, NOW)
    path.write_bytes(b"")
    with pytest.raises(BadInputError, match="layout"):
        explain(path, BAT, NOW)


def test_an_instant_at_which_the_agent_did_not_run_is_said(tmp_path: Path) -> None:
    path = tmp_path / "trace.sqlite"
    kept(path)
    assert explain(path, BAT, NOW + timedelta(seconds=119))["away"] is None
    told = explain(path, BAT, NOW + timedelta(hours=2))
    assert "was stopped 2016-12-07T16:04:20+00:00 and has not run since" in told["away"]
    assert "NOTE" in explanation_words(told, BERLIN)
    second = Trace.open(path)
    now = NOW + timedelta(hours=3)
    second.decided({}, Asked(SPECS, (), ArbiterMemory(), SiteFacts({}), now, 180.0), now)
    second.flush()
    assert "began again 2016-12-07T19:00:00+00:00" in explain(path, BAT, NOW + timedelta(hours=2))["away"]
    assert explain(path, BAT, now + timedelta(seconds=30))["away"] is None
    assert "is last known to have run" in explain(path, BAT, now + timedelta(hours=1))["away"]
    second._ring.close()


def test_a_row_of_another_version_is_said_to_differ(tmp_path: Path) -> None:
    question = Asked(SPECS, (), ArbiterMemory(), SiteFacts({}), NOW, 180.0).about(BAT)
    value, spec = question_to_json(question), spec_to_json(question.spec)
    assert question_from_json(value, spec) == question
    path = tmp_path / "trace.sqlite"
    kept(path)
    from tieline_edge.control.explain import check

    body = {"act": action_to_json(HoldPower(77.0, 180.0)), "winner": None, "q": value}
    assert "kept was hold 77 W" in check(body, spec)["reason"]
    assert "another version" in check({**body, "q": {"at": "never"}}, spec)["reason"]
    assert "not kept" in check(body, None)["reason"]


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (None, "left alone"),
        (HoldPower(5e3, 1.0), "hold 5 kW (charge)"),
        (HoldPower(-1.25e6, 1.0), "hold -1.25 MW (discharge)"),
        (HoldPower(0.0, 1.0), "hold 0 W (rest)"),
        (LimitGeneration(None, 1.0), "no limit of generation"),
        (LimitGeneration(-12e3, 1.0), "deliver at most 12 kW"),
        (SwitchContact(closed=True), "close"),
        (SwitchContact(closed=False), "open"),
        (Release(), "release to its own default"),
    ],
)
def test_actions_in_words_and_back(action: Action | None, words: str) -> None:
    assert action_words(action) == words
    assert action_from_json(action_to_json(action)) == action


def test_powers_have_the_prefix_people_use() -> None:
    assert [watts(value) for value in (0.0, -950.0, 5e3, 1.25e6)] == ["0 W", "-950 W", "5 kW", "1.25 MW"]


def event(severity: Severity, code: str) -> Event:
    return Event(event_id=f"event-{code}", edge_id=EdgeId("harbour"), severity=severity, code=code, text="text", at=NOW)


def test_events_an_operator_has_to_look_at_are_kept_for_the_page_and_name_no_device(tmp_path: Path) -> None:
    path = tmp_path / "trace.sqlite"
    trace = Trace.open(path)
    trace.noted(event(Severity.ALARM, "shed.thermal"))
    trace.noted(event(Severity.INFORMATION, "plan.taken"))
    trace.noted(event(Severity.ACTION, "ladder.step"))
    trace.close()
    found = alarms(path, NOW - timedelta(days=1), NOW)
    assert [(one["code"], one["severity"]) for one in found] == [("ladder.step", "ACTION"), ("shed.thermal", "ALARM")]
    assert alarms(path, NOW - timedelta(days=2), NOW - timedelta(days=1)) == []
    with RingReader(path) as ring:
        assert ring.devices() == []


def test_refreshes_a_differing_replay_and_a_cut_timeline_are_told() -> None:
    told = {
        "device": "bat1",
        "at": NOW.isoformat(),
        "decided_at": NOW.isoformat(),
        "since": (NOW - timedelta(hours=1)).isoformat(),
        "words": "open",
        "away": None,
        "winner": None,
        **{key: [] for key in ("losers", "limits", "dropped", "notes")},
        "interval": "no limit",
        "ages_s": {"closed": 0.5, "p_w": 3.0},
        "values": {"closed": False},
        "writes": [{"at": NOW.isoformat(), "refreshed": 3, "first": NOW.isoformat()}],
        "replay": {"same": False, "answer": None, "reason": "another version"},
    }
    text = explanation_words(told, BERLIN)
    for part in (
        "last seen unchanged",
        "nobody claims a setpoint",
        "position open (0.5 s old)",
        "power not usable (3 s old)",
        "and again 3 times",
        "DIFFERS: another version",
    ):
        assert part in text, text
    bounded = explanation_words(
        {**told, "limits": [["safety", "thermal-overload", "limit [-∞, -60000] W", "no charging"]]}, BERLIN
    )
    assert "nobody claims a setpoint; see the limits below" in bounded
    lines = [{"at": NOW.isoformat(), "kind": "decision", "words": "open", "because": "nobody claims it"}]
    cut = {"device": "bat1", "since": NOW.isoformat(), "until": NOW.isoformat(), "lines": lines, "more": True}
    assert "ask for a shorter span" in timeline_words(cut, BERLIN)
