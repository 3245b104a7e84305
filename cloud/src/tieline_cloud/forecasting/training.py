"""What goes into a training and what comes out of it.

The hub's process hands these to its workers and takes them back, so this module loads none of the libraries of the fit.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from tieline_cloud.forecasting.backtest import Backtest
from tieline_cloud.forecasting.experts import FitParams
from tieline_core.forecast_inputs import LoadHistory
from tieline_core.ids import PointId
from tieline_core.model_manifest import ModelManifest


@dataclass(frozen=True, slots=True)
class Parity:
    """Result of a passed gate."""

    difference: float
    rows: int


@dataclass(frozen=True, slots=True)
class TrainingRequest:
    """What a model is to be made from.

    Attributes:
        point: The point to forecast.
        history: 15-minute means up to about ``now``, gaps filled; 330 days are recommended, 120 the least.
        time_zone: IANA name of the site's zone.
        country: ISO 3166 code whose public holidays hold at the site; None for none.
        now: Present instant: nothing measured after it is used.
        subdivision: State or province for regional holidays, as the ``holidays`` package names it.
        params: Sizes of the fit.
    """

    point: PointId
    history: LoadHistory
    time_zone: str
    country: str | None
    now: datetime
    subdivision: str | None = None
    params: FitParams = field(default_factory=FitParams)


@dataclass(frozen=True, slots=True)
class TrainingReport:
    """How the training went, for logs and the job's page."""

    backtest: Backtest
    parity: Parity
    rows: int
    fit_s: float


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """The product: the manifest, the file and the seed it names by hash, and the report."""

    manifest: ModelManifest
    onnx: bytes
    seed: bytes
    report: TrainingReport
