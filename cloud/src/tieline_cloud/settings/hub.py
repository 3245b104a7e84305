"""The root of the configuration tree, and the rules that span its parts."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, ValidationInfo, field_validator, model_validator

from tieline_cloud.ingest.third_party import admitted_nodes
from tieline_cloud.settings.area import EdgeAssets, GridSettings, PlanningSettings, SiteSettings, TrainingSettings
from tieline_cloud.settings.doors import KafkaSettings, MirrorSettings, SourceSettings
from tieline_cloud.settings.ledger import QualitySettings, RetentionSettings, StoreSettings
from tieline_cloud.settings.section import Section
from tieline_cloud.settings.service import ClockSettings, Listen, MqttSettings, WorkerSettings
from tieline_core.ids import EdgeId


class HubSettings(Section):
    """Everything the hub is told at its start."""

    data_dir: Path
    mqtt: MqttSettings
    signing_key: Path = Field(description="raw Ed25519 key file, made by 'tieline-cloud keygen', mode 0600")
    listen: Listen = Listen()
    clock: ClockSettings = ClockSettings()
    site: SiteSettings = SiteSettings()
    grid: GridSettings = GridSettings()
    planning: PlanningSettings = PlanningSettings()
    training: TrainingSettings = TrainingSettings()
    workers: WorkerSettings = WorkerSettings()
    store: StoreSettings = StoreSettings()
    retention: RetentionSettings = RetentionSettings()
    quality: QualitySettings = QualitySettings()
    prices: Path | None = Field(default=None, description="csv imported at every start: start, price_eur_per_mwh")
    edges: dict[EdgeId, EdgeAssets] = Field(default_factory=dict)
    admitted_edges: tuple[EdgeId, ...] | None = Field(
        default=None, description="edges that are listened to; without it every edge the broker lets in"
    )
    max_points_per_edge: int = Field(
        default=50_000, ge=1, description="points one edge may name; a frame that would add more goes to quarantine"
    )
    admitted_nodes: tuple[str, ...] = Field(
        default=(), description="third-party Sparkplug nodes as group/node: shown and stored at most once"
    )
    mirrors: tuple[MirrorSettings, ...] = Field(default=(), max_length=8)
    sources: dict[EdgeId, SourceSettings] = Field(default_factory=dict, description="head-end systems by name")
    kafka: KafkaSettings | None = None

    @model_validator(mode="after")
    def _doors(self) -> HubSettings:
        names = [mirror.name for mirror in self.mirrors]
        if len(set(names)) < len(names):
            raise ValueError(f"mirrors need different names, got {', '.join(names)}")
        consumer = self.kafka.consumer if self.kafka else None
        foreign = set(self.sources) | set(consumer.sources if consumer else ())
        if taken := sorted(foreign & set(self.edges)):
            raise ValueError(f"{', '.join(taken)} is an edge; a source needs a name of its own")
        return self

    @model_validator(mode="after")
    def _described_edges_are_heard(self) -> HubSettings:
        if self.admitted_edges is not None and (deaf := sorted(set(self.edges) - set(self.admitted_edges))):
            raise ValueError(f"edges names {', '.join(deaf)}, admitted_edges does not: nothing of it would be taken")
        return self

    @field_validator("admitted_nodes")
    @classmethod
    def _nodes_apart(cls, nodes: tuple[str, ...], others: ValidationInfo) -> tuple[str, ...]:
        admitted_nodes(nodes, others.data.get("edges", {}))
        return nodes

    @model_validator(mode="after")
    def _training_has_its_past(self) -> HubSettings:
        days, needed = self.retention.quarter_days, max(self.training.history_days, self.planning.history_days)
        if days is not None and days < needed:
            raise ValueError(
                f"retention.quarter_days {days} must not be less than the {needed} days of history models are made of"
            )
        return self
