"""Parameters of local shedding: defaults of the default rule set, order of levels, and the way over the wire."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from tieline_core.ids import EdgeId
from tieline_core.messages.policy import Policy
from tieline_core.shedding import (
    STAGES,
    ExchangeParameters,
    FrequencyParameters,
    HotSpotParameters,
    LineOverloadParameters,
    LossOfMainsParameters,
    StorageParameters,
    SwitchingParameters,
    ThermalOverloadParameters,
    VoltageParameters,
)

SECTIONS: dict[str, BaseModel] = {
    "thermal_overload": ThermalOverloadParameters(),
    "hot_spot": HotSpotParameters(),
    "line_overload": LineOverloadParameters(),
    "voltage": VoltageParameters(),
    "frequency": FrequencyParameters(nominal_hz=60),
    "exchange": ExchangeParameters(import_w=1e5),
    "loss_of_mains": LossOfMainsParameters(),
    "switching": SwitchingParameters(),
    "storage": StorageParameters(),
}


def test_every_section_goes_over_the_wire_and_a_policy_may_hold_all_of_them() -> None:
    policy = Policy.model_validate({"policy_id": "policy-1", "edge_id": EdgeId("harbour"), **SECTIONS})
    assert Policy.from_bytes(policy.to_bytes(), "test") == policy
    for section in SECTIONS.values():
        assert type(section).model_validate_json(section.model_dump_json()) == section


def test_the_defaults_are_those_of_the_default_rule_set() -> None:
    told = ThermalOverloadParameters()
    assert (told.trip_pct, told.hold_s, told.severe_pct, told.severe_hold_s) == (100, 60, 120, 5)
    assert (told.target_pct, told.restore_pct, told.restore_hold_s) == (95, 85, 600)
    volts = VoltageParameters()
    assert (volts.low_pu, volts.hold_s, volts.severe_pu, volts.severe_hold_s) == (0.92, 60, 0.88, 5)
    assert (volts.restore_pu, volts.restore_hold_s) == (0.95, 300)
    fifty, sixty = STAGES[50], STAGES[60]
    assert [(one.below_hz, one.hold_s, one.share_pct) for one in fifty] == [
        (49.8, 5, 15),
        (49.6, 2, 40),
        (49.4, 1, 70),
        (49.2, 0.5, 100),
    ]
    assert [one.below_hz for one in sixty] == [59.85, 59.75, 59.65, 59.55]
    assert [(one.restore_hz, one.restore_hold_s) for one in fifty] == [(49.95, 300), (49.95, 600), (49.95, 900), (49.98, 1800)]
    assert [one.latched and one.discharge for one in fifty] == [False, False, False, True]
    assert FrequencyParameters().droop_below_hz == 49.9


@pytest.mark.parametrize(
    ("section", "wrong"),
    [
        (LineOverloadParameters, {"target_pct": 101.0}),
        (LineOverloadParameters, {"severe_hold_s": 61.0}),
        (HotSpotParameters, {"trip_degc": 110.0}),
        (VoltageParameters, {"hold_s": 45.0}),
        (VoltageParameters, {"high_hold_s": 45.0}),
        (VoltageParameters, {"restore_pu": 0.9}),
        (VoltageParameters, {"high_restore_pu": 1.1}),
        (FrequencyParameters, {"stages": (STAGES[50][0], STAGES[50][0])}),
        (FrequencyParameters, {"stages": ({**STAGES[50][0].model_dump(), "name": "X1"},)}),
        (FrequencyParameters, {"nominal_hz": 60, "stages": STAGES[50][:1], "high_hz": 59.0}),
        (SwitchingParameters, {"effect_share": 0.0}),
        (SwitchingParameters, {"colour": "red"}),
        (ExchangeParameters, {"import_w": float("nan")}),
        (StorageParameters, {"hold_s": float("inf")}),
        (LossOfMainsParameters, {"batteries": "run"}),
    ],
)
def test_what_makes_no_sense_is_refused(section: type[BaseModel], wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        section.model_validate(wrong)


def test_stages_may_not_stand_twice_under_one_name() -> None:
    twice = (STAGES[50][0], STAGES[50][1].model_copy(update={"name": "D1"}))
    with pytest.raises(ValidationError, match="each stage stands once"):
        FrequencyParameters(stages=twice)


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        (SwitchingParameters, "effect_s"),
        (SwitchingParameters, "min_off_s"),
        (SwitchingParameters, "restore_step_s"),
        (SwitchingParameters, "restore_spread_s"),
        (ThermalOverloadParameters, "restore_hold_s"),
        (VoltageParameters, "restore_hold_s"),
        (ExchangeParameters, "restore_hold_s"),
        (LossOfMainsParameters, "stable_s"),
    ],
)
def test_a_wait_longer_than_a_day_is_a_mistake(kind: type[BaseModel], key: str) -> None:
    """Added to an instant it would end in the control loop, or keep a load open for ever."""
    with pytest.raises(ValidationError, match=key):
        kind.model_validate({key: 1e300})
