"""Forecasts as issued, and the models behind them."""

from __future__ import annotations

from typing import Any

from pydantic import AwareDatetime

from tieline_cloud.api.schemas.base import Answer
from tieline_cloud.dispatch.models import ModelState
from tieline_core.ids import PointId


class ForecastRow(Answer):
    """One interval of a forecast."""

    at: AwareDatetime
    p10: float
    p50: float
    p90: float
    lo90: float
    hi90: float


class ForecastIssue(Answer):
    """When a forecast was issued, and by which model."""

    model_id: str
    issued_at: AwareDatetime


class Forecast(ForecastIssue):
    """An issued forecast."""

    rows: tuple[ForecastRow, ...]


class ForecastAnswer(Answer):
    """The newest forecast that reaches into the span, and all issues that do."""

    point: PointId
    unit: str
    step: str | None
    latest: Forecast | None
    issues: tuple[ForecastIssue, ...]


class Model(Answer):
    """A trained model in use or used before."""

    model_id: str
    point: PointId
    state: ModelState
    published_at: AwareDatetime
    confirmed_at: AwareDatetime | None
    sha256: str
    onnx_sha256: str
    manifest: dict[str, Any]
