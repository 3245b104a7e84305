"""Known prices on the steps of a schedule."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from pydantic import ValidationError

from tieline_core.messages.network import PriceVector
from tieline_edge.control.prices import of_tariff, of_vector
from tieline_edge.settings import LocalScheduleSettings, TariffStep

START = datetime(2016, 12, 7, 16, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")
TARIFF = (TariffStep(start=time(6), eur_per_mwh=200.0), TariffStep(start=time(22), eur_per_mwh=90.0))


def test_a_vector_gives_the_leading_steps_it_covers() -> None:
    vector = PriceVector(start=START, step_s=3600, eur_per_mwh=(10.0, 20.0))
    assert list(of_vector(vector, START + timedelta(minutes=30), 900, 96)) == [10.0, 10.0, 20.0, 20.0, 20.0, 20.0]
    assert of_vector(vector, START - timedelta(minutes=15), 900, 96).size == 0
    assert of_vector(vector, START + timedelta(hours=2), 900, 96).size == 0


def test_a_tariff_follows_local_time_over_midnight_and_over_a_day_of_25_hours() -> None:
    assert list(of_tariff(TARIFF, BERLIN, START, 3600, 7)) == [200.0] * 5 + [90.0, 90.0]
    night = datetime(2016, 10, 29, 22, tzinfo=UTC)  # midnight in Berlin, the clocks go back three hours later
    prices = list(of_tariff(TARIFF, BERLIN, night, 3600, 8))
    assert prices == [90.0] * 7 + [200.0]
    assert of_tariff((), BERLIN, START, 900, 4).size == 0


def test_a_tariff_must_ascend() -> None:
    with pytest.raises(ValidationError, match="ascend"):
        LocalScheduleSettings(tariff=TARIFF[::-1])
