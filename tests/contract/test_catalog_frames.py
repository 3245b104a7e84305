"""Each Modbus entry against its recorded frames: the bytes it sends, the values it gives, the marks it claims."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.contract.replay import FRAMES, Replay, recording
from tests.edge.drivers.field import EDGE, make_context
from tieline_core.quantities import Quality
from tieline_edge.drivers.capabilities import (
    Action,
    Capability,
    DevicePermanentError,
    HoldPower,
    LimitGeneration,
    Release,
    SwitchContact,
)
from tieline_edge.drivers.catalog.entry import CatalogEntry
from tieline_edge.drivers.catalog.load import entry, names
from tieline_edge.drivers.catalog.quality import Ledger
from tieline_edge.drivers.catalog.schema import FILE, schema_text
from tieline_edge.drivers.modbus.driver import build
from tieline_edge.drivers.plausibility import AFTER
from tieline_edge.drivers.registry import open_driver
from tieline_edge.settings import DeviceSettings

MODBUS = [name for name in names() if entry(name).protocol == "modbus"]
CONTROLS = {Capability.HOLD_POWER, Capability.LIMIT_GENERATION, Capability.SWITCH}
FLIPPED = {"ABCD": "CDAB", "CDAB": "ABCD", "BADC": "DCBA", "DCBA": "BADC"}
ACTIONS: dict[str, type[Action]] = {
    "hold_power": HoldPower,
    "limit_generation": LimitGeneration,
    "switch": SwitchContact,
    "release": Release,
}


def settings(name: str, recorded: dict[str, Any], port: int) -> DeviceSettings:
    place = {"host": "127.0.0.1", "port": port, "unit": recorded["unit"]}
    return DeviceSettings.model_validate({"id": "d1", "catalog": name, "modbus": place, **recorded.get("settings", {})})


def done(name: str, rule: str) -> bool:
    return bool(getattr(entry(name).quality, rule) == "done")


@pytest.mark.parametrize("name", MODBUS)
async def test_an_entry_asks_what_was_recorded_and_makes_the_recorded_values_of_it(name: str) -> None:
    recorded = recording(name)
    async with Replay() as server:
        server.expect(recorded["connect"])
        async with open_driver(settings(name, recorded, server.port), EDGE, make_context()[0]) as driver:
            assert not server.unused()
            for poll in recorded["polls"]:
                server.expect(poll["frames"])
                values = {reading.point.quantity: reading.value for reading in await driver.read()}
                assert values == poll["expect"]
                assert not server.unused()
            for order in recorded.get("orders", ()):
                server.expect(order["frames"])
                [(kind, arguments)] = order["order"].items()
                answer = await driver.apply(ACTIONS[kind](**arguments))
                assert answer.confirmed, (order["means"], answer.text)
                assert not server.unused()
        assert not server.wrong


@pytest.mark.parametrize("name", MODBUS)
def test_the_recording_shows_what_the_ledger_claims(name: str) -> None:
    model, recorded = entry(name), recording(name)
    assert recorded["origin"] in ("composed", "device")
    assert done(name, "hardware") == (recorded["origin"] == "device")
    seen: dict[str, set[float | None]] = {}
    for poll in recorded["polls"]:
        for quantity, value in poll["expect"].items():
            seen.setdefault(quantity, set()).add(value)
    assert set(seen) == {point.quantity for point in model.points}, "every point has a value"
    if done(name, "signs"):
        powers = [value for value in seen["p_w"] if value is not None]
        assert min(powers) < 0 < max(powers), "both directions"
    if done(name, "absent"):
        assert any(None in values for values in seen.values())
    controls = set(model.capabilities) & CONTROLS
    assert bool(recorded.get("orders")) == bool(controls)
    if controls:
        assert done(name, "safe_state"), "what can be driven says what it does when nobody speaks"


@pytest.mark.parametrize("name", [name for name in MODBUS if done(name, "plausibility")])
async def test_a_byte_order_that_flips_is_flagged_within_a_few_polls_and_nothing_of_it_is_used(name: str) -> None:
    model, recorded = entry(name), recording(name)
    wide = any(point.register_ and point.register_.type.words > 1 and point.register_.model is None for point in model.points)
    # Firmware exchanges the words of long registers; where an entry has none, the bytes within a word are exchanged.
    points = tuple(
        point.model_copy(
            update={
                "register_": point.register_.model_copy(
                    update={"byte_order": FLIPPED[point.register_.byte_order] if wide else "BADC"}
                )
            }
        )
        for point in model.points
        if point.register_
    )
    turned = model.model_copy(update={"points": points})
    async with Replay() as server:
        server.expect(recorded["connect"])
        where = settings(name, recorded, server.port)
        async with build(where, turned, EDGE, make_context()[0]) as driver:
            for poll in range(AFTER):
                server.expect(recorded["polls"][0]["frames"])
                if poll < AFTER - 1:
                    assert {reading.quality for reading in await driver.read()} == {Quality.BAD}
                else:
                    with pytest.raises(DevicePermanentError, match="impossible values in 3 polls in a row"):
                        await driver.read()


def test_every_recording_belongs_to_an_entry() -> None:
    assert sorted(path.stem for path in FRAMES.glob("*.yaml")) == MODBUS


def test_the_published_schema_is_that_of_the_form() -> None:
    text = FILE.read_text(encoding="utf-8")
    assert text == schema_text(), "write it anew: python -m tieline_edge.drivers.catalog.schema"
    assert json.loads(text)["required"]


@pytest.mark.parametrize("mark", ["yes", "exempt", "exempt:", "done: x", "todo:x"])
def test_a_mark_that_says_nothing_is_refused(mark: str) -> None:
    with pytest.raises(ValueError, match="is none of"):
        Ledger(hardware=mark)


def test_a_sheet_is_cited_for_every_entry_and_no_entry_hides_behind_an_exemption() -> None:
    for name in MODBUS:
        model: CatalogEntry = entry(name)
        assert len(model.source) > 20
        assert not model.quality.hardware.startswith("exempt")
        assert not model.quality.frames.startswith("exempt")
