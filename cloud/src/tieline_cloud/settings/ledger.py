"""What is kept: the ledger and its roll-ups, how long, and how it is judged on arrival."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import parse_qs, urlsplit

from pydantic import Field, field_validator, model_validator

from tieline_cloud.settings.section import Days, Section, known_zone


class StoreSettings(Section):
    """The ledger and its roll-ups."""

    url: str | None = Field(
        default=None,
        description="postgresql://user@host:5432/database, duckdb:/path/to/file, or none = DuckDB file hub.duckdb in data_dir",
    )
    timezone: str | None = Field(default=None, description="whose days are rolled up; none = site.time_zone")
    roll_up_every_s: float = Field(default=5.0, ge=0.1, le=3600, description="wall seconds between roll-ups")

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, name: str | None) -> str | None:
        return None if name is None else known_zone(name)

    @field_validator("url")
    @classmethod
    def _without_secret(cls, url: str | None) -> str | None:
        if url is not None:
            parts = urlsplit(url)
            if parts.password is not None or "password" in parse_qs(parts.query):
                raise ValueError(
                    "a password does not belong into a configuration; put it into the file PGPASSFILE names, or into PGPASSWORD"
                )
        return url


class RetentionSettings(Section):
    """Whole days each form of the past is kept; null = for ever. Roll-ups of days always are."""

    raw_days: Days | None = Field(default=400, description="readings as they came")
    minute_days: Days | None = Field(default=90, description="roll-ups of minutes")
    quarter_days: Days | None = Field(default=1100, description="roll-ups of quarter-hours; models are trained on them")
    hour_days: Days | None = Field(default=None, description="roll-ups of hours")
    overrides: dict[Annotated[str, Field(min_length=1, max_length=160)], Days] = Field(
        default={"*/m[0-9]*/*": 60},
        description="days of everything finer than an hour by pattern of point ids: customers' meters tell how people live",
    )

    @model_validator(mode="after")
    def _coarser_lives_longer(self) -> RetentionSettings:
        for finer, coarser in (("minute_days", "quarter_days"), ("quarter_days", "hour_days")):
            less, more = getattr(self, finer), getattr(self, coarser)
            if more is not None and (less is None or less > more):
                raise ValueError(f"{coarser} {more} must not be less than {finer} {'(for ever)' if less is None else less}")
        return self


class QualitySettings(Section):
    """Data quality on arrival, and what stands in where nothing good was measured."""

    rules: Path | None = Field(default=None, description="own measurement classes (YAML), looked at before the delivered ones")
    estimate_every_s: float = Field(default=3600.0, ge=60, description="seconds of the clock between estimation runs")
    examine: bool = Field(default=True, description="false = store what arrives as it is, unjudged; for measuring the hub")
