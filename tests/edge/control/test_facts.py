"""Facts: only usable, young values reach the arbiter."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tieline_core.ids import DeviceId, EdgeId, PointId
from tieline_core.quantities import Quality, Reading
from tieline_edge.control.facts import AgeLimits, SiteFacts, gather
from tieline_edge.drivers.capabilities import DeviceSpec, Role
from tieline_edge.snapshot import ProcessImage

EDGE, TR, BAT, LOAD = EdgeId("harbour"), DeviceId("tr1"), DeviceId("bat1"), DeviceId("load01")
NOW = datetime(2016, 12, 7, 16, tzinfo=UTC)
SPECS = {
    device: DeviceSpec(device, role, frozenset())
    for device, role in ((TR, Role.TRANSFORMER), (BAT, Role.STORAGE), (LOAD, Role.LOAD))
}


def facts(*rows: tuple[DeviceId, str, float, float], ages: AgeLimits | None = None) -> SiteFacts:
    image = ProcessImage()
    image.put(Reading(PointId.of(EDGE, device, name), value, NOW - timedelta(seconds=age)) for device, name, value, age in rows)
    return gather(image.freeze(NOW), EDGE, SPECS, ages or AgeLimits(10.0))


def test_young_values_are_taken_and_old_ones_are_absent_with_their_age() -> None:
    seen = facts((BAT, "p_w", -5e3, 1.0), (BAT, "soc_pct", 50.0, 11.0), (LOAD, "closed", 1.0, 2.0))
    assert seen.of(BAT).p_w == -5e3
    assert seen.of(BAT).soc_pct is None
    assert dict(seen.of(BAT).ages_s) == {"p_w": 1.0, "soc_pct": 11.0}
    assert seen.of(LOAD).closed is True
    assert seen.of(DeviceId("nobody")).p_w is None


def test_a_slowly_polled_device_has_its_own_age_limit() -> None:
    limits = AgeLimits(10.0, {BAT: 60.0})
    assert facts((BAT, "soc_pct", 50.0, 11.0), ages=limits).of(BAT).soc_pct == 50.0


def test_stale_values_are_absent_however_young() -> None:
    image = ProcessImage()
    image.put([Reading(PointId.of(EDGE, BAT, "p_w"), 1.0, NOW, Quality.STALE)])
    assert gather(image.freeze(NOW), EDGE, SPECS, AgeLimits(10.0)).of(BAT).p_w is None


@pytest.mark.parametrize(
    ("rows", "live"),
    [
        ([], None),
        ([(TR, "v_v", 400.0, 1.0)], True),
        ([(TR, "v_v", 12.0, 1.0)], False),
        ([(TR, "breaker_closed", 1.0, 1.0)], True),
        ([(TR, "breaker_closed", 0.0, 1.0), (TR, "v_v", 400.0, 1.0)], False),
        ([(TR, "v_v", 400.0, 99.0)], None),
    ],
)
def test_the_busbar_is_live_dead_or_unknown(rows: list[tuple[DeviceId, str, float, float]], live: bool | None) -> None:
    assert facts(*rows).bus_live is live


def test_a_site_that_measures_no_busbar_is_taken_as_live() -> None:
    snapshot = ProcessImage().freeze(NOW)
    assert gather(snapshot, EDGE, {BAT: SPECS[BAT]}, AgeLimits(10.0)).bus_live is True
