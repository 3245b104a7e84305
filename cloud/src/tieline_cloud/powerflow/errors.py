"""What can go wrong in a power flow."""

from __future__ import annotations

from tieline_core.errors import PermanentError


class PowerFlowDivergedError(PermanentError):
    """No voltage profile carries the asked powers: the network would collapse, or an input is wrong by magnitudes.

    Attributes:
        steps: Positions of the failed steps in the batch; empty for a single solve.
    """

    def __init__(self, reason: str, steps: tuple[int, ...] = ()) -> None:
        self.steps = steps
        shown = ", ".join(str(step) for step in steps[:8]) + (", ..." if len(steps) > 8 else "")
        super().__init__(f"power flow did not converge{f' in step(s) {shown}' if steps else ''}: {reason}")


class NotRadialError(PermanentError):
    """The energised network is no tree, or has no single source.

    Attributes:
        element: The branch that closes a loop, or the source that is one too many.
    """

    def __init__(self, element: str, reason: str) -> None:
        self.element = element
        super().__init__(f"{element}: {reason}")
