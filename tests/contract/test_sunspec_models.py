"""Every SunSpec register of the catalogue against the public model files, as pysunspec2 ships them: an outside witness."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import sunspec2

from tieline_edge.drivers.catalog.entry import Register
from tieline_edge.drivers.catalog.load import entry, names
from tieline_edge.drivers.modbus.sunspec import MODEL_TITLES

MODELS = Path(str(sunspec2.__file__)).parent / "models" / "json"
#: SunSpec type -> ours; enumerations and bit fields are numbers to us.
TYPES = {
    "int16": "INT16",
    "uint16": "UINT16",
    "enum16": "UINT16",
    "bitfield16": "UINT16",
    "int32": "INT32",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "acc32": "ACC32",
}


@cache
def layout(model: int) -> dict[str, dict[str, Any]]:
    """Points of a model's fixed part by name, each with its offset from the ID register."""
    group = json.loads((MODELS / f"model_{model}.json").read_text(encoding="utf-8"))["group"]
    offset, found = 0, {}
    for point in group["points"]:
        found[point["name"]] = {**point, "offset": offset}
        offset += point["size"]
    return found


REGISTERS = [(name, register) for name in names() for register in entry(name).registers if register.model is not None]


@pytest.mark.parametrize(("name", "register"), REGISTERS, ids=[f"{name}-{register.name}" for name, register in REGISTERS])
def test_a_register_stands_where_the_public_model_file_says(name: str, register: Register) -> None:
    assert register.model is not None
    points = layout(register.model)
    point = points[register.name]
    assert register.address == point["offset"]
    assert register.type.value == TYPES[point["type"]]
    factor = point.get("sf")
    assert register.scale_factor == (None if factor is None else points[factor]["offset"])


@pytest.mark.parametrize("name", names())
def test_what_is_written_may_be_written(name: str) -> None:
    for register in entry(name).written_registers:
        if register.model is not None:
            assert layout(register.model)[register.name].get("access") == "RW", register.label


def test_every_model_that_discovery_names_exists() -> None:
    assert not [model for model in MODEL_TITLES if not (MODELS / f"model_{model}.json").exists()]
