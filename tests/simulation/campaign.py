"""Many seeds in a row, and what they add up to."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from tests.simulation.world import Verdict, live_through


@dataclass(slots=True)
class Report:
    """What a campaign has shown.

    Attributes:
        hours: Simulated time.
        wall_s: Time of the computer.
        happened: What happened, by kind.
        failed: Verdicts with violations.
    """

    hours: float = 0.0
    seeds: int = 0
    wall_s: float = 0.0
    cpu_s: float = 0.0
    cycles: int = 0
    happened: Counter[str] = field(default_factory=Counter)
    failed: list[Verdict] = field(default_factory=list)

    def measured(self, began_s: float, began_cpu_s: float) -> None:
        """Note how long it has taken up to now."""
        self.wall_s, self.cpu_s = time.perf_counter() - began_s, time.process_time() - began_cpu_s

    @property
    def cpu_s_a_seed(self) -> float:
        """What a seed costs in the mean [s]."""
        return self.cpu_s / max(1, self.seeds)

    def add(self, verdict: Verdict) -> None:
        """Count a seed."""
        self.hours += verdict.lived_h
        self.seeds += 1
        self.cycles += verdict.cycles
        self.happened.update(verdict.happenings)
        if not verdict.ok:
            # Without its log, which is long: campaigns are longer.
            self.failed.append(replace(verdict, lines=()))

    def in_words(self) -> str:
        """For people."""
        faults = ", ".join(f"{kind} {count}" for kind, count in sorted(self.happened.items()))
        cost = f"{self.cpu_s:.0f} s of a core ({self.cpu_s_a_seed:.2f} s a seed)"
        lines = [
            f"{self.hours:.1f} simulated hours of {self.seeds} seeds in {self.wall_s:.0f} s, {cost}",
            f"happened: {faults}",
        ]
        for verdict in self.failed:
            lines += [f"seed {verdict.seed} fails; again with: {verdict.command()}"]
            lines += [f"  {violation}" for violation in verdict.violations[:5]]
        return "\n".join([*lines, f"{len(self.failed)} of {self.seeds} seeds fail"])

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        return {
            "simulated_hours": round(self.hours, 3),
            "seeds": self.seeds,
            "wall_s": round(self.wall_s, 1),
            "cpu_s": round(self.cpu_s, 1),
            "seconds_watched": self.cycles,
            "happened": dict(sorted(self.happened.items())),
            "failed": [
                {"seed": one.seed, "again": one.command(), "violations": [str(violation) for violation in one.violations]}
                for one in self.failed
            ],
        }


def run(
    seeds: Iterable[int],
    hours: float,
    *,
    until_failure: bool = False,
    told: Callable[[Verdict, Report], None] = lambda _verdict, _report: None,
) -> Report:
    """Live through seeds one after the other.

    Args:
        seeds: Which.
        hours: Simulated time of each.
        until_failure: Stop at the first one that fails.
        told: Called after each seed, with its verdict and everything so far.
    """
    report = Report()
    began_s, began_cpu_s = time.perf_counter(), time.process_time()
    for seed in seeds:
        verdict = live_through(seed, hours)
        report.add(verdict)
        report.measured(began_s, began_cpu_s)
        told(verdict, report)
        if until_failure and report.failed:
            break
    return report
