"""Values, series, roll-ups, and what data quality found."""

from __future__ import annotations

from typing import Literal

from pydantic import AwareDatetime, ConfigDict, Field

from tieline_cloud.api.schemas.base import Answer, QualityWord
from tieline_core.ids import PointId
from tieline_core.messages.telemetry import Stream


class Value(Answer):
    """A number with unit, time and quality; null = no usable number."""

    value: float | None
    unit: str
    at: AwareDatetime
    quality: QualityWord


class PointValue(Value):
    """Last value of a point."""

    point: PointId


class Row(Answer):
    """One value of a series; the unit stands at its head."""

    at: AwareDatetime
    value: float | None
    quality: QualityWord


class ReadingSeries(Answer):
    """Readings of one point, ascending; an interval is labelled by its start."""

    point: PointId
    unit: str
    step: str = Field(description="ISO 8601 duration of the means, or raw", examples=["PT15M"])
    rows: tuple[Row, ...]
    truncated: bool = Field(description="true when there is more than the limit let through")


class RollupRow(Answer):
    """One interval; the unit stands at the head, null = there was no number."""

    at: AwareDatetime
    count: int = Field(description="readings with a number")
    good: int = Field(description="those of good quality")
    minimum: float | None
    maximum: float | None
    mean: float | None
    last: float | None
    quality: QualityWord = Field(description="the worst met in the interval")


class RollupSeries(Answer):
    """Roll-ups of one point, ascending; an interval is labelled by its start."""

    point: PointId
    unit: str
    step: str = Field(description="ISO 8601 duration of the intervals; P1D = local days", examples=["PT1H"])
    time_zone: str = Field(description="whose days P1D are", examples=["Europe/Berlin"])
    rows: tuple[RollupRow, ...]
    truncated: bool = Field(description="true when there is more than the limit let through")


class GroupSeries(Answer):
    """One group's series."""

    group: str
    points: int = Field(description="points in the group")
    rows: tuple[Row, ...]


class GroupedReadings(Answer):
    """Series of groups of points; an interval is labelled by its start."""

    function: Literal["sum", "mean", "min", "max"]
    unit: str
    step: str = Field(description="ISO 8601 duration of the intervals; P1D = local days", examples=["PT1H"])
    time_zone: str = Field(description="whose days P1D are", examples=["Europe/Berlin"])
    groups: tuple[GroupSeries, ...]


class QualityFinding(Answer):
    """One verdict of a rule of data quality."""

    point: PointId
    measured_at: AwareDatetime
    received_at: AwareDatetime
    rule: str
    value: float | None = Field(description="the number as received; null = there was none")
    limit: float | None = Field(description="the figure the rule compared with; durations in seconds")
    unit: str = Field(description="of the value")


class MisdatedReading(Answer):
    """A reading whose instant is not believed: kept with both of its times, outside every series."""

    point: PointId
    measured_at: AwareDatetime
    received_at: AwareDatetime
    value: float | None
    unit: str
    quality: QualityWord
    rule: str


class SpanRequest(Answer):
    """Hours of an edge, widened to whole ones."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        validate_by_name=True,
        validate_by_alias=True,
        json_schema_extra={"examples": [{"from": "2016-12-07T00:00:00Z", "to": "2016-12-08T00:00:00Z"}]},
    )

    start: AwareDatetime = Field(alias="from")
    end: AwareDatetime = Field(alias="to")
    streams: tuple[Stream, ...] = Field(default=tuple(Stream), min_length=1, max_length=3)
