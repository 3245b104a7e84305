"""Lines by ampere rating and time, and who is shed for them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.edge.shedding.plant import LEVELS, LOADS, Plant, shedding

#: 3 x 230 V x 30 A = 20.7 kW.
LINE: dict[str, Any] = {"device": "fm1", "rating_a": 30.0, "loads": ["l31", "l32"]}


class Line(Plant):
    """The site with a meter in the line of two loads."""

    more_w = 0.0

    def run(self, seconds: float, period_s: float = 1.0) -> None:
        for _ in range(round(seconds / period_s)):
            power = self.more_w + sum(LOADS[name][1] for name in ("l31", "l32") if self.closed[name])
            self.extra |= {("fm1", "i_a"): power / 690.0, ("fm1", "p_w"): power, ("fm1", "q_var"): 0.0}
            super().run(period_s, period_s)


def line(**rest: Any) -> Line:
    return Line(shedding(lines=[LINE], line_overload=LEVELS, **rest), base_w=10e3)


def test_only_what_the_line_feeds_is_shed_for_it_whatever_the_classes_of_others() -> None:
    site = line()
    site.more_w = 2e3  # 22 kW of 20.7
    site.run(10)
    assert site.open == set()
    site.run(1)
    assert site.open == {"l32"}
    assert site.codes == ["shed.line"]


def test_a_short_and_higher_overload_has_a_shorter_hold() -> None:
    site = line()
    site.more_w = 8e3
    site.run(5)
    assert site.open == set()
    site.run(1)
    assert site.open == {"l31"}


def test_loads_return_when_the_line_has_room_for_their_cold_power() -> None:
    site = line()
    site.more_w = 2e3
    site.run(11)
    site.more_w = -6e3  # 12 kW remain less 6 and 8 kW times 1.3 come back: 16.4 kW of 17.6 at 85 %
    site.run(60)
    assert site.open == set()


@pytest.mark.parametrize("amperes", [1e9, -1.0])
def test_an_absurd_current_never_acts(amperes: float) -> None:
    site = Plant(shedding(lines=[LINE]), base_w=10e3, extra={("fm1", "i_a"): amperes})
    site.run(90)
    assert site.open == set()
    assert "shed.line.blind" in site.codes


def test_a_line_without_a_list_feeds_every_load_and_needs_no_power_meter() -> None:
    site = Plant(shedding(lines=[{"device": "fm1", "rating_a": 30.0}], line_overload=LEVELS), base_w=10e3)
    site.extra["fm1", "i_a"] = 32.0  # 1.5 A above 95 %: 2.4 kW
    site.run(11)
    assert site.open == {"l42"}
