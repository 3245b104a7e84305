"""The offsets of ratings that a scan reads are those of the public SunSpec model files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import sunspec2

from tieline_edge.commissioning.scan_modbus import RATINGS

MODELS = Path(sunspec2.__file__).parent / "models/json"
#: What each rating is called there.
NAMES = {
    "charge_w": {702: "WChaRteMaxRtg", 120: "MaxChaRte", 124: "WChaMax", 802: "WChaRteMax"},
    "discharge_w": {702: "WDisChaRteMaxRtg", 120: "MaxDisChaRte", 124: "WChaMax", 802: "WDisChaRteMax"},
    "generation_w": {702: "WMaxRtg", 120: "WRtg", 121: "WMax"},
    "energy_wh": {802: "WHRtg", 713: "WHRtg", 120: "WHRtg"},
}


@pytest.mark.parametrize(("rating", "row"), [(name, row) for name, rows in RATINGS.items() for row in rows])
def test_value_and_scale_factor_stand_where_the_model_says(rating: str, row: tuple[int, int, int]) -> None:
    number, offset, factor = row
    group = json.loads((MODELS / f"model_{number}.json").read_text(encoding="utf-8"))["group"]
    starts, at = {}, 0
    for point in group["points"]:
        starts[point["name"]] = (at, point)
        at += point["size"]
    place, point = starts[NAMES[rating][number]]
    assert (place, starts[point["sf"]][0]) == (offset, factor)
    assert point["type"] == "uint16"
    assert point["units"].upper() == ("WH" if rating == "energy_wh" else "W")
