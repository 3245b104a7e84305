"""The command line: exit codes and words."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.ports import free_port
from tieline_core.ids import DeviceId
from tieline_edge.__main__ import main
from tieline_edge.control.arbiter import Decision
from tieline_edge.control.facts import SiteFacts
from tieline_edge.control.memory import ArbiterMemory
from tieline_edge.control.replay import Asked
from tieline_edge.control.state_file import StateFile
from tieline_edge.control.trace import Trace
from tieline_edge.drivers.capabilities import Capability, DeviceSpec, Role


def write_config(folder: Path, **rest: Any) -> Path:
    tree = {
        "edge_id": "harbour",
        "state_dir": str(folder / "state"),
        "site": {"name": "Harbour", "rated_va": 630e3},
        "hub": {"mqtt": {"host": "127.0.0.1", "port": free_port(), "insecure": True}, "http": "http://127.0.0.1:1"},
        "metrics": {"port": free_port()},
        "devices": [
            {
                "id": "load01",
                "catalog": "modbus-load-switch",
                "modbus": {"host": "127.0.0.1", "port": free_port(), "timeout_s": 0.2},
                "priority_class": 3,
                "p_max_w": 9000.0,
            }
        ],
        **rest,
    }
    path = folder / "site.yaml"
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return path


@pytest.mark.parametrize("command", [[], ["run"], ["check-config"], ["scan"], ["why"], ["status"]])
def test_every_command_explains_itself(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command, "--help"])
    assert ended.value.code == 0
    assert len(capsys.readouterr().out) > 100


def test_a_good_configuration_passes_and_a_bad_one_is_told_with_every_mistake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_config(tmp_path)
    assert main(["check-config", str(path)]) == 0
    bad = write_config(tmp_path, sight={"name": "x"}, metrics={"port": "many"})
    assert main(["check-config", str(bad)]) != 0
    told = capsys.readouterr().out
    assert "sight" in told
    assert "metrics.port" in told


def test_run_refuses_a_bad_configuration_before_it_touches_anything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = write_config(tmp_path, devices=[])
    assert main(["run", str(bad)]) == 2
    assert "devices" in capsys.readouterr().err
    assert not (tmp_path / "state").exists()


def test_a_state_folder_that_cannot_be_made_is_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert main(["run", str(write_config(tmp_path, state_dir=str(tmp_path / "file" / "state")))]) == 1
    assert f"error: state_dir = '{tmp_path}/file/state': nothing can be kept there: Not a directory" in capsys.readouterr().err


def test_state_of_another_user_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def denied(self: StateFile) -> str | None:
        raise PermissionError(errno.EACCES, "Permission denied", str(self.path))

    (tmp_path / "state").mkdir()
    monkeypatch.setattr(StateFile, "read", denied)
    assert main(["tags", "--config", str(write_config(tmp_path))]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"error: {tmp_path}/state/")
    assert "Permission denied. What an edge keeps belongs to the user it runs as" in told


def test_a_closed_pipe_ends_a_command_quietly(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "tieline_edge", "tags", "--config", str(write_config(tmp_path))]
    try:
        done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, check=False, timeout=60)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")


def test_a_missing_file_is_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["why", "bat1", "--config", str(tmp_path / "none.yaml")]) == 2
    assert "none.yaml" in capsys.readouterr().err


def test_why_reads_the_trace_of_a_stopped_edge(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_config(tmp_path)
    assert main(["why", "load01", "--config", str(path)]) == 2
    assert "no trace yet" in capsys.readouterr().err
    trace = Trace.open(tmp_path / "state" / "trace.sqlite")
    device = DeviceId("load01")
    spec = DeviceSpec(device, Role.LOAD, frozenset({Capability.SWITCH}), 3)
    asked = Asked({device: spec}, (), ArbiterMemory(), SiteFacts({}), datetime(2016, 12, 7, 16, tzinfo=UTC), 180.0)
    trace.decided({device: Decision(device, None)}, asked, asked.at)
    trace.close()
    assert main(["why", "load01", "--config", str(path)]) == 0
    assert main(["why", "load01", "--config", str(path), "--at", "2016-12-07T16:30:00"]) == 0
    assert "left alone" in capsys.readouterr().out
    assert main(["why", "load01", "--config", str(path), "--replay", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["replay"]["same"] is True
    assert "has not run since" in told["away"]
    assert main(["why", "load01", "--config", str(path), "--since", "2016-12-07"]) == 0
    assert "nobody claims it" in capsys.readouterr().out
    assert main(["why", "load01", "--config", str(path), "--until", "now"]) == 2
    assert main(["why", "load01", "--config", str(path), "--at", "noon"]) == 2
    assert main(["why", "LOAD 1", "--config", str(path)]) == 2
    assert main(["why", "load01", "--config", str(path), "--at", "2016-12-07T15:00:00Z"]) == 2


def test_status_says_when_the_edge_is_not_running_or_serves_no_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--config", str(write_config(tmp_path))]) == 3
    assert "Is it running?" in capsys.readouterr().err
    assert main(["status", "--config", str(write_config(tmp_path, metrics={"port": 0}))]) == 2


def test_a_running_edge_is_ready_in_seconds_answers_status_and_ends_on_sigterm(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_config(tmp_path)
    port = yaml.safe_load(path.read_text())["metrics"]["port"]
    command = [sys.executable, "-m", "tieline_edge", "run", str(path)]
    with (tmp_path / "err").open("wb") as err, subprocess.Popen(command, stderr=err, env={**os.environ}) as process:
        try:
            status = wait_for_status(port, process)
            assert status["monitor_only"] is True
            assert main(["status", "--config", str(path)]) == 0
            assert main(["status", "--json", "--config", str(path)]) == 0
            told = capsys.readouterr().out
            assert "MONITOR ONLY" in told
            assert "load01" in told
            process.send_signal(signal.SIGTERM)
            assert process.wait(60.0) == 0
        finally:
            process.kill()
    assert "Traceback" not in (tmp_path / "err").read_text()


def wait_for_status(port: int, process: subprocess.Popen[bytes]) -> dict[str, Any]:
    deadline, pause = time.monotonic() + 20.0, threading.Event()
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/status", timeout=10) as answer:
                status: dict[str, Any] = json.load(answer)
        except OSError:
            pause.wait(0.05)
            continue
        if status["ready_s"] is not None:
            return status
    pytest.fail(f"the agent did not become ready; exit code {process.poll()}")
