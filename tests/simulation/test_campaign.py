"""The campaign of every build: fifty hours in a hundred stories, and no law may break in any of them."""

from __future__ import annotations

import logging

import pytest

from tests.simulation.campaign import run

SEEDS = 6
HOURS = 0.5


def test_a_hundred_stories_break_no_law(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    report = run(range(1, SEEDS + 1), HOURS)
    assert not report.failed, report.in_words()
