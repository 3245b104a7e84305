"""Feature rows of many issues, made by the same graph that ships to the edge."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from tieline_cloud.forecasting.experts import Floats32, Rows
from tieline_cloud.forecasting.runtime import Session, run
from tieline_core.forecast_inputs import (
    HISTORY_STEPS,
    HORIZON_STEPS,
    Floats,
    Ints,
    LoadHistory,
    LocalGrid,
    ModelInputs,
    calendar_inputs,
    local_grid,
)

_FIELDS: Final = ("columns", "design", "deviations", "lags", "lags_raw")


@dataclass(frozen=True, slots=True)
class Problem:
    """A history with the calendar around it, and the graph that makes its features.

    Attributes:
        history: Filled history.
        grid: Calendar over the history and one horizon beyond.
        features: Open session of :func:`tieline_cloud.forecasting.graph.feature_model`.
    """

    history: LoadHistory
    grid: LocalGrid
    features: Session

    @classmethod
    def of(cls, history: LoadHistory, zone: ZoneInfo, holidays: Iterable[date], features: Session) -> Problem:
        """Lay the calendar over a history."""
        steps = len(history.values) + HORIZON_STEPS
        return cls(history, local_grid(history.start, steps, zone, holidays), features)

    def inputs(self, at: int) -> ModelInputs:
        """Inputs of the feature graph for an issue at position ``at``; reads the history before it only."""
        window = self.history.values[at - HISTORY_STEPS : at].astype(np.float32)
        return {"history": window, **calendar_inputs(self.grid, at)}


@dataclass(frozen=True, slots=True)
class FeatureRows:
    """Rows of many issues.

    Attributes:
        rows: Features [n].
        level: Level at issue [n], in the point's unit.
        issue: Position of the issue [n].
        lead: Lead step [n]; the target's position is issue + lead.
    """

    rows: Rows
    level: Floats32
    issue: Ints
    lead: Ints

    @property
    def target(self) -> Ints:
        """Positions of the targets [n]."""
        return self.issue + self.lead

    def select(self, which: NDArray[np.bool_]) -> FeatureRows:
        """Some of the rows."""
        old = self.rows
        rows = Rows(*(getattr(old, name)[which] for name in _FIELDS))
        return FeatureRows(rows, self.level[which], self.issue[which], self.lead[which])


def training_issues(history: LoadHistory, stride: int) -> list[int]:
    """Issue positions for training; none inside a gap, where the gap rule would have looked ahead."""
    last = len(history.values) - 1
    return [at for at in range(HISTORY_STEPS, last, stride) if not history.substituted[at - 1]]


def collect(problem: Problem, issues: Iterable[int], leads_an_issue: int, seed: int) -> FeatureRows:
    """Feature rows of the given issues, all leads or a seeded sample of them."""
    random = np.random.default_rng(seed)
    parts: dict[str, list[Floats32]] = {name: [] for name in (*_FIELDS, "level")}
    at_issue, at_lead = [], []
    for at in issues:
        out = run(problem.features, problem.inputs(at))
        lead = np.arange(HORIZON_STEPS)
        if leads_an_issue < HORIZON_STEPS:
            lead = np.sort(random.choice(HORIZON_STEPS, leads_an_issue, replace=False))
        for name in _FIELDS:
            parts[name].append(out[name][lead])
        parts["level"].append(np.repeat(out["level"], len(lead)))
        at_issue.append(np.full(len(lead), at))
        at_lead.append(lead)
    joined = {name: np.concatenate(chunks) for name, chunks in parts.items()}
    rows = Rows(*(joined[name] for name in _FIELDS))
    return FeatureRows(rows, joined["level"], np.concatenate(at_issue), np.concatenate(at_lead))


def with_targets(data: FeatureRows, history: LoadHistory, before: int) -> tuple[FeatureRows, Floats]:
    """Rows whose target was measured before position ``before``, and their targets over the level."""
    inside = data.target < min(before, len(history.values))
    inside &= ~history.substituted[np.minimum(data.target, len(history.values) - 1)]
    chosen = data.select(inside)
    return chosen, history.values[chosen.target] / chosen.level
