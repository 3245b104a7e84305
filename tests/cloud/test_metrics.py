"""Prometheus text."""

from __future__ import annotations

from datetime import timedelta

from tests.cloud.rooms import NOW
from tieline_cloud.metrics import Sample, age_s, exposition


def test_samples_of_one_name_are_one_family_and_unknown_values_are_left_out() -> None:
    text = exposition(
        lambda: [
            Sample("edges", "edges", 2, {"lane": "live"}),
            Sample("edges", "edges", 3, {"lane": "durable"}),
            Sample("frames_total", "frames", 7),
            Sample("newest_reading_age_seconds", "age", None),
        ]
    )().decode()
    assert text.count("# TYPE tieline_hub_edges gauge") == 1
    assert 'tieline_hub_edges{lane="durable"} 3.0' in text
    assert "tieline_hub_frames_total 7.0" in text
    assert "newest_reading" not in text


def test_an_age_is_counted_on_the_hub_s_clock() -> None:
    assert age_s(NOW - timedelta(seconds=5), NOW) == 5.0
    assert age_s(None, NOW) is None
