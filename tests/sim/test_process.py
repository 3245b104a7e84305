"""The simulator as a process: ready in time, commanded by its command line, killed and resumed."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.sim.conftest import SCENARIO_PATH
from tieline_sim.__main__ import main
from tieline_sim.control import call
from tieline_sim.network import BaseNetwork, open_net
from tieline_sim.scenario import load_scenario
from tieline_sim.witness import read_records

COMMAND = [sys.executable, "-m", "tieline_sim"]


class Field:
    """A simulator process."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.process = subprocess.Popen(
            [*COMMAND, "run", str(SCENARIO_PATH), "--state", str(state)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            pytest.fail(f"ended before it was ready: {self.process.communicate()[1].decode()}")
        self.ready = json.loads(line)

    def ctl(self, *words: str) -> dict[str, Any]:
        """Run ``tieline-sim ctl`` in this process's place."""
        return call(self.state, {"command": words[0], **dict(zip(words[1::2], words[2::2], strict=True))})

    def end(self, number: int) -> int:
        """Send a signal and wait."""
        self.process.send_signal(number)
        self.process.communicate(timeout=60)
        return self.process.returncode


def connects(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(2)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_killed_and_started_again_it_goes_on_where_it_was(base: BaseNetwork, tmp_path: Path) -> None:
    field = Field(tmp_path)
    try:
        assert field.ready["ready"] is True
        ports = field.ready["by_name"]
        assert all(connects(port) for port in ports.values())
        field.ctl("start")
        field.ctl("fault", "name", "surge-mill")
        loads = field.ready["substations"]["mill"]["loads"]["port"]
        with socket.create_connection(("127.0.0.1", loads), timeout=60) as line:
            line.sendall(bytes([0, 1, 0, 0, 0, 6, 4, 5, 0, 0, 0, 0]))  # unit 4, coil 0 off
            assert line.recv(12)[7] == 5
        before = field.ctl("status")
        assert before["faults"] == ["surge-mill"]
    finally:
        field.end(signal.SIGKILL)
    numbers = {(row["sub"], row["dev"]): row["n"] for row in read_records(tmp_path / "witness.jsonl")}
    again = Field(tmp_path)
    try:
        assert again.ready["by_name"] == ports, "the same ports"
        after = again.ctl("status")
        assert after["sim_unix_s"] > before["sim_unix_s"], "the same clock, gone on"
        assert after["faults"] == ["surge-mill"]
        assert after["started"] is True
        assert after["substations"]["mill"]["open_units"] == [4], "an accepted command survives the kill"
        assert after["energy_kwh"]["with"] > before["energy_kwh"]["with"]
        for row in read_records(tmp_path / "witness.jsonl"):
            key = row["sub"], row["dev"]
            numbers[key] = max(numbers.get(key, 0), row["n"])
        ids = [row["id"] for row in read_records(tmp_path / "witness.jsonl") if row["kind"] == "sent"]
        assert len(ids) == len(set(ids)), "no reading twice"
        assert again.ctl("stop")["ok"] is True
        again.process.communicate(timeout=60)
        assert again.process.returncode == 0
    finally:
        if again.process.poll() is None:
            again.end(signal.SIGKILL)
    assert not any(connects(port) for port in ports.values())


def test_ctrl_c_ends_it_cleanly_and_the_report_can_be_read_afterwards(
    base: BaseNetwork, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    field = Field(tmp_path)
    bay = field.ready["by_name"]["harbour/opcua"]
    call(field.state, {"command": "hush", "active": True})
    assert not connects(bay)
    call(field.state, {"command": "hush", "active": False})
    assert connects(bay), "a silent field speaks again when it is told to"
    assert field.end(signal.SIGINT) == 0
    assert main(["report", str(tmp_path)]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["restored_pct"] == 100
    assert report["vital_shed_kw"] == 0
    assert report["peak_loading_pct"]["with"] == pytest.approx(report["peak_loading_pct"]["without"], abs=0.01)
    assert main(["ctl", str(tmp_path), "status"]) == 2
    assert "does not answer" in capsys.readouterr().err


def test_history_holds_nothing_after_the_epoch_and_the_published_network(
    base: BaseNetwork, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["history", str(SCENARIO_PATH), "--out", str(tmp_path), "--days", "340"]) == 0
    said = json.loads(capsys.readouterr().out)
    table = pd.read_parquet(tmp_path / "measurements.parquet")
    assert len(table) == said["rows"]
    epoch = load_scenario(SCENARIO_PATH).clock.epoch
    assert table.measured_at.max() == pd.Timestamp(epoch) - pd.Timedelta(minutes=15)
    assert table.measured_at.max() - table.measured_at.min() >= pd.Timedelta(days=330)
    wide = table.pivot_table(index="measured_at", columns="point", values="value", observed=True)
    assert len(table) / wide.size == pytest.approx(0.998, abs=0.003)
    assert (wide["harbour/site/pv_w"].dropna() <= 0).all()
    balance = wide["mill/site/load_w"] + wide["mill/site/pv_w"] - wide["mill/tr1/p_w"]
    assert balance.abs().max() < 0.3
    heads = [name for name in wide.columns if name.startswith("primary/") and name.endswith("/p_w")]
    assert len(heads) == 14
    net = open_net((tmp_path / "network.json").read_text())
    shipped = open_net(base.net_json)
    assert (net.line.r_ohm_per_km == shipped.line.r_ohm_per_km).all(), "nominal impedances"
    assert set(net.trafo.name) >= {"harbour/tr1", "mill/tr1", "market/tr1"}
    assert set(net.storage.name) == {
        f"{name}/{device}" for name in ("harbour", "mill", "market") for device in ("bat1", "bat2")
    }
    assert sum(name.startswith("harbour/") for name in net.load.name) == 34
    prices = pd.read_csv(tmp_path / "prices.csv")
    assert list(prices.columns) == ["start", "price_eur_per_mwh"]
    assert len(prices) == 48
    assert prices.start[0] == "2016-12-13T23:00:00Z"


def test_more_history_than_the_year_holds_is_refused(
    base: BaseNetwork, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["history", str(SCENARIO_PATH), "--out", str(tmp_path), "--days", "400"]) == 2
    assert "days" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--brokers", "moon=127.0.0.1:1"], "moon is no substation"),
        (["--brokers", "127.0.0.1"], "not HOST:PORT"),
        (["--link", "moon=127.0.0.1:1"], "'moon' is none of"),
    ],
)
def test_wrong_addresses_are_refused_in_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert main(["run", str(SCENARIO_PATH), "--state", str(tmp_path), *words]) == 2
    assert message in capsys.readouterr().err
