"""The edge's forecaster: issues bands from the stored model, learns from its own misses, falls back without raising."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final

import numpy as np

from tieline_core.errors import TielineError, TransientError
from tieline_core.forecast_baseline import fallback_quantiles
from tieline_core.forecast_gate import ScoreBook, band_offsets, gate_weights, spread_inputs, to_issued
from tieline_core.forecast_inputs import (
    DAY_STEPS,
    HISTORY_STEPS,
    Floats,
    Ints,
    LoadHistory,
    ModelInputs,
    issue_instant,
    model_inputs,
)
from tieline_core.ids import PointId
from tieline_core.messages.telemetry import IssuedForecast
from tieline_core.model_manifest import ModelManifest
from tieline_core.quantities import Reading
from tieline_edge.forecasting.history import HistoryStore
from tieline_edge.forecasting.runtime import LoadModel, Outputs
from tieline_edge.forecasting.scoring import Issue, ScoreKeeper, local_date
from tieline_edge.forecasting.store import ModelStore, StoredModel

_LOG: Final = logging.getLogger(__name__)
#: A run takes some milliseconds; on a starved gateway some seconds.
INFERENCE_LIMIT_S: Final = 20.0
#: What a model reads, and a week in which its issues are scored.
_MODEL_STEPS: Final = HISTORY_STEPS + 7 * DAY_STEPS
#: A hole weeks ago must not silence the baselines: they try ever shorter pasts.
_BASELINE_STEPS: Final = (_MODEL_STEPS, 15 * DAY_STEPS, 8 * DAY_STEPS, 2 * DAY_STEPS, DAY_STEPS)


class ForecastUnavailableError(TransientError):
    """No model can speak at present."""


@dataclass
class _Used:
    """The model in use and what was learned about it."""

    stored: StoredModel
    opened: LoadModel
    book: ScoreBook
    learned_on: date | None = None


class Forecaster:
    """Forecasts one point; its history store must be open.

    Args:
        point: The point.
        models: Where models are stored.
        history: The open history store.
        limit_s: Longest run of a model [wall s].
    """

    def __init__(self, point: PointId, models: ModelStore, history: HistoryStore, limit_s: float = INFERENCE_LIMIT_S) -> None:
        self.point = point
        self._limit_s = limit_s
        self._models = models
        self._history = history
        self._keeper = ScoreKeeper(point, history)
        self._used: _Used | None = None
        #: Why the last forecast did not come from the model; None when it did.
        self.fallback_reason: str | None = "no model is installed"

    @property
    def model_sha256(self) -> str | None:
        """Hash of the envelope of the model in use, as reported to the hub."""
        return self._used.stored.envelope_sha256 if self._used else None

    async def start(self) -> None:
        """Load the stored model, if any; verification and the runtime's import happen in a thread."""
        await self._use(await asyncio.to_thread(self._models.load, self.point))

    async def install(self, manifest: bytes, onnx: bytes, seed: bytes | None, envelope_sha256: str) -> None:
        """Verify, store and use a new model; on any error the present one stays in use.

        Args:
            manifest: Payload of the opened envelope.
            onnx: The file pulled by the manifest's hash.
            seed: The seed pulled by the manifest's hash, None when it names none.
            envelope_sha256: Hash of the envelope.

        Raises:
            ModelRefusedError: With the check that failed and why.
        """
        await self._use(await asyncio.to_thread(self._models.install, self.point, manifest, onnx, seed, envelope_sha256))

    async def revert(self) -> bool:
        """Go back to the previous model; False when there is none."""
        previous = await asyncio.to_thread(self._models.revert, self.point)
        if previous is not None:
            await self._use(previous)
        return previous is not None

    async def _use(self, stored: StoredModel | None) -> None:
        if stored is None:
            return
        opened = await asyncio.to_thread(LoadModel, stored.manifest, stored.onnx)
        if stored.seed is not None:
            await self._history.seed(self.point, stored.seed)
        book = await self._keeper.book(stored.manifest.experts)
        self._used, self.fallback_reason = _Used(stored, opened, book), None

    async def add(self, reading: Reading) -> None:
        """Take a reading of the forecast point."""
        if reading.point == self.point:
            await self._history.add(reading)

    async def issue(self, now: datetime) -> IssuedForecast | None:
        """Forecast the 48 hours from the latest quarter hour on; never raises for want of data or for a bad model.

        Returns:
            The forecast; its ``model_id`` is ``fallback:weekly-naive`` or ``fallback:last-day`` when it did not come from the
            model (the reason is in :attr:`fallback_reason`). None when not even a day was measured.
        """
        issue = issue_instant(now)
        try:
            await self._history.close_before(self.point, now)
            return await self._from_model(await self._history.before(self.point, issue, _MODEL_STEPS), issue)
        except (TielineError, sqlite3.Error) as error:
            self._fall_back(str(error))
        return await self._from_baseline(issue)

    async def _from_model(self, history: LoadHistory, issue: datetime) -> IssuedForecast:
        if self._used is None:
            raise ForecastUnavailableError("no model is installed")
        manifest = self._used.stored.manifest
        book = await self._learned(self._used, history, issue)
        inputs = model_inputs(history, issue, manifest.zone, manifest.holidays)
        quarter: Ints = np.asarray(inputs["quarter"], dtype=np.int64)
        tables = spread_inputs(*self._gate(manifest, book), quarter)
        out = await self._run(self._used, {**inputs, **tables})
        await self._keeper.keep(_issue_of(issue, manifest.model_id, out, tables["weights"].astype(np.float64)))
        self.fallback_reason = None
        return to_issued(self.point, manifest.model_id, issue, out.quantiles)

    async def _run(self, used: _Used, inputs: ModelInputs) -> Outputs:
        """One run with a time limit; a model that does not come back is not asked again, its thread cannot be ended."""
        running = asyncio.create_task(asyncio.to_thread(used.opened.run, inputs), name="inference")
        done, _ = await asyncio.wait([running], timeout=self._limit_s)
        if not done:
            self._used = None
            # Whatever it ends with one day is nobody's business any more.
            running.add_done_callback(lambda task: task.cancelled() or task.exception())
            raise ForecastUnavailableError(
                f"model {used.stored.manifest.model_id} took longer than {self._limit_s:g} s; it is not used until it is "
                "installed anew or the agent starts again"
            )
        return await running

    async def _learned(self, used: _Used, history: LoadHistory, issue: datetime) -> ScoreBook:
        """Once a local day: score what was issued, renew what gate and bands are made from."""
        manifest = used.stored.manifest
        today = local_date(issue, manifest.zone)
        if today != used.learned_on:
            used.book = await self._keeper.score(history, manifest.zone, manifest.experts)
            used.learned_on = today
        return used.book

    @staticmethod
    def _gate(manifest: ModelManifest, book: ScoreBook) -> tuple[Floats, Floats]:
        """Own weights and offsets once enough days are scored, the manifest's until then."""
        weights, offsets = gate_weights(book), band_offsets(book)
        return (
            np.array(manifest.weights) if weights is None else weights,
            np.array(manifest.offsets) if offsets is None else offsets,
        )

    async def _from_baseline(self, issue: datetime) -> IssuedForecast | None:
        """The best baseline of the longest stretch that is whole enough; None when there is none."""
        for steps in _BASELINE_STEPS:
            try:
                history = await self._history.before(self.point, issue, steps)
            except (TielineError, sqlite3.Error) as error:
                _LOG.debug("%s: no baseline from %d quarter hours: %s", self.point, steps, error)
                continue
            if (found := fallback_quantiles(history, issue)) is not None:
                return to_issued(self.point, f"fallback:{found[0]}", issue, found[1])
        return None

    def _fall_back(self, reason: str) -> None:
        if reason != self.fallback_reason:
            _LOG.warning("%s: forecast falls back: %s", self.point, reason)
        self.fallback_reason = reason


def _issue_of(at: datetime, model_id: str, out: Outputs, weights: Floats) -> Issue:
    blended = (out.experts * weights).sum(axis=1).astype(np.float32)
    return Issue(at, model_id, out.level, out.experts, blended)
