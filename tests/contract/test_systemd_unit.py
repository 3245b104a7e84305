"""The unit file: systemd takes every line of it, and finds little to complain about."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

UNIT = Path(__file__).parents[2] / "deploy/systemd/tieline-edge@.service"
#: Most exposure that is admitted, in tenths: 2.0 counts as "OK".
THRESHOLD = 20
#: Keys of systemd 254 that older ones ignore.
NEWER = ("RestartSteps", "RestartMaxDelaySec")


@pytest.fixture
def analyze() -> str:
    program = shutil.which("systemd-analyze")
    if program is None and not os.environ.get("CI") and os.geteuid() != 0:
        pytest.skip("systemd-analyze is not installed (see deploy/system-packages.sh)")
    assert program is not None, "systemd-analyze has to be there: see deploy/system-packages.sh"
    return program


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit with this environment's program, as an instance."""
    program = Path(sys.executable).with_name("tieline-edge")
    text = UNIT.read_text(encoding="utf-8").replace("/opt/tieline/bin/tieline-edge", str(program))
    path = tmp_path / "tieline-edge@harbour.service"
    path.write_text(text, encoding="utf-8")
    return path


def lines() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text(encoding="utf-8").splitlines():
        key, separator, value = line.partition("=")
        if separator and not line.startswith("#"):
            found.setdefault(key, []).append(value)
    return found


def test_systemd_takes_every_line(analyze: str, unit: Path) -> None:
    done = subprocess.run([analyze, "verify", "--man=no", str(unit)], capture_output=True, text=True, timeout=60, check=False)
    told = [line for line in done.stderr.splitlines() if unit.name in line and not any(key in line for key in NEWER)]
    assert told == []
    assert done.returncode == 0, done.stderr


def test_the_service_is_locked_up(analyze: str, unit: Path) -> None:
    done = subprocess.run(
        [analyze, "security", "--no-pager", "--offline=true", f"--threshold={THRESHOLD}", str(unit)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Overall exposure level" in done.stdout, done.stderr
    assert done.returncode == 0, done.stdout[-400:]


def test_what_keeps_a_substation_going_is_said() -> None:
    said = lines()
    assert said["Type"] == ["notify"]
    assert said["Restart"] == ["always"]
    assert said["StartLimitIntervalSec"] == ["0"]
    assert int(said["WatchdogSec"][0]) >= 10
    assert said["MemoryMax"]
    assert said["StateDirectory"] == ["tieline/%i"]
