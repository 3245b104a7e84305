"""Mistakes of a file in words."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, ValidationError

from tieline_core.field_words import reason_of, value_of


class Battery(BaseModel):
    model_config = ConfigDict(extra="forbid")
    energy_wh: float


class Edge(BaseModel):
    model_config = ConfigDict(extra="forbid")
    rated_va: float
    batteries: dict[str, Battery] = {}
    spare: Battery | None = None
    rows: tuple[Battery, ...] = ()


class Root(BaseModel):
    model_config = ConfigDict(extra="forbid")
    edges: dict[str, Edge]


def reasons(tree: object) -> dict[str, tuple[object, str]]:
    try:
        Root.model_validate(tree)
    except ValidationError as error:
        return {".".join(map(str, row["loc"])): (value_of(row), reason_of(row, Root)) for row in error.errors()}
    return {}


def test_an_unknown_key_names_its_neighbour_in_blocks_lists_and_entries() -> None:
    rows = [{"energy_wh": 1}, {"energy_wh": 1, "energy_kwh": 2}]
    edge = {"rated_va": 1, "rows": rows, "spare": {"energy_wh": 1, "enrgy_wh": 3}, "batteries": {"b": {"energywh": 4}}}
    assert reasons({"edges": {"harbour": edge}, "edge": {}}) == {
        "edge": ({}, "unknown key; did you mean 'edges'?"),
        "edges.harbour.rows.1.energy_kwh": (2, "unknown key; did you mean 'energy_wh'?"),
        "edges.harbour.spare.enrgy_wh": (3, "unknown key; did you mean 'energy_wh'?"),
        "edges.harbour.batteries.b.energywh": (4, "unknown key; did you mean 'energy_wh'?"),
        "edges.harbour.batteries.b.energy_wh": (None, "this key is required"),
    }
    assert reasons({"edges": {}, "zzz": 1}) == {"zzz": (1, "unknown key; known here: edges")}


def test_a_number_with_a_unit_is_told_how_to_be_written() -> None:
    told = reasons({"edges": {"harbour": {"rated_va": "630 kVA"}}})
    assert told["edges.harbour.rated_va"] == ("630 kVA", "a number is expected, in the unit that the key's name ends with")
