"""The circuit breaker of one unit: silence costs its bus one time-out a back-off period, whoever asks. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Breaker:
    """Closed while the unit answers; after a silence it is open for a pause that doubles, then lets one attempt through.

    The pauses stay below the pollers' own back-off (:class:`tieline_edge.sampling.Backoff`, 0.5 s to 10 s less a quarter),
    so that a lone poller's attempt always goes through and several devices behind one unit cost no more than one.

    Attributes:
        first_s: Pause after the first silence [wall seconds].
        most_s: Longest pause [wall seconds].
        silences: Time-outs in a row.
        closed_at_s: When the next attempt may go through, on the monotonic clock [s].
    """

    first_s: float = 0.35
    most_s: float = 7.0
    silences: int = 0
    closed_at_s: float = float("-inf")

    def wait_s(self, now_s: float) -> float:
        """Seconds until an attempt may go through; 0 when one may now."""
        return max(0.0, self.closed_at_s - now_s)

    def answered(self) -> None:
        """The unit spoke, be it an exception: the pause starts from its first length again."""
        self.silences, self.closed_at_s = 0, float("-inf")

    def silent(self, now_s: float) -> None:
        """The unit did not answer in time."""
        pause_s = min(self.most_s, self.first_s * 2.0 ** min(self.silences, 16))
        self.silences += 1
        self.closed_at_s = now_s + pause_s
