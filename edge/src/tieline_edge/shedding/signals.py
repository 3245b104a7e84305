"""Inputs of rules: in range, young, moving; holds that count samples. Pure functions.

A reading never carries NaN (:class:`tieline_core.quantities.Reading` refuses it); what is absurd for the quantity is
refused here. A value that stands still while its time advances is not believed either: a stuck sensor looks healthy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from tieline_core.ids import DeviceId, EdgeId, PointId
from tieline_core.quantities import Quality
from tieline_edge.shedding.rule import RuleView

#: So many samples must have been the same before a value counts as stuck.
_STUCK_SAMPLES: Final = 10
#: After a load has gone, an element's value must have changed within so many samples.
_NUMB_SAMPLES: Final = 3


@dataclass(frozen=True, slots=True)
class Sample:
    """One usable value.

    Attributes:
        value: In the unit of its quantity.
        at: When it was measured, on the line timers live on.
        good: Its quality is good and it moves; otherwise it counts for no hold.
    """

    value: float
    at: datetime
    good: bool


@dataclass(frozen=True, slots=True)
class Steady:
    """How long a source has shown one and the same value."""

    value: float
    since: datetime
    last_at: datetime
    samples: int


@dataclass(frozen=True, slots=True)
class Source:
    """A point and what its value can possibly be.

    Attributes:
        point: Its id; made once, because checking the form of an id costs more than looking at its value.
    """

    edge: EdgeId
    device: DeviceId
    quantity: str
    low: float
    high: float
    point: PointId = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "point", PointId.of(self.edge, self.device, self.quantity))


@dataclass(frozen=True, slots=True)
class Sensed:
    """The value to go by, or why there is none.

    Attributes:
        sample: The value; None = nothing is known.
        steady: Memory of every source.
        why: In words, when there is none.
    """

    sample: Sample | None
    steady: Mapping[str, Steady]
    why: str = ""


def read(view: RuleView, source: Source) -> Sample | None:
    """The value of a source when it is usable, young and possible."""
    value = view.snapshot.value(source.point, view.ages.of(source.device))
    if value is None or not source.low <= value <= source.high:
        return None
    measured_at = view.snapshot.measured_at(source.point) or view.now
    return Sample(value, measured_at, view.snapshot.readings[source.point].quality is Quality.GOOD)


def sense(
    view: RuleView,
    sources: Sequence[Source],
    steady: Mapping[str, Steady],
    stuck_s: float,
    moved: Sequence[datetime] = (),
    effect_s: float = 0.0,
) -> Sensed:
    """The first source that is alive and moves; a stuck one steps back for the next, and alone it is not believed.

    Args:
        view: The field.
        sources: In the order in which they are believed.
        steady: What was remembered of them.
        stuck_s: A value that has not moved for so long is stuck; 0 never is, a line may well be dead.
        moved: Instants at which the value must have changed, because a load it carries is known to have gone.
        effect_s: How long such a change may take to show.
    """
    kept: dict[str, Steady] = {}
    found: Sample | None = None
    why = [f"{source.quantity} of {source.device} is not known" for source in sources[:1]]
    for source in sources:
        sample = read(view, source)
        if sample is None:
            continue
        held = _held(steady.get(source.point), sample)
        kept[source.point] = held
        if _stuck(held, stuck_s, moved, effect_s):
            lasting_s = (held.last_at - held.since).total_seconds()
            why = [f"{source.quantity} of {source.device} has stood at {held.value:g} for {lasting_s:.0f} s"]
        elif found is None:
            found = sample
    return Sensed(found, kept, "" if found else why[0] if why else "nothing measures it")


def _held(before: Steady | None, sample: Sample) -> Steady:
    if before is None or sample.value != before.value:
        return Steady(sample.value, sample.at, sample.at, 1)
    if sample.at <= before.last_at:
        return before
    return replace(before, last_at=sample.at, samples=before.samples + 1)


def _stuck(held: Steady, stuck_s: float, moved: Sequence[datetime], effect_s: float) -> bool:
    if held.value == 0.0:
        return False
    if held.samples >= _STUCK_SAMPLES and (held.last_at - held.since).total_seconds() >= stuck_s:
        return True
    window = timedelta(seconds=effect_s)
    return held.samples >= _NUMB_SAMPLES and any(held.since < at and held.last_at >= at + window for at in moved)


@dataclass(frozen=True, slots=True)
class Stretch:
    """An unbroken time beyond a level: its first sample, its last one, and how many good ones it holds."""

    since: datetime
    last_at: datetime
    samples: int


def stretch(held: Stretch | None, beyond: bool, sample: Sample | None, max_gap_s: float) -> Stretch | None:
    """The stretch after one more look: it ends with a sample inside the level, or after a gap; no sample changes nothing."""
    if sample is None:
        return held
    if not beyond:
        return None
    if held is None or (sample.at - held.last_at).total_seconds() > max_gap_s:
        return Stretch(sample.at, sample.at, int(sample.good))
    return replace(held, last_at=sample.at, samples=held.samples + int(sample.good)) if sample.at > held.last_at else held


def ripe(held: Stretch | None, hold_s: float, min_samples: int, now: datetime) -> bool:
    """True when a stretch has lasted long enough and holds enough good samples."""
    return held is not None and held.samples >= min_samples and (now - held.since).total_seconds() >= hold_s
