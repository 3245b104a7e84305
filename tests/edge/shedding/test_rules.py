"""The table of rules, the vital list and what a policy may change."""

from __future__ import annotations

import random

import pytest

from tieline_core.errors import BadInputError
from tieline_core.ids import DeviceId, EdgeId
from tieline_core.messages.policy import Policy
from tieline_core.shedding import ThermalOverloadParameters
from tieline_edge.drivers.capabilities import Capability, DeviceSpec, Role
from tieline_edge.settings import SheddingSettings
from tieline_edge.shedding.rule import RuleSite, VitalLoadError
from tieline_edge.shedding.rules import RULES, load_rules, with_policy

EDGE, TR, A, B = EdgeId("harbour"), DeviceId("tr1"), DeviceId("load01"), DeviceId("load10")


def site(*, vital: tuple[DeviceId, ...] = (), b_class: int = 0, transformer: DeviceId | None = TR) -> RuleSite:
    specs = {
        TR: DeviceSpec(TR, Role.TRANSFORMER, frozenset()),
        A: DeviceSpec(A, Role.LOAD, frozenset({Capability.SWITCH}), 3),
        B: DeviceSpec(B, Role.LOAD, frozenset({Capability.SWITCH}), b_class),
    }
    return RuleSite(EDGE, 630e3, specs, SheddingSettings(transformer=transformer, vital=vital))


def policy(**rest: object) -> Policy:
    return Policy.model_validate({"policy_id": "policy-1", "edge_id": "harbour", **rest})


def test_every_rule_of_the_table_loads_and_has_a_memory_that_can_be_stored() -> None:
    rules = load_rules(site(), random.Random(1))
    assert {rule.key.split("/")[0] for rule in rules.rules} <= set(RULES)
    rules.load(rules.dump())
    assert rules.shed == ()
    with pytest.raises(ValueError, match="validation error"):
        rules.load('{"mechanism": 3}')


def test_a_site_without_a_watched_transformer_has_no_thermal_rule() -> None:
    assert load_rules(site(transformer=None), random.Random(1)).rules == ()


def test_a_set_of_rules_that_could_shed_a_vital_load_does_not_load() -> None:
    with pytest.raises(VitalLoadError, match="load10 is on the vital list and has class 2"):
        load_rules(site(vital=(B,), b_class=2), random.Random(1))
    load_rules(site(vital=(B, TR), b_class=0), random.Random(1))


def test_a_policy_changes_classes_and_levels_and_adds_vital_loads() -> None:
    levels = ThermalOverloadParameters(hold_s=30)
    changed = with_policy(site(), policy(thermal_overload=levels.model_dump(), classes={"load01": 4}))
    assert changed.specs[A].priority_class == 4
    assert changed.settings.thermal_overload == levels
    assert load_rules(with_policy(site(), policy(vital=["load01"])), random.Random(1)).parameters.loads == {}


@pytest.mark.parametrize("sheds", [{"classes": {"load10": 3}}, {"classes": {"load01": 3}, "vital": ["load01"]}])
def test_a_policy_never_makes_a_vital_load_sheddable(sheds: dict[str, object]) -> None:
    with pytest.raises(BadInputError, match="never made sheddable"):
        with_policy(site(), policy(**sheds))


def test_a_policy_that_names_unknown_devices_is_refused() -> None:
    with pytest.raises(BadInputError, match="classes = 'load99'"):
        with_policy(site(), policy(classes={"load99": 3}))
    with pytest.raises(BadInputError, match="vital = 'load99'"):
        with_policy(site(), policy(vital=["load99"]))
