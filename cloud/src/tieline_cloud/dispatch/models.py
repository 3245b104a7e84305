"""Models as they were published: signed manifest, files by hash, measured quality."""

from __future__ import annotations

import json
from datetime import timedelta
from enum import StrEnum
from typing import Any, Final

from pydantic import AwareDatetime, Field

from tieline_cloud.dispatch.artifacts import ArtifactStore
from tieline_cloud.dispatch.desired import CLOCK_SLACK, DesiredRecord, DesiredStates
from tieline_cloud.dispatch.documents import DocumentStore
from tieline_cloud.dispatch.keys import Sealer
from tieline_core.clock import Clock
from tieline_core.ids import PointId
from tieline_core.messages.base import Message
from tieline_core.signing import EnvelopeType

KIND: Final = "model"
_VALID_DAYS: Final = 400


class ModelState(StrEnum):
    """Life of a model."""

    PUBLISHED = "published"
    CONFIRMED = "confirmed"
    SUPERSEDED = "superseded"


class ModelRecord(Message):
    """One trained model."""

    model_id: str
    point: PointId
    state: ModelState
    manifest: dict[str, Any] = Field(description="the signed manifest's payload")
    sha256: str = Field(description="content hash of the signed manifest")
    onnx_sha256: str
    seed_sha256: str | None = None
    published_at: AwareDatetime
    confirmed_at: AwareDatetime | None = None

    def manifest_json(self) -> bytes:
        """The manifest as its JSON text."""
        return json.dumps(self.manifest).encode()


class ModelRegistry:
    """Seals, keeps and publishes models. Methods are called on the event loop."""

    def __init__(
        self, documents: DocumentStore, artifacts: ArtifactStore, sealer: Sealer, desired: DesiredStates, clock: Clock
    ) -> None:
        self._documents = documents
        self._artifacts = artifacts
        self._sealer = sealer
        self._desired = desired
        self._clock = clock
        desired.on_confirmed(self._confirm)

    def publish(self, model_id: str, point: PointId, manifest: Message, onnx: bytes, seed: bytes | None) -> ModelRecord:
        """Sign a manifest, keep its files and make it the desired model of its point."""
        now = self._clock.now()
        envelope, _ = self._sealer.seal(
            EnvelopeType.MODEL,
            point.edge,
            manifest.to_bytes(),
            now=now,
            valid=(now - CLOCK_SLACK, now + timedelta(days=_VALID_DAYS)),
        )
        record = ModelRecord(
            model_id=model_id,
            point=point,
            state=ModelState.PUBLISHED,
            manifest=manifest.model_dump(mode="json"),
            sha256=self._artifacts.put(envelope),
            onnx_sha256=self._artifacts.put(onnx),
            seed_sha256=None if seed is None else self._artifacts.put(seed),
            published_at=now,
        )
        if (before := self.current(point)) is not None:
            self._keep(before.model_copy(update={"state": ModelState.SUPERSEDED}))
        self._keep(record)
        self._documents.put("current-model", point, model_id.encode(), now)
        self._desired.set_model(point.edge, point, record.sha256)
        return record

    def current(self, point: PointId) -> ModelRecord | None:
        """The model in use for a point."""
        name = self._documents.get("current-model", point)
        body = None if name is None else self._documents.get(KIND, name.decode())
        return None if body is None else ModelRecord.from_bytes(body, "hub memory")

    def newest(self, limit: int) -> list[ModelRecord]:
        """Models, newest first."""
        return [ModelRecord.from_bytes(body, "hub memory") for body in self._documents.newest(KIND, limit)]

    def _keep(self, record: ModelRecord) -> None:
        self._documents.put(KIND, record.model_id, record.to_bytes(), record.published_at)

    def _confirm(self, desired: DesiredRecord) -> None:
        for point, sha256 in desired.desired.models.items():
            record = self.current(point)
            if record is not None and record.sha256 == sha256 and record.confirmed_at is None:
                self._keep(record.model_copy(update={"state": ModelState.CONFIRMED, "confirmed_at": desired.confirmed_at}))
