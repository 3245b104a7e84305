"""The fuzz harness itself: its readers take arbitrary and well-formed input without anything but our own errors."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.readers import one_input
from tieline_cloud.jobs import history_source


@given(st.binary(min_size=1, max_size=300))
@settings(max_examples=300, deadline=None)
def test_arbitrary_input_is_survived(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(history_source, "BLOCK_BYTES", 64)
        one_input(_folder(tmp_path_factory), data)


def _folder(factory: pytest.TempPathFactory) -> Path:
    return factory.mktemp("fuzz", numbered=True)
