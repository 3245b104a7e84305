"""Hours of safe autonomy, worked out by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tests.certificates import clean_certificate
from tieline_core.ids import DeviceId
from tieline_core.messages.network import NetworkElement, NetworkTable
from tieline_core.messages.plan import Plan
from tieline_edge.control.autonomy import Outlook, autonomy, autonomy_words, with_outbox
from tieline_edge.control.facts import DeviceFacts, SiteFacts
from tieline_edge.control.local_schedule import LocalSchedule
from tieline_edge.control.plan_book import HeldPlan
from tieline_edge.drivers.capabilities import Capability, DeviceSpec, Role

NOW = datetime(2016, 12, 7, 16, tzinfo=UTC)
BAT = DeviceId("bat1")
SPECS = {
    BAT: DeviceSpec(
        BAT,
        Role.STORAGE,
        frozenset({Capability.HOLD_POWER}),
        energy_wh=100e3,
        soc_min_pct=10.0,
        soc_max_pct=90.0,
        soc_reserve_pct=20.0,
    )
}
NOTHING = Outlook((), None, renewed=True, network=None)


def plan(start_h: float, hours: int) -> HeldPlan:
    made = Plan.model_validate(
        {
            "plan_id": f"plan-{start_h:+06.1f}",
            "edge_id": "harbour",
            "issued_at": NOW,
            "start": NOW + timedelta(hours=start_h),
            "step_s": 3600,
            "devices": [{"device_id": "bat1", "mode": "setpoint_w", "values_w": [0.0] * hours}],
            "certificate": clean_certificate(NOW),
        }
    )
    return HeldPlan(made, "a" * 64)


def local(hours: int) -> LocalSchedule:
    return LocalSchedule(NOW, NOW, 3600, {BAT: (0.0,) * hours}, 0.0, "weekly")


def facts(power_w: float | None = 0.0, soc: float | None = 50.0) -> SiteFacts:
    return SiteFacts({BAT: DeviceFacts(power_w, soc)})


def test_a_schedule_that_is_made_again_and_again_has_no_end() -> None:
    known = autonomy(NOTHING, SPECS, facts(), NOW)
    assert (known.hours, known.limited_by) == (None, "")
    assert autonomy_words(known) == "no end in sight within 30 days"


def test_plans_count_up_to_the_first_gap_with_their_last_step_held() -> None:
    def hours(*plans: HeldPlan, schedule: LocalSchedule | None = None) -> float | None:
        return autonomy(Outlook(plans, schedule, renewed=False, network=None), SPECS, facts(), NOW).hours

    assert hours() == 0.0
    assert hours(plan(-1, 4)) == 4.0, "three hours of plan and one held"
    assert hours(plan(-1, 4), plan(3, 5)) == 9.0
    assert hours(plan(-1, 2), plan(5, 5)) == 2.0
    assert hours(plan(-1, 2), plan(5, 5), schedule=local(6)) == 11.0


def test_energy_counts_down_to_the_reserve_while_a_storage_discharges() -> None:
    assert autonomy(NOTHING, SPECS, facts(-10e3), NOW).parts["energy"] == 2.0
    assert autonomy(NOTHING, SPECS, facts(-10e3, 20.0), NOW).parts["energy"] == 0.0
    assert autonomy(NOTHING, SPECS, facts(10e3), NOW).parts["energy"] is None
    assert autonomy(NOTHING, SPECS, facts(None), NOW).parts["energy"] is None


def test_the_network_table_is_trusted_for_a_week_and_the_least_part_is_named() -> None:
    element = NetworkElement(element="tr1", quantity="loading_pct", high=100.0, value=(1.0,) * 24, sensitivities=())
    table = NetworkTable(start=NOW, step_s=3600, p_w={}, elements=(element,))
    known = autonomy(Outlook((), None, renewed=True, network=table), SPECS, facts(-10e3), NOW)
    assert known.parts == {"schedule": None, "network": 192.0, "energy": 2.0}
    assert (known.hours, known.limited_by) == (2.0, "energy")
    full = with_outbox(known, 1.5)
    assert (full.hours, full.limited_by) == (1.5, "outbox")
    assert autonomy_words(full) == "1.5 h, limited by outbox (energy 2 h, network 192 h, outbox 1.5 h)"
    assert with_outbox(known, None).hours == 2.0
    assert with_outbox(known, 1e5).parts["outbox"] is None, "beyond a month nothing is foreseen"
