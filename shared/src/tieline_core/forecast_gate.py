"""Gate and bands of a forecast: one copy for hub and edge, numpy only.

A :class:`ScoreBook` remembers how issued forecasts met the measurements of the last 60 days. From it come the weights of
the experts (inverse error to the eighth power, by lead group and hour of the local day) and the offsets of the bands
(rolling split conformal: quantiles of the level-normalised residual by lead group and hour). Both are inputs of the model,
so accuracy adapts every day without a new model.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tieline_core.errors import BadInputError
from tieline_core.forecast_inputs import HORIZON_STEPS, QUANTILES, STEP_S, Floats, Floats32, Ints, LoadHistory
from tieline_core.ids import PointId
from tieline_core.messages.telemetry import IssuedForecast

#: Days remembered; a day's slot is its local day number modulo this.
DAYS: Final = 60
#: Own bands and weights are used from this many scored days on.
MIN_DAYS: Final = 30
#: First lead step of each lead group: the next hour, to 4 h, to 12 h, to 24 h, to 48 h.
LEAD_GROUPS: Final = (0, 4, 16, 48, 96)
_GATE_DAYS: Final = 28
_GATE_POWER: Final = 8.0
_SAMPLES: Final = 4
_HOURS: Final = 24

LEAD_GROUP: Final[Ints] = (np.searchsorted(LEAD_GROUPS, np.arange(HORIZON_STEPS), side="right") - 1).astype(np.int64)


@dataclass(frozen=True, slots=True)
class ScoreBook:
    """Errors of issued forecasts; arrays hold NaN where nothing is scored yet.

    Attributes:
        days: Local day number in each slot [60], -1 when empty.
        errors: Mean absolute error of each expert over the level [60, lead groups, 24, experts].
        residuals: (measured - blended forecast) / level [60, lead groups, 24, 4 samples].
    """

    days: Ints
    errors: Floats32
    residuals: Floats32

    @classmethod
    def empty(cls, experts: int) -> ScoreBook:
        """A book without scores."""
        groups = len(LEAD_GROUPS)
        return cls(
            np.full(DAYS, -1, dtype=np.int64),
            np.full((DAYS, groups, _HOURS, experts), np.nan, dtype=np.float32),
            np.full((DAYS, groups, _HOURS, _SAMPLES), np.nan, dtype=np.float32),
        )

    def __post_init__(self) -> None:
        shape = (DAYS, len(LEAD_GROUPS), _HOURS, _SAMPLES)
        if self.days.shape != (DAYS,) or self.residuals.shape != shape or self.errors.shape[:3] != shape[:3]:
            raise BadInputError("score book", "residuals", self.residuals.shape, f"expected {shape}")

    @property
    def scored_days(self) -> int:
        """Days that carry a score."""
        return int((self.days >= 0).sum())


@dataclass(frozen=True, slots=True)
class Scored:
    """Targets of one issued forecast that have been measured since.

    Attributes:
        day: Local day number of each target [n].
        quarter: Local quarter hour of each target [n].
        lead: Lead step of each target [n].
        measured: Measured load over the level at issue [n].
        experts: Each expert's forecast over that level [n, experts].
        blended: The gate's forecast over that level, without band offsets [n].
    """

    day: Ints
    quarter: Ints
    lead: Ints
    measured: Floats
    experts: Floats
    blended: Floats


def add_scores(book: ScoreBook, scored: Scored) -> ScoreBook:
    """The book with these scores in it; older days of the same slots are forgotten."""
    days, errors, residuals = book.days.copy(), book.errors.copy(), book.residuals.copy()
    newest = max(int(scored.day.max(initial=-1)), int(days.max()))
    fresh = np.flatnonzero(scored.day > newest - DAYS)
    day, hour, slot = scored.day[fresh], scored.quarter[fresh] // 4, scored.day[fresh] % DAYS
    # Two days of one slot are 60 days apart, so among fresh rows a slot belongs to one day.
    turned = np.unique(slot[days[slot] != day])
    days[slot] = day
    errors[turned], residuals[turned] = np.nan, np.nan
    missed = np.abs(scored.experts[fresh] - scored.measured[fresh, None])
    total, count = np.zeros(errors.shape), np.zeros((*errors.shape[:3], 1))
    cell = (slot, LEAD_GROUP[scored.lead[fresh]], hour)
    np.add.at(total, cell, missed)
    np.add.at(count, cell, 1.0)
    mean = np.divide(total, count, out=np.full(errors.shape, np.nan), where=count > 0)
    both = np.where(np.isnan(errors), mean, 0.5 * (errors + mean))
    errors = np.where(count > 0, both, errors).astype(np.float32)
    sample = (scored.quarter[fresh] + scored.lead[fresh]) % _SAMPLES
    residuals[(*cell, sample)] = scored.measured[fresh] - scored.blended[fresh]
    return ScoreBook(days, errors, residuals)


def gate_weights(book: ScoreBook) -> Floats | None:
    """Weights [lead groups, 24, experts] by inverse error^8 of the last 28 scored days; None before :data:`MIN_DAYS`."""
    if book.scored_days < MIN_DAYS:
        return None
    recent = book.errors[np.argsort(book.days)[-_GATE_DAYS:]].astype(np.float64)
    return weights_of(recent)


def weights_of(errors: Floats) -> Floats:
    """Weights [lead groups, 24, experts] from errors [days, lead groups, 24, experts].

    An hour without any score gets the mean of its lead group, a group without any the mean of all.
    """
    scored = ~np.isnan(errors)
    count = scored.sum(axis=0)
    total = np.where(scored, errors, 0.0).sum(axis=0)
    of_all = total.sum(axis=(0, 1)) / np.maximum(1, count.sum(axis=(0, 1)))
    in_group = count.sum(axis=1, keepdims=True)
    pooled = np.where(in_group > 0, total.sum(axis=1, keepdims=True) / np.maximum(1, in_group), of_all)
    mean = np.where(count > 0, total / np.maximum(1, count), pooled)
    power: Floats = np.maximum(mean, 1e-6) ** -_GATE_POWER
    weights: Floats = power / power.sum(axis=-1, keepdims=True)
    return weights


def band_offsets(book: ScoreBook, default: Floats | None = None) -> Floats | None:
    """Offsets [lead groups, 24, quantiles] over the level; ``default`` before :data:`MIN_DAYS` are scored.

    Each cell pools its own and the two neighbouring hours; a cell with too few samples takes its whole lead group.
    """
    return default if book.scored_days < MIN_DAYS else offsets_of(book.residuals)


def offsets_of(residuals: Floats32) -> Floats:
    """Conformal quantiles [lead groups, 24, quantiles] of residuals [days, lead groups, 24, samples].

    The median stays where the gate puts it: moving P50 by last month's median miss helped on three of eight SimBench
    nodes, hurt on four and was 1 % worse on average. Where the bias leaves P10..P90, sorting the fan moves the
    median along.
    """
    groups = residuals.shape[1]
    offsets = np.zeros((groups, _HOURS, len(QUANTILES)))
    everything = residuals[~np.isnan(residuals)]
    for group in range(groups):
        whole = residuals[:, group][~np.isnan(residuals[:, group])]
        for hour in range(_HOURS):
            near = residuals[:, group][:, [(hour - 1) % _HOURS, hour, (hour + 1) % _HOURS]]
            sample = near[~np.isnan(near)]
            for pool in (sample, whole, everything):
                if len(pool) >= 40 or pool is everything:
                    offsets[group, hour] = _conformal(pool)
                    break
    offsets[..., QUANTILES.index(0.5)] = 0.0
    return offsets


def _conformal(residuals: NDArray[np.float32]) -> Floats:
    """Quantiles widened for a finite sample: ceil((n + 1) q) / n for upper ones, mirrored for lower ones."""
    count = len(residuals)
    if not count:
        raise BadInputError("score book", "residuals", 0, "no residual is there to make bands from")
    upper = [min(1.0, max(q, 1 - q) * (count + 1) / count) for q in QUANTILES]
    levels = [level if q > 0.5 else (1 - level if q < 0.5 else 0.5) for q, level in zip(QUANTILES, upper, strict=True)]
    result: Floats = np.quantile(residuals.astype(np.float64), levels)
    return result


def spread_inputs(weights: Floats, offsets: Floats, quarter: Ints) -> dict[str, Floats32]:
    """Model inputs ``weights`` [192, experts] and ``offsets`` [192, quantiles] from their tables by lead group and hour."""
    hour = quarter // 4
    return {"weights": weights[LEAD_GROUP, hour].astype(np.float32), "offsets": offsets[LEAD_GROUP, hour].astype(np.float32)}


def to_issued(point: PointId, model_id: str, issue: datetime, quantiles: Floats) -> IssuedForecast:
    """The message of a forecast that starts at its issue, from sorted quantiles [n, 5] in the point's unit, kept to 0.1."""
    low, p10, p50, p90, high = (tuple(float(value) for value in np.round(column, 1)) for column in quantiles.T)
    return IssuedForecast(
        point=point,
        model_id=model_id,
        issued_at=issue,
        start=issue,
        step_s=STEP_S,
        p10=p10,
        p50=p50,
        p90=p90,
        lo90=low,
        hi90=high,
    )


def score_window(history: LoadHistory, start: datetime, steps: int) -> tuple[Ints, Floats]:
    """Positions among ``steps`` from ``start`` that were measured (not substituted), and their values."""
    first = history.index(start)
    place = np.arange(steps)
    inside = (place + first >= 0) & (place + first < len(history.values))
    place = place[inside]
    place = place[~history.substituted[place + first]]
    return place, history.values[place + first]
