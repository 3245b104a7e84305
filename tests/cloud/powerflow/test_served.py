"""Served load after an outage."""

from __future__ import annotations

import numpy as np
import pytest

from tieline_cloud.gridmodel import GridModel
from tieline_cloud.powerflow import served_load


def loads(grid: GridModel, **megawatts: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    out = np.zeros(len(grid.buses))
    for name, power in megawatts.items():
        out[grid.bus_index(name)] = power * 1e6
    return out


def test_a_tie_brings_back_what_an_outage_put_in_the_dark(village: GridModel) -> None:
    p_w = loads(village, n1=0.4, n2=0.3, n3=0.5, s1=0.6, s2=0.2)
    found = served_load(village, p_w, 0.25 * p_w, "cable-n2")
    assert found.before_pct == pytest.approx(60.0)
    assert found.after_pct == pytest.approx(100.0)
    assert found.tie == "tie"


def test_a_tie_that_would_be_overloaded_or_collapse_is_no_help(village: GridModel) -> None:
    for heavy in (8.0, 60.0):
        p_w = loads(village, n3=heavy, s1=0.5)
        found = served_load(village, p_w, 0.0 * p_w, "cable-n3")
        assert found.tie is None
        assert found.after_pct == found.before_pct < 100.0


def test_an_overload_elsewhere_is_not_held_against_a_tie(village: GridModel) -> None:
    p_w = loads(village, n1=0.4, n3=0.5, **{"harbour/lv": 0.8})
    found = served_load(village, p_w, 0.0 * p_w, "cable-n3")
    assert found.tie == "tie"
    assert found.after_pct == pytest.approx(100.0)


def test_the_last_line_to_a_busbar_has_no_way_back(village: GridModel) -> None:
    p_w = loads(village, n1=0.5, **{"harbour/lv": 0.5})
    found = served_load(village, p_w, 0.0 * p_w, "harbour/tr1")
    assert found.before_pct == found.after_pct == pytest.approx(50.0)
    assert found.tie is None


def test_without_load_everything_is_served_and_unknown_branches_are_named(village: GridModel) -> None:
    nothing = np.zeros(len(village.buses))
    assert served_load(village, nothing, nothing, "cable-n1").after_pct == 100.0
    with pytest.raises(KeyError, match="nowhere"):
        served_load(village, nothing, nothing, "nowhere")
