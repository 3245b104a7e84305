"""What travels with an ONNX file: the manifest that says what it is, how to feed it and how good it was.

The manifest is the payload of a signed envelope (:attr:`tieline_core.signing.EnvelopeType.MODEL`). The ONNX file and the
blob of recent history (seed) travel by the content hashes it names.
"""

from __future__ import annotations

import hashlib
from datetime import date
from typing import Final, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
from pydantic import AwareDatetime, Field, field_validator, model_validator

from tieline_core.errors import BadInputError
from tieline_core.forecast_gate import LEAD_GROUPS
from tieline_core.forecast_inputs import (
    DAY_STEPS,
    FEATURE_VERSION,
    HISTORY_STEPS,
    HORIZON_STEPS,
    LAGS,
    QUANTILES,
    RECENT_ALIKE,
    STEP_S,
    LoadHistory,
)
from tieline_core.ids import PointId
from tieline_core.messages.base import Message
from tieline_core.messages.desired import Sha256

#: Nothing larger is pulled, stored or loaded.
MAX_ONNX_BYTES: Final = 8 * 1024 * 1024
MAX_SEED_BYTES: Final = 1024 * 1024
_MAX_EXPERTS: Final = 16


class TensorSpec(Message):
    """Name, shape and type of one tensor of a model."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")
    shape: tuple[int, ...]
    dtype: Literal["float32", "int64"]


def input_specs(experts: int) -> tuple[TensorSpec, ...]:
    """Inputs of every load model of this feature version, in order."""
    rows = (
        ("history", (HISTORY_STEPS,), "float32"),
        ("quarter", (HORIZON_STEPS,), "int64"),
        ("weekday", (HORIZON_STEPS,), "int64"),
        ("year_day", (HORIZON_STEPS,), "int64"),
        ("day_type", (HORIZON_STEPS, 3), "int64"),
        ("lag_step", (HORIZON_STEPS, len(LAGS)), "int64"),
        ("lag_day_type", (HORIZON_STEPS,), "int64"),
        ("recent_step", (DAY_STEPS, RECENT_ALIKE), "int64"),
        ("weights", (HORIZON_STEPS, experts), "float32"),
        ("offsets", (HORIZON_STEPS, len(QUANTILES)), "float32"),
    )
    return tuple(TensorSpec.model_validate({"name": name, "shape": shape, "dtype": dtype}) for name, shape, dtype in rows)


def output_specs(experts: int) -> tuple[TensorSpec, ...]:
    """Outputs: sorted quantiles in the point's unit, each expert's forecast over the level, and the level."""
    return (
        TensorSpec(name="quantiles", shape=(HORIZON_STEPS, len(QUANTILES)), dtype="float32"),
        TensorSpec(name="expert_forecasts", shape=(HORIZON_STEPS, experts), dtype="float32"),
        TensorSpec(name="level", shape=(1,), dtype="float32"),
    )


class BacktestMetrics(Message):
    """Rolling-origin scores on days no scored model was fitted on, and the parity of the conversion.

    Protocol ``rolling-3h``: as the edge works through its day, a forecast is issued every three hours (00, 03, .. 21 UTC)
    of the last 28 days with gate and bands learned once a local day; every lead from 15 minutes to ``scored_horizon_steps``
    counts the same, and the weekly naive is scored on the same targets. Longer leads have figures of their own.
    """

    protocol: Literal["rolling-3h"] = "rolling-3h"
    scored_horizon_steps: int = Field(ge=1, description="quarter hours ahead that are scored, from 1 on, all alike")
    mape: float = Field(ge=0, description="percent, of all scored leads of all issues")
    naive_mape: float = Field(ge=0, description="percent, same quarter hour seven days before, on the same targets")
    day_ahead_mape: float | None = Field(ge=0, description="percent, leads beyond the scored horizon up to 48 hours")
    day_ahead_naive_mape: float | None = Field(ge=0, description="percent, the naive on the targets of those leads")
    coverage_90: float = Field(ge=0, le=1, description="share of measurements inside P5..P95")
    coverage_80: float = Field(ge=0, le=1, description="share of measurements inside P10..P90")
    evening_mape: float | None = Field(ge=0, description="percent, intervals starting 16:00 to 20:00 UTC")
    scored_from: AwareDatetime
    scored_to: AwareDatetime
    evening_naive_mape: float | None = Field(ge=0, description="percent, the naive in the same intervals")
    issues: int = Field(ge=1, description="issues scored; one every three hours")
    onnx_parity: float = Field(ge=0, description="largest relative difference between the ONNX graph and the native experts")
    parity_rows: int = Field(ge=1)


class Seed(Message):
    """A blob of recent history: little-endian float32, one value a step, so that a new edge can forecast at once."""

    sha256: Sha256
    bytes: int = Field(ge=4, le=MAX_SEED_BYTES)
    start: AwareDatetime
    step_s: Literal[900] = STEP_S
    steps: int = Field(ge=1)

    @model_validator(mode="after")
    def _sized(self) -> Self:
        if self.bytes != 4 * self.steps:
            raise ValueError(f"{self.steps} float32 values are {4 * self.steps} bytes, not {self.bytes}")
        return self


class ModelManifest(Message):
    """Everything an edge must know to run a load model and to trust its numbers."""

    version: Literal[1] = 1
    model_id: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{2,127}$")
    point: PointId
    feature_version: int = Field(ge=1)
    step_s: Literal[900] = STEP_S
    horizon_steps: Literal[192] = HORIZON_STEPS
    history_steps: Literal[3456] = HISTORY_STEPS
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    temperature_inputs: tuple[str, ...] = Field(default=(), description="names of weather inputs; none are used so far")
    quantiles: tuple[float, ...]
    experts: tuple[str, ...] = Field(min_length=1, max_length=_MAX_EXPERTS)
    time_zone: str = Field(max_length=64)
    holidays: tuple[date, ...] = Field(default=(), max_length=200, description="local holidays, to about 400 days ahead")
    trained_from: AwareDatetime
    trained_to: AwareDatetime
    training_sha256: Sha256 = Field(description="hash of the training history (start, values, flags)")
    created_at: AwareDatetime
    onnx_sha256: Sha256
    onnx_bytes: int = Field(ge=1, le=MAX_ONNX_BYTES)
    seed: Seed | None = None
    weights: tuple[tuple[tuple[float, ...], ...], ...] = Field(
        description="[lead groups][24 hours][experts], rows sum to 1; until the edge has its own"
    )
    offsets: tuple[tuple[tuple[float, ...], ...], ...] = Field(description="[lead groups][24 hours][quantiles], over the level")
    metrics: BacktestMetrics

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, text: str) -> str:
        try:
            ZoneInfo(text)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError(f"{text!r} is no time zone of the IANA database") from error
        return text

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        count = len(self.experts)
        if self.feature_version == FEATURE_VERSION and (
            self.inputs != input_specs(count) or self.outputs != output_specs(count) or self.quantiles != QUANTILES
        ):
            raise ValueError(f"inputs, outputs or quantiles are not those of feature version {FEATURE_VERSION}")
        shares = [row for group in self.weights for row in group]
        if [len(group) for group in self.weights] != [24] * len(LEAD_GROUPS) or any(
            len(row) != count or abs(sum(row) - 1) > 1e-6 for row in shares
        ):
            raise ValueError(f"weights must be {len(LEAD_GROUPS)} groups of 24 rows of {count} numbers that sum to 1")
        rows = [row for group in self.offsets for row in group]
        if [len(group) for group in self.offsets] != [24] * len(LEAD_GROUPS) or any(
            len(row) != len(self.quantiles) for row in rows
        ):
            raise ValueError(f"offsets must be {len(LEAD_GROUPS)} groups of 24 rows of {len(self.quantiles)} numbers")
        return self

    @property
    def zone(self) -> ZoneInfo:
        """The site's time zone."""
        return ZoneInfo(self.time_zone)


def sha256_hex(data: bytes) -> str:
    """Content hash as every artifact is named."""
    return hashlib.sha256(data).hexdigest()


def pack_seed(history: LoadHistory) -> tuple[Seed, bytes]:
    """Write recent history as a seed blob."""
    blob = history.values.astype("<f4").tobytes()
    seed = Seed(sha256=sha256_hex(blob), bytes=len(blob), start=history.start, steps=len(history.values))
    return seed, blob


def unpack_seed(seed: Seed, blob: bytes) -> LoadHistory:
    """Read a seed blob back.

    Raises:
        BadInputError: When size or hash are not what the manifest says, or a value is not finite.
    """
    if len(blob) != seed.bytes or sha256_hex(blob) != seed.sha256:
        raise BadInputError("seed", "sha256", sha256_hex(blob), f"the manifest names {seed.bytes} bytes, {seed.sha256}")
    values = np.frombuffer(blob, dtype="<f4").astype(np.float64)
    return LoadHistory(seed.start, values, np.zeros(len(values), dtype=bool))
