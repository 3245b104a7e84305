"""The certificate of a plan that violates nothing, for tests of whatever carries or judges plans."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from tieline_core.messages.plan import Certificate


def clean_certificate(checked_at: datetime, **changes: Any) -> Certificate:
    """A clean one; ``changes`` are fields with other values."""
    fields: dict[str, Any] = {
        "verdict": "clean",
        "max_loading_pct": {"p10": 50.0, "p50": 60.0, "p90": 70.0},
        "max_loading_element": "harbour/tr1",
        "min_vm_pu": 0.97,
        "max_vm_pu": 1.02,
        "optimality_gap": 0.0,
        "objective_eur": 10.0,
        "objective_without_eur": 12.0,
        "iterations": 1,
        "input_sha256": {"network": "00"},
        "solver": "highs",
        "checked_at": checked_at,
    }
    return Certificate.model_validate({**fields, **changes})
