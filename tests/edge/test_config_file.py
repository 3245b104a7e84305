"""The site configuration: every mistake is named with file, key, value and reason."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tieline_core.errors import BadInputError
from tieline_core.strict_yaml import MAX_BYTES
from tieline_edge.config_file import check_config, load_settings

Tree = dict[str, Any]

GOOD: Tree = {
    "edge_id": "harbour",
    "state_dir": "/var/lib/tieline",
    "site": {"name": "Harbour", "rated_va": 630000},
    "hub": {"mqtt": {"host": "hub.example"}, "http": "https://hub.example"},
    "field_broker": {"host": "127.0.0.1", "port": 1883, "insecure": True},
    "devices": [
        {"id": "tr1", "catalog": "transformer-bay-opcua", "opcua": {"url": "opc.tcp://10.0.0.2:4840"}},
        {
            "id": "bat1",
            "catalog": "sunspec-storage-704",
            "modbus": {"host": "10.0.0.3"},
            "p_min_w": -60000,
            "p_max_w": 60000,
            "energy_wh": 150000,
        },
        {"id": "pv1", "catalog": "sunspec-pv-704", "modbus": {"host": "10.0.0.4"}, "p_min_w": -50000},
        {"id": "load01", "catalog": "modbus-load-switch", "modbus": {"host": "10.0.0.5", "unit": 1}, "priority_class": 4},
        {
            "id": "load10",
            "catalog": "modbus-load-switch-latched",
            "modbus": {"host": "10.0.0.5", "unit": 10},
            "priority_class": 0,
        },
        {"id": "m01", "catalog": "mqtt-json-meter", "mqtt": {"serial": "10100037"}},
    ],
    "shedding": {"transformer": "tr1", "vital": ["load10"]},
}


def write(folder: Path, tree: object) -> Path:
    path = folder / "site.yaml"
    path.write_text(tree if isinstance(tree, str) else yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    return path


def test_a_good_configuration_has_no_mistakes_and_loads(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    assert check_config(path) == []
    found = load_settings(path)
    assert [device.id for device in found.devices] == ["tr1", "bat1", "pv1", "load01", "load10", "m01"]


def _set(*keys: Any, to: object) -> Callable[[Tree], None]:
    def change(tree: Any) -> None:
        for key in keys[:-1]:
            tree = tree[key]
        tree[keys[-1]] = to

    return change


def _drop(*keys: Any) -> Callable[[Tree], None]:
    def change(tree: Any) -> None:
        for key in keys[:-1]:
            tree = tree[key]
        del tree[keys[-1]]

    return change


@pytest.mark.parametrize(
    ("change", "key", "reason"),
    [
        (_set("sheding", to={}), "sheding", "did you mean 'shedding'"),
        (_set("cycle", to={"perod_s": 1}), "cycle.perod_s", "did you mean 'period_s'"),
        (_set("devices", 1, "modbus", "hosst", to="x"), "devices[1].modbus.hosst", "did you mean 'host'"),
        (_set("devices", 0, "colour", to="red"), "devices[0].colour", "known here: id, catalog"),
        (_set("site", "rated_va", to="much"), "site.rated_va", "number"),
        (_set("site", "rated_va", to=float("nan")), "site.rated_va", "finite"),
        (_set("site", "time_zone", to="Europe/Berln"), "site.time_zone", "no such time zone"),
        (_set("site", "time_zone", to="../../etc/passwd"), "site.time_zone", "no such time zone"),
        (_set("forecast", to={"issue_every_s": 1e-9}), "forecast.issue_every_s", "greater than or equal to 1"),
        (_set("outbox", to={"max_age_days": 1e300}), "outbox.max_age_days", "less than or equal to 3660"),
        (_set("devices", 1, "p_max_w", to=1e300), "devices[1].p_max_w", "less than or equal to 1000000000000"),
        (_set("devices", 0, "min_off_s", to=300_000), "devices[0].min_off_s", "less than or equal to 86400"),
        (_set("devices", 1, "energy_wh", to=-1), "devices[1].energy_wh", "greater than 0"),
        (_drop("site"), "site", "required"),
        (_drop("devices", 0, "catalog"), "devices[0].catalog", "required"),
        (_set("edge_id", to="Harbour!"), "edge_id", "expected a form like"),
        (_set("devices", to=[]), "devices", "at least 1"),
        (_set("devices", to="none"), "devices", "list"),
        (_set("devices", 1, "catalog", to="sunspec-storage-740"), "devices[1].catalog", "did you mean 'sunspec-storage-704'"),
        (_set("devices", 0, to={"id": "tr1", "catalog": "transformer-bay-opcua", "modbus": {"host": "x"}}),
         "devices[0].modbus", "speaks opcua"),
        (_set("devices", 0, "modbus", to={"host": "x"}), "devices[0]", "exactly one of modbus, opcua and mqtt"),
        (_drop("devices", 1, "energy_wh"), "devices[1].energy_wh", "capacity in Wh"),
        (_set("devices", 2, "energy_wh", to=5.0), "devices[2].energy_wh", "only a storage"),
        (_drop("devices", 3, "priority_class"), "devices[3].priority_class", "needs its class"),
        (_set("devices", 1, "priority_class", to=3), "devices[1].priority_class", "cannot be switched"),
        (_set("devices", 3, "priority_class", to=10), "devices[3].priority_class", "less than or equal to 9"),
        (_set("devices", 1, "p_min_w", to=70000), "devices[1].p_min_w", "limits are crossed"),
        (_drop("devices", 1, "p_max_w"), "devices[1].p_max_w", "charging power"),
        (_drop("devices", 2, "p_min_w"), "devices[2].p_min_w", "rating"),
        (_set("devices", 1, "soc_min_pct", to=100.0), "devices[1].soc_min_pct", "limits are crossed"),
        (_set("devices", 1, "soc_reserve_pct", to=100.0), "devices[1].soc_reserve_pct", "leaves plans nothing"),
        (_set("devices", 4, "modbus", "unit", to=1), "devices[4].modbus", "already the place of load01"),
        (_set("devices", 4, "modbus", "instance", to=2), "devices[4].modbus.instance", "no SunSpec models to count"),
        (_set("devices", 2, "id", to="bat1"), "", "stands more than once"),
        (_set("shedding", "vital", to=["load01"]), "shedding.vital[0]", "class 0"),
        (_set("shedding", "vital", to=["load99"]), "", "shedding.vital names 'load99', no device of this site"),
        (_set("devices", 0, "opcua", "url", to="10.0.0.2:4840"), "devices[0].opcua.url", "such as opc.tcp://10.0.0.2:4840"),
        (_set("devices", 0, "opcua", "url", to="opc.tcp://bay1"), "devices[0].opcua.url", "host and port"),
        (_set("devices", 0, "opcua", "url", to="opc.tcp://bay1:70000"), "devices[0].opcua.url", "range"),
        (_set("shedding", "transformer", to="tr2"), "", "shedding.transformer names 'tr2', no device of this site; did you"),
        (_set("shedding", "lines", to=[{"device": "fm9", "rating_a": 1}]), "", "shedding.lines names 'fm9'"),
        (_set("devices", 1, "p_max_w", to="60 kW"), "devices[1].p_max_w", "in the unit that the key's name ends with"),
        (_set("field_broker", "ca_file", to="ca.crt"), "field_broker", "either insecure: true or a ca_file"),
        (_set("hub", "mqtt", "password_file", to="pw"), "hub.mqtt", "password_file needs a username"),
        (_set("shedding", "transformer", to="bat1"), "shedding.transformer", "watches a transformer"),
        (_drop("field_broker"), "", "field_broker is needed"),
        (_set("clock", to={"source": "file"}), "clock", "clock.path"),
        (_set("clock", to={"source": "file", "path": "c", "max_speed": 1000}), "", "outlast two polls"),
        (_set("reversion", to={"timer_s": 60.0}), "reversion.timer_s", "must outlast reversion.refresh_s"),
        (_set("reversion", to={"timer_s": 61.0}), "reversion.timer_s", "two cycles late"),
        (_set("reversion", to={"timer_s": 80.0}), "reversion.timer_s", "while a third of its timer is left: at least 90 s"),
        (_set("devices", 1, "poll_s", to=30.0), "devices[1].poll_s", "poll more often"),
        (_set("hub", "mqtt", "insecure", to=True), "hub.mqtt.insecure", "loopback only"),
        (_set("hub", "public_keys", to=["ab" * 32, "0f3a..."]), "hub.public_keys[1]", "hexadecimal digits"),
        (_set("hub", "http", to="ftp://x"), "hub.http", "pattern"),
    ],
)  # fmt: skip
def test_each_mistake_is_named_with_key_and_reason(
    tmp_path: Path, change: Callable[[Tree], None], key: str, reason: str
) -> None:
    tree = deepcopy(GOOD)
    change(tree)
    path = write(tmp_path, tree)
    mistakes = check_config(path)
    assert [(mistake.key, reason in mistake.reason) for mistake in mistakes] == [(key, True)], [str(m) for m in mistakes]
    assert mistakes[0].source == str(path)
    with pytest.raises(BadInputError, match="site"):
        load_settings(path)


def test_all_mistakes_are_found_at_once(tmp_path: Path) -> None:
    tree = deepcopy(GOOD)
    tree["typo"] = 1
    tree["site"]["rated_va"] = "x"
    tree["devices"][1].pop("energy_wh")
    tree["devices"][2]["catalog"] = "nothing"
    assert {mistake.key for mistake in check_config(write(tmp_path, tree))} == {
        "typo",
        "site.rated_va",
        "devices[1].energy_wh",
        "devices[2].catalog",
    }


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "a block of keys"),
        ("- 1\n- 2\n", "a block of keys"),
        ("a: [", "no YAML"),
        ("edge_id: a\nedge_id: b\n", "'edge_id' stands twice"),
        ("site: {name: a, name: b}\n", "'name' stands twice"),
        ("a: &x [1]\nb: *x\n", "aliases are not read"),
        ("a: !!python/object/apply:os.system ['true']\n", "could not determine a constructor"),
        ("? [1]\n: 2\n", "a key has to be a text"),
        ("[" * 5000, "nested"),
        ("#" * (MAX_BYTES + 1), "at most"),
    ],
)
def test_what_is_no_configuration_at_all_is_refused_in_words(tmp_path: Path, text: str, reason: str) -> None:
    (mistake,) = check_config(write(tmp_path, text))
    assert reason in str(mistake)


def test_a_missing_file_and_a_wrong_encoding_are_named(tmp_path: Path) -> None:
    (missing,) = check_config(tmp_path / "nowhere.yaml")
    assert "cannot be read: No such file" in str(missing)
    path = tmp_path / "latin.yaml"
    path.write_bytes(b"name: caf\xe9\n")
    assert "UTF-8" in str(check_config(path)[0])


_scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
_trees = st.recursive(
    _scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.sampled_from(["edge_id", "site", "hub", "devices", "clock", "cycle", "shedding", "field_broker", "reversion"]), _trees
)
def test_whatever_stands_under_a_key_the_answer_is_a_list_of_mistakes(tmp_path: Path, key: str, value: object) -> None:
    path = write(tmp_path, {**GOOD, key: value})
    for mistake in check_config(path):
        assert isinstance(mistake, BadInputError)
        assert mistake.source == str(path)
        assert mistake.reason


def test_a_serial_line_that_is_asked_for_more_than_it_can_carry_is_named(tmp_path: Path) -> None:
    tree = deepcopy(GOOD)
    line = {"serial": "/dev/ttyS7", "baud": 2400}
    meters = [{"id": f"x{unit}", "catalog": "eastron-sdm630", "modbus": {**line, "unit": unit}} for unit in (1, 2, 3)]
    tree["devices"] = [*tree["devices"], *meters]
    [mistake] = check_config(write(tmp_path, tree))
    assert "/dev/ttyS7" in str(mistake)
    assert "busy polling 113% of the time" in str(mistake)
