"""The signed list of vital devices: checked at every start, and never shorter by unsigned means."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from tieline_core.errors import BadInputError
from tieline_core.ids import DeviceId, EdgeId
from tieline_core.messages.policy import Policy
from tieline_core.messages.vital import MAX_LIST_BYTES, VitalList
from tieline_core.signing import EnvelopeType, Signer
from tieline_edge.config_file import check_config
from tieline_edge.drivers.capabilities import Capability, DeviceSpec, Role
from tieline_edge.settings import EdgeSettings, SheddingSettings
from tieline_edge.shedding.rule import RuleSite, VitalLoadError
from tieline_edge.shedding.rules import load_rules, with_policy
from tieline_edge.shedding.vital_list import with_list
from tieline_edge.vital_file import KEPT, configured_list, listed_vital

NOW = datetime(2016, 12, 7, 16, tzinfo=UTC)
EDGE = EdgeId("harbour")
SIGNER = Signer(b"k" * 32)


def signed(*devices: str, signer: Signer = SIGNER, edge: str = "harbour", kind: EnvelopeType = EnvelopeType.VITAL) -> bytes:
    listed = VitalList(
        edge_id=EdgeId(edge), issued_by="ada", issued_at=NOW, devices=tuple(DeviceId(device) for device in devices)
    )
    # Long past its end: it protects all the same.
    return signer.seal(kind, EdgeId(edge), listed.to_bytes(), now=NOW, valid=(NOW, NOW + timedelta(days=1)))


def tree(folder: Path, **shedding: Any) -> dict[str, Any]:
    def load(name: str, port: int, priority: int) -> dict[str, Any]:
        return {
            "id": name,
            "catalog": "modbus-load-switch",
            "modbus": {"host": "127.0.0.1", "port": port},
            "priority_class": priority,
        }

    return {
        "edge_id": str(EDGE),
        "state_dir": str(folder / "state"),
        "site": {"name": "Harbour", "rated_va": 200e3},
        "hub": {"mqtt": {"host": "127.0.0.1"}, "http": "http://127.0.0.1:1", "public_keys": [SIGNER.public.hex()]},
        "devices": [load("load01", 1, 3), load("load10", 2, 0)],
        "shedding": {"vital_list": str(folder / "vital.json"), **shedding},
    }


def settings(folder: Path, **shedding: Any) -> EdgeSettings:
    (folder / "state").mkdir(exist_ok=True)
    return EdgeSettings.model_validate(tree(folder, **shedding))


def site(b_class: int | None = 0) -> RuleSite:
    able = frozenset({Capability.SWITCH})
    specs = {
        DeviceId("load01"): DeviceSpec(DeviceId("load01"), Role.LOAD, able, 3),
        DeviceId("load10"): DeviceSpec(DeviceId("load10"), Role.LOAD, able, b_class),
    }
    return RuleSite(EDGE, 200e3, specs, SheddingSettings())


def test_a_rule_set_that_could_shed_a_listed_device_does_not_load_and_says_which(tmp_path: Path) -> None:
    (tmp_path / "vital.json").write_bytes(signed("load10"))
    listed = listed_vital(settings(tmp_path))
    with pytest.raises(VitalLoadError, match="load10 is on the vital list and has class 2"):
        load_rules(with_list(site(2), listed), random.Random(1))
    load_rules(with_list(site(0), listed), random.Random(1))
    unclassed = with_list(site(None), listed)
    assert unclassed.specs[DeviceId("load10")].priority_class == 0
    policy = Policy.model_validate({"policy_id": "policy-1", "edge_id": "harbour", "classes": {"load10": 4}})
    with pytest.raises(BadInputError, match=r"classes\.load10.*never made sheddable"):
        with_policy(with_list(site(0), listed), policy)


def test_a_list_that_names_an_unknown_device_refuses_to_load(tmp_path: Path) -> None:
    (tmp_path / "vital.json").write_bytes(signed("load10", "lood01"))
    with pytest.raises(BadInputError, match="lood01"):
        with_list(site(), listed_vital(settings(tmp_path)))


@pytest.mark.parametrize("taken_away", ["file", "key"])
def test_without_its_file_or_its_key_the_list_in_force_stays(tmp_path: Path, taken_away: str) -> None:
    (tmp_path / "vital.json").write_bytes(signed("load10"))
    assert listed_vital(settings(tmp_path)) is not None
    (tmp_path / "vital.json").unlink()
    if taken_away == "key":
        found = listed_vital(settings(tmp_path, vital_list=None))
        assert found is not None
        assert found.devices == ("load10",)
    else:
        with pytest.raises(BadInputError, match="cannot be read"):
            listed_vital(settings(tmp_path))


def test_only_a_newer_signed_list_is_shorter(tmp_path: Path) -> None:
    path, made = tmp_path / "vital.json", settings(tmp_path)
    old, both, fewer = signed("load10"), signed("load01", "load10"), signed("load10")
    path.write_bytes(both)
    listed_vital(made)
    path.write_bytes(old)
    with pytest.raises(BadInputError, match="it would leave out load01"):
        listed_vital(made)
    path.write_bytes(fewer)
    found = listed_vital(made)
    assert found is not None
    assert found.devices == ("load10",)
    assert (tmp_path / "state" / KEPT).read_bytes() == fewer


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"{}", "format"),
        (signed("load10", signer=Signer(b"x" * 32)), "key"),
        (signed("load10", edge="mill"), "edge"),
        (signed("load10", kind=EnvelopeType.POLICY), "type"),
        (signed("load10").replace(b'signature":"', b'signature":"AAAA'), "signature"),
        (b" " * (MAX_LIST_BYTES + 1), "at most"),
    ],
)
def test_what_is_not_signed_for_this_edge_as_a_list_is_refused_and_nothing_is_kept(
    tmp_path: Path, data: bytes, says: str
) -> None:
    (tmp_path / "vital.json").write_bytes(data)
    with pytest.raises(BadInputError, match=says):
        listed_vital(settings(tmp_path))
    assert not (tmp_path / "state" / KEPT).exists()


def test_without_a_list_there_is_none(tmp_path: Path) -> None:
    assert listed_vital(settings(tmp_path, vital_list=None)) is None
    assert configured_list(settings(tmp_path, vital_list=None)) is None
    assert with_list(site(), None) == site()


def test_check_config_names_every_listed_device_that_could_be_shed(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(yaml.safe_dump(tree(tmp_path)), encoding="utf-8")
    assert [mistake.reason for mistake in check_config(path)] == ["cannot be read: No such file or directory"]
    (tmp_path / "vital.json").write_bytes(signed("load01", "load10", "load77"))
    mistakes = check_config(path)
    assert [(mistake.key, mistake.value) for mistake in mistakes] == [
        ("devices[0].priority_class", "3"),
        ("shedding.vital_list", "'load77'"),
    ]
