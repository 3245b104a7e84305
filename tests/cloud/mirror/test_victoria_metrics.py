"""The mirror's conformance, against a real VictoriaMetrics whose 204 is not durable."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tests.cloud.mirror.conftest import VictoriaMetrics
from tests.cloud.mirror.replay_log import START, MemoryLog, many, readings
from tieline_cloud.mirror.mirror import Mirror
from tieline_cloud.mirror.ports import TargetAwayError
from tieline_cloud.mirror.target import InfluxTarget
from tieline_cloud.settings import MirrorSettings
from tieline_core.clock import SystemClock
from tieline_core.ids import PointId
from tieline_core.quantities import Quality, Reading


def settings(url: str) -> MirrorSettings:
    return MirrorSettings(name="vm", url=url, timeout_s=20)


def drain(mirror: Mirror) -> None:
    while mirror.round():
        pass


def test_every_reading_arrives_once_and_can_be_asked_for_by_name(victoria_metrics: VictoriaMetrics) -> None:
    log = MemoryLog()
    log.add(many(200, 50))
    log.add([Reading(PointId("harbour/tr1/loading_pct"), None, START, Quality.BAD)])
    with InfluxTarget(settings(victoria_metrics.url)) as target:
        mirror = Mirror(settings(victoria_metrics.url), log, target, SystemClock())
        drain(mirror)
        one = 'tieline_p_w{edge="harbour",device="m7"}'
        assert victoria_metrics.until_count(50, selector=one) == 50
        assert victoria_metrics.until_count(1, selector='tieline_loading_pct_quality{device="tr1"}') == 1
        assert victoria_metrics.until_count(10_001) == 10_001
        assert mirror.counters.lines == 10_001


def test_what_a_kill_took_from_an_acknowledged_target_is_replayed(victoria_metrics: VictoriaMetrics) -> None:
    log = MemoryLog()
    for part in range(4):
        log.add(many(500, 5, START.replace(day=2 + part)))
    with InfluxTarget(settings(victoria_metrics.url)) as target:
        mirror = Mirror(settings(victoria_metrics.url), log, target, SystemClock())
        drain(mirror)
        assert mirror.counters.lines == 10_000
        threading.Event().wait(5)
        victoria_metrics.kill()
        log.add(readings(10, "after"))
        mirror._probed_s = float("-inf")
        with pytest.raises(TargetAwayError):
            mirror.round()
        victoria_metrics.start()
        lost = 10_000 - victoria_metrics.count()
        assert lost > 0, "the kill took nothing: this test shows nothing"
        mirror._probed_s = float("-inf")
        drain(mirror)
        assert mirror.counters.steps_back == 1
        assert victoria_metrics.until_count(10_010) == 10_010


def test_a_target_restarted_between_two_writes_is_noticed_without_an_error(victoria_metrics: VictoriaMetrics) -> None:
    log = MemoryLog()
    log.add(many(100, 10))
    with InfluxTarget(settings(victoria_metrics.url)) as target:
        mirror = Mirror(settings(victoria_metrics.url), log, target, SystemClock())
        drain(mirror)
        first = target.started_at()
        threading.Event().wait(1.1)  # the start is told in whole seconds
        victoria_metrics.kill()
        victoria_metrics.start()
        assert target.started_at() != first
        mirror._probed_s = float("-inf")
        drain(mirror)
        assert (mirror.counters.steps_back, mirror.problem) == (1, None)
        assert victoria_metrics.until_count(1000) == 1000


def test_the_position_survives_the_hub_and_only_the_overlap_is_sent_again(
    tmp_path: Path, victoria_metrics: VictoriaMetrics
) -> None:
    log = MemoryLog()
    log.add(readings(100))
    for life in range(3):
        with InfluxTarget(settings(victoria_metrics.url)) as target:
            drain(Mirror(settings(victoria_metrics.url), log, target, SystemClock()))
        log.add(readings(100, f"life{life}"))
    assert victoria_metrics.until_count(300) == 300
