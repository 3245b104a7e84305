"""The village network, as bytes to tamper with and as a grid."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tieline_cloud.gridmodel import GridModel, load_network

VILLAGE = Path(__file__).with_name("village.json")


@pytest.fixture(scope="session")
def village() -> GridModel:
    """The network of ``make_village.py``."""
    return load_network(VILLAGE)


@pytest.fixture
def tampered() -> Callable[..., bytes]:
    """The village file with one cell changed: (table, column, row, value); the column is added when it is missing."""

    def change(table: str, column: str, row: int, value: object) -> bytes:
        document: dict[str, Any] = json.loads(VILLAGE.read_bytes())
        frame = json.loads(document["_object"][table]["_object"])
        if column not in frame["columns"]:
            frame["columns"].append(column)
            for cells in frame["data"]:
                cells.append(None)
        frame["data"][row][frame["columns"].index(column)] = value
        document["_object"][table]["_object"] = json.dumps(frame)
        return json.dumps(document).encode()

    return change
