"""Signing the list of vital devices on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tieline_cloud.__main__ import main
from tieline_cloud.dispatch.keys import write_new_key
from tieline_core.ids import EdgeId
from tieline_core.messages.vital import VitalList
from tieline_core.signing import EnvelopeType, key_id, open_envelope


def test_the_list_is_signed_for_its_edge_and_a_later_one_counts_higher(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, public = write_new_key(tmp_path / "keys")
    trusted = {key_id(bytes.fromhex(public)): bytes.fromhex(public)}
    counters, out = [], tmp_path / "vital.json"
    for devices in (["load10", "load11"], ["load10"]):
        assert main(["sign-vital-list", str(tmp_path / "keys"), "harbour", *devices, "--by", "ada", "--out", str(out)]) == 0
        opened = open_envelope(out.read_bytes(), kind=EnvelopeType.VITAL, edge=EdgeId("harbour"), trusted=trusted, now=None)
        assert VitalList.from_bytes(opened.payload, "test").devices == tuple(devices)
        counters.append(opened.header.counter)
    assert counters[0] < counters[1]
    assert "2 vital devices of harbour" in capsys.readouterr().out
    assert main(["sign-vital-list", str(tmp_path / "keys"), "harbour", "Load 10", "--by", "ada", "--out", str(out)]) != 0
    assert "devices.0" in capsys.readouterr().err
