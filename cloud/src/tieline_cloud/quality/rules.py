"""The rules of data quality as data: one row per measurement class, read from YAML, every mistake named."""

from __future__ import annotations

from enum import StrEnum
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tieline_cloud.config_file import read_tree, validated

#: Rules that come with the product.
DEFAULT_FILE: Final = Path(__file__).parent / "rules.yaml"
MAX_CLASSES: Final = 1000
Seconds = Annotated[float, Field(gt=0, le=4e8)]


class Rule(StrEnum):
    """Names of the verdicts, as findings and metrics carry them; in the order of one row's findings."""

    FUTURE = "future"
    PAST = "past"
    IMPOSSIBLE = "impossible"
    NEGATIVE = "negative"
    SPIKE = "spike"
    STUCK = "stuck"
    GAP = "gap"
    ROLLOVER = "rollover"
    RESET = "reset"
    EXCHANGE = "exchange"


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class SpikeRule(_Section):
    """A jump against the last good value beyond all three limits; the next reading near it confirms it as a step."""

    step: float = Field(ge=0, description="absolute change, in the point's unit")
    share_pct: float = Field(default=0.0, ge=0, description="change as a share of the last good value")
    per_second: float = Field(default=0.0, ge=0, description="change times the seconds since the last good value")


class StuckRule(_Section):
    """The same number for longer than this while its instants advance."""

    longer_than_s: Seconds
    zero_may_stay: bool = Field(default=False, description="a lasting 0 is honest: an outage, a unit at rest")


class GapRule(_Section):
    """Silence of more than ``periods`` usual periods, and of at least ``at_least_s``."""

    periods: float = Field(gt=1)
    at_least_s: Seconds
    period_s: Seconds | None = Field(default=None, description="usual period; none = median of the last three")


class CounterRule(_Section):
    """An energy register that only ever counts up."""

    modulus_wh: float | None = Field(default=None, gt=0, description="the register starts again from 0 here, 1e8 for 8 digits")
    reset_below_wh: float = Field(default=1000.0, ge=0, description="a fall to below this is a reset")
    largest_w: float = Field(gt=0, description="no more than this can flow; a faster rise is an exchange of the meter")
    tolerance_wh: float = Field(default=0.0, ge=0, description="a fall of no more than this is rounding")


class EstimateRule(_Section):
    """How missing intervals are filled; where there is none, nothing is filled."""

    step_s: int = Field(ge=60, le=3600, description="length of an interval; a divisor of an hour")
    linear_up_to_s: float = Field(default=7200.0, ge=0, description="longer gaps are filled from like days")
    like_days: int = Field(default=3, ge=1, le=14, description="comparable days of the same local weekday to take the mean of")
    reach_weeks: int = Field(default=8, ge=1, le=52, description="how far back comparable days are looked for")

    @model_validator(mode="after")
    def _divides_the_hour(self) -> EstimateRule:
        if 3600 % self.step_s:
            raise ValueError(f"step_s {self.step_s} does not divide an hour")
        return self


class MeasurementClass(_Section):
    """One row of the table.

    A number below 0 where ``negative`` is false is found as *negative*, any other one outside the limits as *impossible*.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,47}$")
    quantities: tuple[str, ...] = Field(min_length=1, description="keys of the quantities; shell patterns are allowed")
    points: tuple[str, ...] = Field(default=("*",), min_length=1, description="shell patterns such as harbour/m*/v_v")
    future_s: float = Field(default=300.0, ge=0, description="tolerated clock skew into the future")
    past_days: float = Field(default=366.0, gt=0, description="oldest reading believed")
    minimum: float | None = None
    maximum: float | None = None
    negative: bool = True
    spike: SpikeRule | None = None
    stuck: StuckRule | None = None
    gap: GapRule | None = None
    counter: CounterRule | None = None
    estimate: EstimateRule | None = None

    @model_validator(mode="after")
    def _consistent(self) -> MeasurementClass:
        if self.minimum is not None and self.maximum is not None and self.minimum >= self.maximum:
            raise ValueError(f"minimum {self.minimum:g} must be below maximum {self.maximum:g}")
        if self.counter is not None and self.spike is not None:
            raise ValueError("a counter has no spikes: its jumps are roll-over, reset and exchange")
        return self

    def fits(self, point: str) -> bool:
        """True when the point ``edge/device/quantity`` belongs here, no earlier class claiming it."""
        quantity = point.rpartition("/")[2]
        return any(fnmatchcase(quantity, key) for key in self.quantities) and any(fnmatchcase(point, p) for p in self.points)


class _RuleFile(_Section):
    version: Literal[1]
    classes: tuple[MeasurementClass, ...] = Field(min_length=1, max_length=MAX_CLASSES)

    @model_validator(mode="after")
    def _unique(self) -> _RuleFile:
        names = [row.name for row in self.classes]
        if doubled := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"each class stands once; doubled: {', '.join(doubled)}")
        return self


def read_rules(path: Path) -> tuple[MeasurementClass, ...]:
    """Read one file of rules.

    Raises:
        ConfigError: Naming every mistake with file, key, value and reason.
    """
    tree = read_tree(path, "version and classes")
    return validated(_RuleFile, tree, str(path)).classes


@lru_cache(maxsize=1)
def _delivered() -> tuple[MeasurementClass, ...]:
    return read_rules(DEFAULT_FILE)


def load_rules(own: Path | None = None) -> tuple[MeasurementClass, ...]:
    """The table in force: classes of the own file come first, the delivered ones behind them; first fit wins.

    Raises:
        ConfigError: Naming every mistake.
    """
    return _delivered() if own is None else (*read_rules(own), *_delivered())
