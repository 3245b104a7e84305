"""Errors of the simulator: each names file, key, value and reason."""

from __future__ import annotations


class SimulatorError(Exception):
    """Root of all errors the simulator raises on purpose."""


class ScenarioError(SimulatorError):
    """A scenario or mapping file cannot be used.

    Args:
        source: File the mistake is in.
        key: Dotted path of the key, empty for the whole file.
        value: What stands there.
        reason: Why it will not do.
    """

    def __init__(self, source: str, key: str, value: object, reason: str) -> None:
        where = f"{source}: {key}" if key else source
        shown = "" if value is None and not key else f" = {value!r}"
        super().__init__(f"{where}{shown}: {reason}")
        self.source, self.key, self.value, self.reason = source, key, value, reason


class PowerFlowError(SimulatorError):
    """The AC power flow did not converge; the world keeps its last solution."""
