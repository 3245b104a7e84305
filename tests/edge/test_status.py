"""A status document in words."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from tieline_core.ids import DeviceId
from tieline_edge.control.arbiter import Decision
from tieline_edge.control.claims import NO_LIMIT, Band, Claim, Failsafe, Interval
from tieline_edge.drivers.capabilities import HoldPower
from tieline_edge.status import _told, in_words, pss_mb


def document(**rest: Any) -> dict[str, Any]:
    return {
        "edge": "harbour",
        "site": "Harbour",
        "software": "tieline-edge/0.1.0",
        "at": "2016-12-07T16:00:00+00:00",
        "monitor_only": False,
        "hub_online": True,
        "ladder": {"step": 1, "name": "last_plan", "reason": "newest plan p2 starts at 17:00 UTC"},
        "shed": ["load01", "load02"],
        "forecast": "by model abc",
        "cycle": {"count": 7, "p99_ms": 3.21},
        "backlog": {
            "alarm": {"frames": 1, "readings": 0, "oldest_at": "2016-12-07T15:50:00+00:00", "committed_seq": 7},
            "measure": {"frames": 4, "readings": 900, "oldest_at": None, "committed_seq": 120},
        },
        "outbox": {"usable": True, "used_bytes": 2.5e6, "max_bytes": 512e6, "room_h": 260.0},
        "autonomy": {"hours": 12.5, "limited_by": "schedule", "parts": {"schedule": 12.5, "outbox": 260.0}},
        "devices": {"bat1": {"online": True, "error": None}, "fm1": {"online": False, "error": "time-out"}},
        **rest,
    }


def test_everything_an_operator_asks_first_is_there() -> None:
    text = in_words(document())
    for part in (
        "last plan: newest plan p2",
        "answers; 5 frames wait",
        "900 readings wait, the oldest of 2016-12-07T15:50:00+00:00",
        "2.5 of 512 MB used",
        "12.5 h, limited by schedule",
        "room for 260 h",
        "measure committed to 120",
        "load01, load02",
        "1 of 2 answer",
        "fm1 (time-out)",
        "3.2 ms",
    ):
        assert part in text
    assert "MONITOR ONLY" not in text


def test_the_instant_is_the_site_s_and_a_dry_run_sheds_in_the_conditional() -> None:
    text = in_words(document(time_zone="Europe/Berlin", dry_run=True))
    assert "at 2016-12-07 17:00:00 CET (16:00:00 UTC)" in text
    assert "load01, load02 (would be: dry run)" in text


def test_a_power_nobody_asked_for_names_the_limit_that_forces_it() -> None:
    device, at = DeviceId("bat1"), datetime(2016, 12, 7, 17, tzinfo=UTC)
    rating = Claim(device, Band.INTERLOCK, "rating", "limits of the device", limit=Interval(-60e3, 60e3))
    relief, failsafe = Interval(hi=-60e3), Failsafe(NO_LIMIT, 0.0)
    safety = Claim(device, Band.SAFETY, "thermal", "no charging", limit=relief, expires_at=at, failsafe=failsafe)
    forced = Decision(device, HoldPower(-60e3, 30.0), limits=(rating, safety))
    assert _told(forced) == {"told": "hold -60 kW (discharge)", "because": "local protection: no charging"}
    assert _told(Decision(device, HoldPower(0.0, 30.0), limits=(rating,)))["because"] is None


def test_a_monitor_says_so_and_nothing_shed_is_said_too() -> None:
    text = in_words(document(monitor_only=True, shed=[], hub_online=False))
    assert "MONITOR ONLY" in text
    assert "shed      nothing" in text
    assert "is not reached" in text


def test_a_disk_that_refuses_is_said_in_capitals() -> None:
    text = in_words(document(outbox={"usable": False, "used_bytes": 0, "max_bytes": 1, "room_h": None}))
    assert "THE DISK REFUSES" in text


def test_the_memory_of_this_process_is_known_on_linux() -> None:
    size = pss_mb()
    assert size is None or size > 5
