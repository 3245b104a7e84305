"""Findings as lines of a terminal."""

from __future__ import annotations

from tieline_cloud.result_text import quality_lines


def test_a_finding_says_when_what_where_how_much_against_which_limit() -> None:
    row = {
        "measured_at": "2026-11-20T12:00:00Z",
        "received_at": "2026-11-20T12:00:02Z",
        "rule": "negative",
        "point": "harbour/m01/v_v",
        "value": -4.25,
        "unit": "V",
    }
    with_limit, misdated, without_number = quality_lines([{**row, "limit": 0.0}, row, {**row, "value": None, "limit": None}])
    assert with_limit == "2026-11-20T12:00:00Z  negative   harbour/m01/v_v  -4.25 V, limit 0, received 2026-11-20T12:00:02Z"
    assert misdated.endswith("-4.25 V, received 2026-11-20T12:00:02Z")
    assert "no number, received" in without_number


def test_nothing_found_is_said() -> None:
    assert list(quality_lines([])) == ["nothing was found"]
