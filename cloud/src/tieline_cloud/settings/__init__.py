"""The one frozen configuration tree of the hub. Unknown keys are errors; every key has one meaning.

Reading it from YAML, with file and key in every message, is :mod:`tieline_cloud.config_file`.
"""

from tieline_cloud.settings.area import (
    BatteryAsset,
    EdgeAssets,
    FlexibleLoadAsset,
    GridSettings,
    PlanningSettings,
    PvAsset,
    SiteSettings,
    TrainingSettings,
)
from tieline_cloud.settings.doors import (
    KafkaConsumerSettings,
    KafkaProducerSettings,
    KafkaSettings,
    MirrorSettings,
    SourceSettings,
)
from tieline_cloud.settings.hub import HubSettings
from tieline_cloud.settings.ledger import QualitySettings, RetentionSettings, StoreSettings
from tieline_cloud.settings.service import ClockSettings, Listen, MqttSettings, WorkerSettings

__all__ = [
    "BatteryAsset",
    "ClockSettings",
    "EdgeAssets",
    "FlexibleLoadAsset",
    "GridSettings",
    "HubSettings",
    "KafkaConsumerSettings",
    "KafkaProducerSettings",
    "KafkaSettings",
    "Listen",
    "MirrorSettings",
    "MqttSettings",
    "PlanningSettings",
    "PvAsset",
    "QualitySettings",
    "RetentionSettings",
    "SiteSettings",
    "SourceSettings",
    "StoreSettings",
    "TrainingSettings",
    "WorkerSettings",
]
