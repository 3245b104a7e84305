"""What a mirror asks of the database it fills, and how that says no."""

from __future__ import annotations

from typing import Protocol

from tieline_core.errors import PermanentError, TransientError


class TargetAwayError(TransientError):
    """The target did not take the lines, and may take the same ones later.

    Attributes:
        wait_s: How long it asked us to wait; None when it did not say.
    """

    def __init__(self, text: str, wait_s: float | None = None) -> None:
        self.wait_s = wait_s
        super().__init__(text)


class LinesRefusedError(PermanentError):
    """The target will never take these lines together: a type conflict, a partial write, too many bytes."""


class MirrorTarget(Protocol):
    """What a mirror asks of a target; calls block."""

    def write(self, body: bytes) -> None:
        """Hand lines over.

        Raises:
            TargetAwayError: Try again later.
            LinesRefusedError: These lines together never.
        """
        ...

    def started_at(self) -> float | None:
        """When the target's process started, in seconds since 1970; None when it does not say.

        Raises:
            TargetAwayError: It does not answer.
        """
        ...
