"""For how long limits were violated in a run, from the simulator's own record of what really was (``truth.csv``)."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from tieline_sim.errors import SimulatorError

#: EN 50160: supply voltage within 10 % of the nominal one.
VOLTAGE_BAND_PU: Final = (0.9, 1.1)
#: A state counts for at most this long: where no tick was written, nothing is known [s].
LONGEST_S: Final = 600.0


@dataclass
class Minutes:
    """What a substation went through.

    Attributes:
        overload_min: Transformer above its rating [min].
        voltage_min: Busbar voltage outside :data:`VOLTAGE_BAND_PU` [min].
        worst_loading_pct: Highest loading.
        unserved_kwh: Energy that switched-off customers wanted.
        known_min: Time the figures are about [min].
    """

    overload_min: float = 0.0
    voltage_min: float = 0.0
    worst_loading_pct: float = 0.0
    unserved_kwh: float = 0.0
    known_min: float = 0.0

    def add(self, seconds: float, loading_pct: float, vm_pu: float, shed_w: float = 0.0) -> None:
        """A state that lasted so long."""
        minutes = min(max(seconds, 0.0), LONGEST_S) / 60.0
        self.known_min += minutes
        self.overload_min += minutes if loading_pct > 100.0 else 0.0
        self.voltage_min += 0.0 if VOLTAGE_BAND_PU[0] <= vm_pu <= VOLTAGE_BAND_PU[1] else minutes
        self.worst_loading_pct = max(self.worst_loading_pct, loading_pct)
        self.unserved_kwh += shed_w * minutes / 60e3

    @property
    def violation_min(self) -> float:
        """Overload and voltage together."""
        return self.overload_min + self.voltage_min

    def as_json(self) -> dict[str, float]:
        """Rounded for people."""
        return {"violation_min": round(self.violation_min, 2)} | {key: round(value, 3) for key, value in asdict(self).items()}


def total(rows: Iterable[Minutes]) -> float:
    """Violation minutes of all substations [min]."""
    return sum(row.violation_min for row in rows)


def read_truth(path: Path, begin: float, end: float) -> list[dict[str, float]]:
    """Rows between two simulated instants, in order.

    Raises:
        SimulatorError: When the file cannot be read or holds nothing of that time.
    """
    try:
        with path.open(encoding="utf-8", newline="") as table:
            rows = [
                {key: float(value) for key, value in row.items()} for row in csv.DictReader(table) if None not in row.values()
            ]
    except (OSError, ValueError) as error:
        raise SimulatorError(f"{path}: cannot be read: {error}") from error
    found = [row for row in rows if begin <= row["sim_unix_s"] <= end]
    if len(found) < 2:
        raise SimulatorError(f"{path}: holds {len(found)} rows of that time, two at least are needed")
    return found


def substations_of(row: Mapping[str, float]) -> list[str]:
    """Substations a row of the record is about."""
    return [name.removesuffix(".loading_pct") for name in row if name.endswith(".loading_pct")]


def violations(rows: Sequence[Mapping[str, float]]) -> dict[str, dict[str, Any]]:
    """By substation: with the control that was there, and in the world in which no setpoint arrived."""
    result: dict[str, dict[str, Any]] = {}
    for name in substations_of(rows[0]):
        with_control, without = Minutes(), Minutes()
        for row, following in pairwise(rows):
            seconds = following["sim_unix_s"] - row["sim_unix_s"]
            volts = row[f"{name}.vm_pu"]
            with_control.add(seconds, row[f"{name}.loading_pct"], volts, row[f"{name}.shed_w"])
            without.add(seconds, row[f"{name}.loading_without_pct"], volts)
        result[name] = {"with_control": with_control.as_json(), "without_control": without.as_json()}
    return result
