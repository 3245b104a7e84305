"""Start offsets of polls."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tieline_edge.drivers.stagger import bus_of, poll_offsets
from tieline_edge.settings import DeviceSettings


def device(number: int, host: str) -> DeviceSettings:
    place = {"host": host, "unit": number % 247 + 1}
    return DeviceSettings.model_validate({"id": f"d{number}", "catalog": "modbus-load-switch", "modbus": place})


@given(st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=40))
def test_devices_of_one_bus_are_as_far_apart_as_their_number_allows(hosts: list[str]) -> None:
    devices = [device(number, host) for number, host in enumerate(hosts)]
    offsets = poll_offsets(devices)
    assert set(offsets) == {one.id for one in devices}
    for bus in {bus_of(one) for one in devices}:
        mine = sorted(offsets[one.id] for one in devices if bus_of(one) == bus)
        assert all(0 <= offset < 1 for offset in mine)
        gaps = [after - before for before, after in zip(mine, [*mine[1:], mine[0] + 1], strict=True)]
        assert min(gaps) > 1 / len(mine) - 1e-9


@given(st.integers(2, 500))
def test_many_buses_of_one_device_each_do_not_start_together(count: int) -> None:
    offsets = sorted(poll_offsets([device(number, f"h{number}") for number in range(count)]).values())
    gaps = [after - before for before, after in zip(offsets, [*offsets[1:], offsets[0] + 1], strict=True)]
    assert max(gaps) < 3 / count


def test_other_protocols_have_buses_too() -> None:
    opcua = DeviceSettings.model_validate({"id": "a", "catalog": "x", "opcua": {"url": "opc.tcp://a:1"}})
    mqtt = DeviceSettings.model_validate({"id": "b", "catalog": "x", "mqtt": {"serial": "1"}})
    assert {bus_of(opcua), bus_of(mqtt)} == {"opcua opc.tcp://a:1", "mqtt"}
