"""What added or shed active power makes of a loading."""

from __future__ import annotations

import math

import pytest

from tieline_edge.shedding.burden import Burden


def test_the_loading_scales_with_apparent_power_when_reactive_power_is_known() -> None:
    burden = Burden(100.0, 500e3, 400e3, 300e3)
    assert burden.after(-400e3) == pytest.approx(60.0)
    assert burden.after(0.0) == 100.0
    # 0.95 of 500 kVA is 475 kVA; with 300 kvar left 368.27 kW may flow.
    assert burden.excess_w(95.0) == pytest.approx(400e3 - math.sqrt(475e3**2 - 300e3**2))
    assert burden.flow_w == 400e3


def test_without_reactive_power_the_active_power_counts_in_full() -> None:
    burden = Burden(110.0, 500e3, None, None)
    assert burden.after(-50e3) == pytest.approx(100.0)
    assert burden.excess_w(95.0) == pytest.approx(75e3)
    assert burden.after(-1e9) == 0.0
    assert burden.flow_w == pytest.approx(550e3)
    assert Burden(90.0, 500e3, None, None).excess_w(95.0) == 0.0


def test_room_is_what_may_be_added_below_a_level() -> None:
    assert Burden(75.0, 500e3, None, None).room_w(85.0) == pytest.approx(50e3)
    burden = Burden(80.0, 500e3, 320e3, 240e3)
    assert burden.after(burden.room_w(85.0)) == pytest.approx(85.0)
    assert burden.room_w(70.0) == 0.0
    assert Burden(0.0, 500e3, 2.0, 0.0).room_w(85.0) == pytest.approx(425e3, rel=1e-4)


def test_a_transformer_that_feeds_back_exports() -> None:
    burden = Burden(110.0, 500e3, -550e3, 0.0)
    assert burden.exports
    assert burden.excess_w(95.0) == pytest.approx(75e3)
    assert not Burden(110.0, 500e3, None, None).exports
