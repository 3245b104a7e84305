"""What can go wrong in planning."""

from __future__ import annotations

from tieline_core.errors import PermanentError


class PlanRefusedError(PermanentError):
    """No plan can be vouched for, so none is published.

    Attributes:
        reason: Why, as a whole sentence.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"no plan: {reason}")
