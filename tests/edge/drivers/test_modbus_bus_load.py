"""How much a serial line is asked for."""

from __future__ import annotations

import pytest

from tieline_edge.drivers.catalog.load import entry
from tieline_edge.drivers.modbus.bus_load import MOST, line_loads, poll_time_s
from tieline_edge.drivers.modbus.endpoint import SerialEndpoint
from tieline_edge.settings import DeviceSettings


def meter(number: int, poll_s: float, **line: object) -> DeviceSettings:
    place = {"serial": "/dev/ttyS0", "unit": number, **line}
    return DeviceSettings.model_validate({"id": f"m{number}", "catalog": "eastron-sdm630", "modbus": place, "poll_s": poll_s})


def test_a_poll_takes_its_characters_its_silences_and_the_devices_own_time() -> None:
    # One read of 34 registers: 8 + 5 + 68 = 81 characters of 10 bits at 9600 baud, two silences of 3.5, 10 ms.
    expected_s = (81 + 2 * 3.5) * 10 / 9600 + 0.01
    assert poll_time_s(entry("eastron-sdm630"), SerialEndpoint("/dev/ttyS0", 9600)) == pytest.approx(expected_s)


def test_a_line_carries_what_fits_and_only_that() -> None:
    model = entry("eastron-sdm630")
    few = line_loads((meter(number, 1.0), model) for number in range(1, 8))
    many = line_loads((meter(number, 1.0), model) for number in range(1, 10))
    slow = line_loads((meter(number, 5.0), model) for number in range(1, 10))
    assert few["/dev/ttyS0"] < MOST < many["/dev/ttyS0"]
    assert slow["/dev/ttyS0"] == pytest.approx(many["/dev/ttyS0"] / 5)


def test_a_network_is_no_line() -> None:
    tcp = DeviceSettings.model_validate({"id": "m", "catalog": "eastron-sdm630", "modbus": {"host": "a"}})
    mqtt = DeviceSettings.model_validate({"id": "n", "catalog": "mqtt-json-meter", "mqtt": {"serial": "7"}})
    assert line_loads([(tcp, entry("eastron-sdm630")), (mqtt, entry("mqtt-json-meter"))]) == {}
