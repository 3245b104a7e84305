"""Derived points of the site."""

from __future__ import annotations

from datetime import UTC, datetime

from tieline_core.ids import DeviceId, EdgeId
from tieline_core.messages.desired import LadderStep
from tieline_edge.control.facts import DeviceFacts, SiteFacts
from tieline_edge.control.site_points import SitePower, site_power, site_readings
from tieline_edge.drivers.capabilities import DeviceSpec, Role

TR, BAT, PV = map(DeviceId, ("tr1", "bat1", "pv1"))
SPECS = {
    device: DeviceSpec(device, role, frozenset())
    for device, role in ((TR, Role.TRANSFORMER), (BAT, Role.STORAGE), (PV, Role.PV))
}
NOW = datetime(2016, 12, 7, 16, tzinfo=UTC)


def test_load_is_what_flows_in_less_storage_less_pv() -> None:
    facts = SiteFacts({TR: DeviceFacts(300e3), BAT: DeviceFacts(-50e3), PV: DeviceFacts(-20e3)})
    assert site_power(SPECS, facts, TR) == SitePower(370e3, -20e3, -50e3)


def test_one_unusable_input_leaves_the_load_unknown_and_the_rest_known() -> None:
    facts = SiteFacts({TR: DeviceFacts(300e3), PV: DeviceFacts(-20e3)})
    assert site_power(SPECS, facts, TR) == SitePower(None, -20e3, None)
    assert site_power(SPECS, SiteFacts({}), None) == SitePower(None, None, None)


def test_what_is_known_is_recorded_at_its_resolution_with_the_ladder_step() -> None:
    readings = site_readings(EdgeId("harbour"), SitePower(370_000.04, None, 0.0), LadderStep.LAST_PLAN, NOW)
    assert {reading.point: reading.value for reading in readings} == {
        "harbour/site/load_w": 370e3,
        "harbour/site/storage_w": 0.0,
        "harbour/site/ladder_step": 1.0,
    }
