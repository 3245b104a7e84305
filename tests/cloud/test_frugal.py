"""What the serving process does not load."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_SCRIPT = """
import sys
from tieline_cloud.frugal import be_frugal
be_frugal()
import tieline_cloud.bootstrap
from pathlib import Path
from tieline_cloud.store.adapters import open_store
with open_store(f"duckdb:{sys.argv[1]}/hub.duckdb") as store:
    store.points()
heavy = ("pandas", "scipy", "highspy", "influxdb_client", "sklearn", "lightgbm", "pandapower", "onnx", "onnxruntime")
print(" ".join(name for name in heavy if name in sys.modules))
"""


def test_a_serving_hub_loads_neither_solver_nor_data_frames(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, str(tmp_path)], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.split() == []
