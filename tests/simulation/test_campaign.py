"""The campaign of every build: no law may break in any of its stories."""

from __future__ import annotations

import logging

import pytest

from tests.simulation.campaign import run

#: More are for ``make simulate``: a story of half an hour takes three to four seconds of a busy core.
SEEDS = 10
HOURS = 0.5


def test_no_story_breaks_a_law(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    report = run(range(1, SEEDS + 1), HOURS)
    assert not report.failed, report.in_words()
