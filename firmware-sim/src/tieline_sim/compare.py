"""A run against the replay of its own time with perfect foresight."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from tieline_sim.clock import utc_text
from tieline_sim.foresight import replay
from tieline_sim.scenario import Scenario
from tieline_sim.violations import read_truth, violations


def with_foresight(scenario: Scenario, state: Path, begin: float, end: float, cache: Path | None = None) -> dict[str, Any]:
    """Minutes of violation by substation: of the run, without any control, and with foresight; and their sums.

    Raises:
        SimulatorError: When the folder holds no record of that time.
    """
    rows = read_truth(state / "truth.csv", begin, end)
    ticks = [after["sim_unix_s"] - before["sim_unix_s"] for before, after in pairwise(rows)]
    content = {name.removesuffix("_soc_pct"): value for name, value in rows[0].items() if name.endswith("_soc_pct")}
    first, last = rows[0]["sim_unix_s"], rows[-1]["sim_unix_s"]
    seen = violations(rows)
    foreseen = replay(scenario, first, last, median(ticks), content, cache)
    return {
        "from": utc_text(first),
        "to": utc_text(last),
        "tick_s": round(median(ticks), 3),
        "substations": {name: row | {"with_foresight": foreseen[name].as_json()} for name, row in seen.items()},
        "violation_min": {
            "with_control": round(sum(row["with_control"]["violation_min"] for row in seen.values()), 2),
            "without_control": round(sum(row["without_control"]["violation_min"] for row in seen.values()), 2),
            "with_foresight": round(sum(row.violation_min for row in foreseen.values()), 2),
        },
    }
