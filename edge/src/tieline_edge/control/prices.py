"""Known energy prices on the steps of a local schedule: from the hub's plan, else from the tariff in the configuration."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from tieline_core.messages.network import PriceVector
from tieline_edge.settings import TariffStep


def of_vector(vector: PriceVector, start: datetime, step_s: int, steps: int) -> NDArray[np.float64]:
    """Prices of the leading steps the vector covers, shape (n,) with n <= steps; empty when it does not cover the first."""
    out = []
    for step in range(steps):
        index = (start + timedelta(seconds=step * step_s) - vector.start).total_seconds() / vector.step_s
        if not 0 <= index < len(vector.eur_per_mwh):
            break
        out.append(vector.eur_per_mwh[int(index)])
    return np.array(out)


def of_tariff(tariff: Sequence[TariffStep], zone: ZoneInfo, start: datetime, step_s: int, steps: int) -> NDArray[np.float64]:
    """Prices of all steps by the local time of day, shape (steps,); empty without a tariff.

    Before the first step of a day the last one of the day before holds.
    """
    if not tariff:
        return np.zeros(0)
    starts = [row.start for row in tariff]

    def price(at: time) -> float:
        index = sum(one <= at for one in starts) - 1
        return tariff[index].eur_per_mwh

    instants = ((start + timedelta(seconds=step * step_s)).astimezone(zone) for step in range(steps))
    return np.array([price(at.time()) for at in instants])
