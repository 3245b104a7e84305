"""Energy registers: what a step of the number means, and the energy between readings. Never negative, never giant."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tieline_cloud.quality.rules import CounterRule, Rule
from tieline_cloud.store.ports import Finding, Series
from tieline_core.quantities import Quality
from tieline_core.timegrid import to_us


class Step(IntEnum):
    """What a step from one reading of a register to the next is."""

    ON = 0
    """It counted on, or stood."""
    ROLLOVER = 1
    """It passed its modulus and began again from 0."""
    RESET = 2
    """It was set to 0 and counted on from there."""
    EXCHANGE = 3
    """The number has nothing to do with the one before: another meter, a new base."""


#: Which finding stands for a step.
RULE_OF: Final = {Step.ROLLOVER: Rule.ROLLOVER, Step.RESET: Rule.RESET, Step.EXCHANGE: Rule.EXCHANGE}


def judge_steps(
    before: NDArray[np.float64],
    after: NDArray[np.float64],
    seconds: NDArray[np.float64],
    limits: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]],
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """What each step of a register is, by :class:`Step`, uint8 [n], and the rise that was possible [Wh], float64 [n].

    A roll-over is believed where the rise through the modulus is possible and below half of it; beyond, a fall cannot be
    told from an exchange.

    Args:
        before: Readings before [Wh], NaN = none: such a step is ON.
        after: Readings after [Wh].
        seconds: Between them.
        limits: modulus (NaN = none), reset_below, largest_w, tolerance; of each step.
    """
    modulus, reset_below, largest_w, tolerance = limits
    rise = after - before
    possible = largest_w * seconds / 3600 + tolerance
    fell = rise < -tolerance
    through = rise + modulus
    rolled = fell & (through >= 0) & (through <= np.minimum(possible, modulus / 2))
    reset = fell & ~rolled & (after <= reset_below) & (after <= possible)
    step = np.zeros(len(after), np.uint8)
    step[(fell & ~rolled & ~reset) | (rise > possible)] = Step.EXCHANGE
    step[rolled] = Step.ROLLOVER
    step[reset] = Step.RESET
    return step, possible


def interval_energy_wh(series: Series, findings: Sequence[Finding], rule: CounterRule) -> NDArray[np.float64]:
    """Energy between each good reading of a register and the good one before it [Wh], float64 [len(series)].

    NaN at the first good reading, at readings that are not good, and over an exchange. Steps are judged anew, because a
    late reading may stand between two that were judged on arrival; where a finding says exchange, it is one all the same:
    of two verdicts the one with less energy counts.

    Args:
        series: Readings, ascending in time; of one instant the first counts.
        findings: Of this point; others than *exchange* need not be handed in.
        rule: Of the point's class.
    """
    energy = np.full(len(series.at_us), np.nan)
    usable = (series.quality == Quality.GOOD) & ~np.isnan(series.values)
    exchanged = {to_us(finding.measured_at) for finding in findings if finding.rule == Rule.EXCHANGE}
    # An exchange is marked uncertain on arrival, yet its number is the new base.
    at_exchange = np.isin(series.at_us, np.fromiter(exchanged, np.int64, len(exchanged)))
    usable |= at_exchange & ~np.isnan(series.values) & (series.quality == Quality.UNCERTAIN)
    rows = np.flatnonzero(usable)
    rows = rows[np.concatenate(([True], np.diff(series.at_us[rows]) > 0))[: len(rows)]]
    if len(rows) < 2:
        return energy
    before, after = series.values[rows[:-1]], series.values[rows[1:]]
    modulus = np.nan if rule.modulus_wh is None else rule.modulus_wh
    limits = tuple(np.full(len(after), limit) for limit in (modulus, rule.reset_below_wh, rule.largest_w, rule.tolerance_wh))
    seconds = np.diff(series.at_us[rows]) / 1e6
    step, _ = judge_steps(before, after, seconds, (limits[0], limits[1], limits[2], limits[3]))
    step[at_exchange[rows[1:]]] = Step.EXCHANGE
    by_step = (np.maximum(after - before, 0.0), after - before + modulus, after, np.full(len(after), np.nan))
    energy[rows[1:]] = np.choose(step, by_step)
    return energy
