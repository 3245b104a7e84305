"""The village network, for solving."""

from __future__ import annotations

from pathlib import Path

import pytest

from tieline_cloud.gridmodel import GridModel, load_network

VILLAGE = Path(__file__).parents[1] / "gridmodel" / "village.json"


@pytest.fixture(scope="session")
def village() -> GridModel:
    """The network of ``tests/cloud/gridmodel/make_village.py``."""
    return load_network(VILLAGE)
