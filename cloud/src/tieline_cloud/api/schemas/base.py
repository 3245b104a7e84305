"""What all shapes of the API share."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

QualityWord = Literal["good", "uncertain", "substituted", "stale", "bad"]


class Answer(BaseModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False)
