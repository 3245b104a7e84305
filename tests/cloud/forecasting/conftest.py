"""One small trained model for all tests of the folder."""

from __future__ import annotations

import pytest

from tests.cloud.forecasting.synthetic import small_request
from tieline_cloud.forecasting.train import fit
from tieline_cloud.forecasting.training import TrainedModel


@pytest.fixture(scope="session")
def trained() -> TrainedModel:
    """A model of the synthetic load."""
    return fit(small_request())
