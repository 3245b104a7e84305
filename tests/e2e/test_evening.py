"""The whole loop over real sockets: the demo's own command line on a short evening with one substation."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).parents[2]


def short_evening(folder: Path) -> Path:
    """The demo's scenario with one substation, a quarter of an hour of quiet and a brief crisis."""
    scenario: dict[str, Any] = yaml.safe_load((ROOT / "deploy/demo/scenario.yaml").read_text(encoding="utf-8"))
    scenario["substations"] = [row for row in scenario["substations"] if row["id"] == "harbour"]
    scenario["faults"] = {name: scenario["faults"][name] for name in ("hub-link", "back-feed")}
    cut = scenario["clock"]["epoch"] + timedelta(minutes=15)  # before the peak: at it, the last load would rightly stay off
    offsets_s = {("hub-link", True): 0, ("back-feed", True): 6, ("back-feed", False): 22, ("hub-link", False): 26}
    scenario["timeline"] = [
        {"at": cut + timedelta(seconds=offset), "fault": fault, "active": active}
        for (fault, active), offset in offsets_s.items()
    ]
    scenario["clock"]["normal_before_cut_s"] = 5
    scenario["edge_timings_s"] = {"overload_hold": 4, "restore_delay": 4, "restore_step": 1}
    path = folder / "scenario.yaml"
    path.write_text(yaml.safe_dump(scenario, sort_keys=False), encoding="utf-8")
    return path


def orphans(folder: Path) -> list[str]:
    """Command lines of processes that still name the folder."""
    lines = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        if str(folder) in words:
            lines.append(words)
    return lines


def test_the_loop_runs_end_to_end_and_leaves_nobody_behind(tmp_path: Path) -> None:
    out = tmp_path / "evening"
    command = [sys.executable, "-m", "deploy.demo", "--out", str(out), "--scenario", str(short_evening(tmp_path))]
    done = subprocess.run(command, cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, timeout=300, check=False)
    assert (out / "report.json").exists(), done.stdout + done.stderr
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    readings = report["readings"]
    assert readings["produced"] > 5000, report["readings"]
    assert (readings["lost"], readings["duplicated"], readings["fabricated"]) == (0, 0, 0), readings
    assert readings["checksum_equal"], readings
    shedding = report["shedding"]
    assert shedding["hold_s"] >= 4
    assert shedding["relief_after_hold_s"] <= 3
    assert shedding["vital_shed_kw"] == 0
    assert shedding["restored_pct"] >= 99
    assert report["plan"]["certificate"]["verdict"] in ("clean", "relief")
    assert report["forecast"]["mape"] < report["forecast"]["naive_mape"]
    assert "<figure>" in (out / "report.html").read_text(encoding="utf-8")
    assert orphans(tmp_path) == []
