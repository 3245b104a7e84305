"""Every catalogue entry and every driver keeps the contract; a new one is covered the moment its file is there."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.edge.drivers.field import EDGE, START, make_context
from tieline_core.clock import ManualClock
from tieline_core.errors import BadInputError
from tieline_core.quantities import QUANTITIES
from tieline_edge.config_file import check_config, load_settings
from tieline_edge.drivers._blueprint.driver import BlueprintDriver
from tieline_edge.drivers.capabilities import (
    Action,
    Capability,
    DevicePermanentError,
    DeviceSpec,
    DeviceTransientError,
    HoldPower,
    LimitGeneration,
    Release,
    Role,
    SwitchContact,
)
from tieline_edge.drivers.catalog.entry import CatalogEntry
from tieline_edge.drivers.catalog.load import entry, names, parse_entry
from tieline_edge.drivers.modbus.program import Scales, plan_writes
from tieline_edge.drivers.modbus.registers import coalesce
from tieline_edge.drivers.mqtt.orders import plan_messages
from tieline_edge.drivers.opcua.writes import plan_node_writes
from tieline_edge.drivers.points import PointTable
from tieline_edge.drivers.registry import DRIVERS, driver_module, open_driver, spec_of
from tieline_edge.settings import DeviceSettings, MqttEndpoint

PLACES: dict[str, dict[str, Any]] = {
    "modbus": {"modbus": {"host": "127.0.0.1", "port": 1, "timeout_s": 0.2}},
    "opcua": {"opcua": {"url": "opc.tcp://127.0.0.1:1", "timeout_s": 0.2, "insecure": True}},
    "mqtt": {"mqtt": {"serial": "s1"}},
}
ACTIONS: dict[Capability, Action] = {
    Capability.HOLD_POWER: HoldPower(-1000.0, 180.0),
    Capability.LIMIT_GENERATION: LimitGeneration(-1000.0, 180.0),
    Capability.SWITCH: SwitchContact(closed=False, off_timer_s=60.0),
}


def plan_registers(action: Action, spec: DeviceSpec, model: CatalogEntry) -> Sequence[object]:
    return plan_writes(action, spec, model, Scales({step.register_: 0 for step in model.writes.all()}, rating_w=60000.0))


def plan_nodes(action: Action, spec: DeviceSpec, model: CatalogEntry) -> Sequence[object]:
    return plan_node_writes(action, spec, model, "B1")


def plan_topics(action: Action, spec: DeviceSpec, model: CatalogEntry) -> Sequence[object]:
    return plan_messages(action, spec, model, "s1")


#: Protocol -> how its driver turns an action into what it sends.
PLANNERS: dict[str, Callable[[Action, DeviceSpec, CatalogEntry], Sequence[object]]] = {
    "modbus": plan_registers,
    "opcua": plan_nodes,
    "mqtt": plan_topics,
}


def instance(model: CatalogEntry) -> DeviceSettings:
    more: dict[str, Any] = {"p_min_w": -60000.0, "p_max_w": 60000.0}
    if model.role is Role.STORAGE:
        more["energy_wh"] = 1e5
    if Capability.SWITCH in model.capabilities:
        more["priority_class"] = 1
    return DeviceSettings.model_validate({"id": "d1", "catalog": model.name, **PLACES[model.protocol], **more})


@pytest.mark.parametrize("name", names())
def test_an_entry_loads_names_its_source_and_knows_its_quantities(name: str) -> None:
    model = entry(name)
    assert model.source
    assert model.protocol in DRIVERS
    assert Capability.MEASURE in model.capabilities
    assert {point.quantity for point in model.points} <= set(QUANTITIES)


@pytest.mark.parametrize("name", names())
def test_what_an_entry_can_do_becomes_writes_and_the_rest_is_refused(name: str) -> None:
    model = entry(name)
    spec = spec_of(instance(model))
    plan = PLANNERS[model.protocol]
    for capability, action in ACTIONS.items():
        if capability in model.capabilities:
            assert plan(action, spec, model)
        else:
            with pytest.raises(DevicePermanentError, match="nothing was written"):
                plan(action, spec, model)
    release = plan(Release(), spec, model)
    assert bool(release) == bool(set(model.capabilities) & set(ACTIONS)), "what can be ordered can be released"


@pytest.mark.parametrize("name", names())
def test_a_device_that_reverts_writes_its_timer_before_its_switch(name: str) -> None:
    model = entry(name)
    for steps in (
        *(model.writes.hold_power, model.writes.limit_generation),
        *(model.node_writes.hold_power, model.node_writes.limit_generation),
    ):
        if steps:
            values = [step.value for step in steps]
            assert model.reverts
            assert "revert_s" in values[:-1]
            assert isinstance(values[-1], float), "the last register written is the switch"


@pytest.mark.parametrize("name", [name for name in names() if entry(name).protocol == "modbus"])
def test_a_value_and_its_scale_factor_come_in_the_same_read(name: str) -> None:
    blocks = coalesce(point.register_ for point in entry(name).points if point.register_)
    for point in entry(name).points:
        register = point.register_
        assert register is not None
        if register.scale_factor is not None:
            spans = [range(block.start, block.start + block.count) for block in blocks if block.group == register.model]
            assert any(register.address in span and register.scale_factor in span for span in spans), register.label


@pytest.mark.parametrize("name", names())
async def test_a_driver_can_be_built_refuses_orders_it_cannot_take_and_may_be_entered_again(name: str) -> None:
    model = entry(name)
    context, _ = make_context(broker=MqttEndpoint(host="127.0.0.1", port=1, insecure=True))
    driver = open_driver(instance(model), EDGE, context)
    assert driver.spec == spec_of(instance(model))
    assert driver.spec.role is model.role
    for capability, action in ACTIONS.items():
        if capability not in model.capabilities:
            with pytest.raises(DevicePermanentError):
                await driver.apply(action)
    for _ in range(2):
        if model.protocol != "mqtt":
            with pytest.raises(DeviceTransientError):
                async with driver:
                    await driver.read()


@pytest.mark.parametrize("protocol", sorted(DRIVERS))
def test_a_driver_says_which_endpoint_is_missing(protocol: str) -> None:
    model = next(entry(name) for name in names() if entry(name).protocol == protocol)
    other = PLACES["opcua" if protocol == "modbus" else "modbus"]
    settings = DeviceSettings.model_validate({"id": "d1", "catalog": model.name, **other})
    with pytest.raises(DevicePermanentError, match=rf"{protocol}\.\w+ is missing"):
        driver_module(protocol).build(settings, model, EDGE, make_context()[0])


async def test_the_blueprint_keeps_the_contract() -> None:
    model = entry("transformer-bay-opcua")
    settings = instance(model)
    driver = BlueprintDriver(spec_of(settings), PointTable(EDGE, settings, model), {"p_w": 1.0}, ManualClock(START))
    with pytest.raises(DeviceTransientError):
        await driver.read()
    async with driver:
        values = {reading.point.quantity: reading.value for reading in await driver.read()}
        assert (await driver.apply(Release())).confirmed
        with pytest.raises(DevicePermanentError):
            await driver.apply(HoldPower(0.0, 1.0))
    assert (values["p_w"], values["q_var"]) == (1.0, None)


BLANK: dict[str, Any] = {
    "name": "a-meter",
    "title": "A meter",
    "source": "sheet of the maker",
    "protocol": "modbus",
    "role": "meter",
    "capabilities": ["measure"],
    "points": [{"quantity": "p_w", "register": {"address": 0}}],
}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"points": [{"quantity": "watts", "register": {"address": 0}}]}, "no quantity"),
        ({"points": [{"quantity": "p_w", "node": "ns=2;s=x"}]}, "points without register"),
        ({"points": [{"quantity": "p_w"}]}, "exactly one of register, node, field and messages"),
        ({"points": [BLANK["points"][0]] * 2}, "more than once: p_w"),
        ({"points": [{"quantity": "p_w", "register": {"address": 0, "type": "BOOL"}}]}, "coil and discrete"),
        ({"points": [{"quantity": "p_w", "register": {"address": 0, "scale_factor": 1}}]}, "needs a SunSpec model"),
        ({"points": [{"quantity": "p_w", "register": {"address": 0, "adress": 1}}]}, "Extra inputs"),
        ({"capabilities": ["measure", "switch"]}, "belong together"),
        ({"message": {"topic": "m/{serial}", "receipt_topic": "r/{serial}", "report_s": 1}}, "only to it"),
        ({"source": ""}, "at least 8"),
    ],
)
def test_a_wrong_entry_is_refused_with_its_key_and_the_reason(change: dict[str, Any], reason: str) -> None:
    assert parse_entry(yaml.safe_dump(BLANK), "a.yaml").name == "a-meter"
    with pytest.raises(BadInputError, match=reason) as caught:
        parse_entry(yaml.safe_dump({**BLANK, **change}), "a.yaml")
    assert caught.value.source == "a.yaml"


def test_an_unknown_entry_lists_what_there_is() -> None:
    with pytest.raises(BadInputError, match=r"there are: .*modbus-load-switch"):
        entry("nothing")


def test_reading_the_configuration_imports_no_protocol_library(tmp_path: Path) -> None:
    code = (
        "import sys, json; import tieline_edge.config_file, tieline_edge.sampling;"
        "print(json.dumps([m for m in ('pymodbus', 'asyncua', 'paho') if m in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, cwd=tmp_path)
    assert json.loads(done.stdout) == []


def _site(tmp_path: Path, catalog: str) -> Path:
    tree = {
        "edge_id": "harbour",
        "state_dir": str(tmp_path / "state"),
        "site": {"name": "Harbour", "rated_va": 630e3},
        "hub": {"mqtt": {"host": "hub.example"}, "http": "https://hub.example"},
        "devices": [{"id": "m1", "catalog": catalog, "modbus": {"host": "127.0.0.1", "port": 1, "timeout_s": 0.2}}],
    }
    path = tmp_path / "site.yaml"
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return path


def test_a_site_may_bring_an_entry_of_its_own_as_a_file(tmp_path: Path) -> None:
    own = tmp_path / "a-meter.yaml"
    own.write_text(yaml.safe_dump(BLANK), encoding="utf-8")
    settings = load_settings(_site(tmp_path, str(own)))
    assert open_driver(settings.devices[0], settings.edge_id, make_context()[0]).spec.role is Role.METER


@pytest.mark.parametrize(
    ("file", "change", "reason"),
    [
        ("a-meter.yaml", {"role": "meters"}, "Input should be 'transformer'"),
        ("another.yaml", {}, "must be the name of the file"),
        ("sunspec-meter-203.yaml", {"name": "sunspec-meter-203"}, "ships with the agent"),
        (None, {}, "cannot be read"),
    ],
)
def test_an_entry_of_the_site_that_is_wrong_is_named_by_its_own_file(
    tmp_path: Path, file: str | None, change: dict[str, Any], reason: str
) -> None:
    own = tmp_path / (file or "absent.yaml")
    if file is not None:
        own.write_text(yaml.safe_dump({**BLANK, **change}), encoding="utf-8")
    [mistake] = check_config(_site(tmp_path, str(own)))
    assert mistake.source == str(own)
    assert reason in str(mistake)
