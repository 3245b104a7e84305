"""The control loop without a plan: schedules from the local forecast, prices of the last plan, the site's tariff."""

from __future__ import annotations

from datetime import time
from pathlib import Path

from tests.edge.control.site import BAT, EDGE, NOW, Site, plan
from tieline_core.ids import PointId
from tieline_core.messages.desired import LadderStep
from tieline_core.messages.network import PriceVector
from tieline_core.messages.telemetry import IssuedForecast
from tieline_edge.settings import LocalScheduleSettings, TariffStep


def forecast() -> IssuedForecast:
    p50 = tuple([100e3] * 4 + [50e3] * 20)
    return IssuedForecast(
        point=PointId("harbour/site/load_w"),
        model_id="weekly",
        issued_at=NOW,
        start=NOW,
        step_s=900,
        p10=p50,
        p50=p50,
        p90=p50,
        lo90=p50,
        hi90=p50,
    )


async def test_without_a_plan_the_local_forecast_makes_the_schedule(tmp_path: Path) -> None:
    site = Site(tmp_path)
    await site.run(1)
    assert site.ladder() is LadderStep.DEVICE_DEFAULT
    await site.cycle.take_forecast(forecast())
    await site.run(2)
    assert site.ladder() is LadderStep.LOCAL_SCHEDULE
    assert site.field.power[BAT] < -30e3
    assert "ladder.step" in site.events
    site.close()


async def test_a_battery_that_is_silent_when_a_forecast_comes_keeps_its_schedule(tmp_path: Path) -> None:
    site = Site(tmp_path)
    await site.run(1)
    await site.cycle.take_forecast(forecast())
    site.image.mark_stale([PointId.of(EDGE, BAT, "soc_pct")])
    await site.cycle.take_forecast(forecast())
    await site.run(2)
    assert site.ladder() is LadderStep.LOCAL_SCHEDULE
    assert site.field.power[BAT] < -30e3
    site.close()


async def test_prices_of_the_last_plan_steer_the_battery_after_its_end(tmp_path: Path) -> None:
    site = Site(tmp_path)
    object.__setattr__(
        site.parts,
        "settings",
        site.parts.settings.model_copy(
            update={"local_schedule": LocalScheduleSettings(objective="price", end_eur_per_mwh=0.0)}
        ),
    )
    prices = PriceVector(start=NOW, step_s=900, eur_per_mwh=(50.0, 50.0, 400.0, 50.0))
    await site.cycle.take_plan(plan(prices=prices), "a" * 64)
    await site.run(1)
    await site.clock.advance(1800.0)
    flat = (100e3,) * 24
    site.image.put(site.field.readings(site.clock.now()))
    await site.cycle.take_forecast(
        IssuedForecast(
            point=PointId("harbour/site/load_w"),
            model_id="weekly",
            issued_at=NOW,
            start=NOW,
            step_s=900,
            p10=flat,
            p50=flat,
            p90=flat,
            lo90=flat,
            hi90=flat,
        )
    )
    await site.run(2)
    assert site.ladder() is LadderStep.LOCAL_SCHEDULE
    assert site.field.power[BAT] == -60e3
    winner = site.cycle.decisions[BAT].winner
    assert winner is not None
    assert "cheapest by known prices" in winner.reason
    site.close()


async def test_without_prices_the_tariff_of_the_site_is_asked(tmp_path: Path) -> None:
    site = Site(tmp_path)
    tariff = (TariffStep(start=time(0), eur_per_mwh=80.0),)
    local = LocalScheduleSettings(objective="price", tariff=tariff)
    object.__setattr__(site.parts, "settings", site.parts.settings.model_copy(update={"local_schedule": local}))
    assert list(site.cycle._prices(NOW, 900, 3)) == [80.0] * 3
    site.close()
