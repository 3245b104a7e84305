"""Which devices may share a place."""

from __future__ import annotations

from typing import Any

import pytest

from tieline_edge.places import place_mistakes
from tieline_edge.settings import DeviceSettings


def device(name: str, catalog: str, **place: Any) -> DeviceSettings:
    kind = "opcua" if "url" in place else "mqtt" if "serial" in place and "/" not in place["serial"] else "modbus"
    more = {"insecure": True} if kind == "opcua" else {}
    return DeviceSettings.model_validate({"id": name, "catalog": catalog, kind: {**place, **more}})


GATEWAY = {"host": "10.0.0.9", "port": 502}


@pytest.mark.parametrize(
    ("devices", "reasons"),
    [
        (
            # A hybrid inverter, its meter and its battery: one unit, three devices.
            [
                device("pv", "huawei-sun2000", **GATEWAY),
                device("grid", "huawei-sun2000-meter", **GATEWAY),
                device("bat", "huawei-luna2000", **GATEWAY),
            ],
            [],
        ),
        (
            [device("a", "eastron-sdm630", **GATEWAY), device("b", "eastron-sdm630", **GATEWAY)],
            ["is already the place of a"],
        ),
        (
            [device("a", "modbus-load-switch", **GATEWAY), device("b", "modbus-load-switch-latched", **GATEWAY)],
            ["is already the place of a, and only one of the two may take orders"],
        ),
        ([device("a", "sunspec-meter-203", **GATEWAY), device("b", "sunspec-meter-203", instance=2, **GATEWAY)], []),
        ([device("a", "sunspec-storage-704", **GATEWAY), device("b", "sunspec-meter-203", **GATEWAY)], []),
        (
            [device("a", "eastron-sdm630", **GATEWAY), device("b", "eastron-sdm630", unit=2, framing="rtu", **GATEWAY)],
            ["the bus of a is described in another way there"],
        ),
        (
            [
                device("a", "eastron-sdm630", serial="/dev/ttyS0", unit=1),
                device("b", "eastron-sdm630", serial="/dev/ttyS0", unit=2, baud=19200),
            ],
            ["the bus of a is described in another way there"],
        ),
        ([device("a", "x", url="opc.tcp://a:1"), device("b", "y", url="opc.tcp://a:1")], ["is already the place of a"]),
        (
            [device("a", "mqtt-json-meter", serial="7"), device("b", "mqtt-json-meter", serial="7")],
            ["is already the place of a"],
        ),
    ],
)
def test_a_place_belongs_to_one_device_or_to_the_faces_of_one_machine(
    devices: list[DeviceSettings], reasons: list[str]
) -> None:
    assert [reason for _, _, _, reason in place_mistakes([None, *devices])] == reasons
