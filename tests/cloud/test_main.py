"""The command line, and the hub as a process with a broker and a scripted edge."""

from __future__ import annotations

import json
import math
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, cast

import httpx
import paho.mqtt.client as mqtt
import pyarrow.parquet as pq
import pytest
import yaml
from paho.mqtt.enums import CallbackAPIVersion
from rich.console import Console

from tests.conftest import Broker
from tieline_cloud.__main__ import main
from tieline_cloud.client import HubClient, HubRefusedError
from tieline_cloud.commands.parser import build_parser
from tieline_core import topics
from tieline_core.ids import EdgeId
from tieline_core.messages.desired import Desired, LadderStep, Reported
from tieline_core.messages.plan import Plan
from tieline_core.messages.telemetry import Hello, HelloAnswer, Stream, StreamState
from tieline_core.signing import EnvelopeType, key_id, open_envelope

VILLAGE = Path(__file__).parent / "gridmodel" / "village.json"
HARBOUR = EdgeId("harbour")
COMMANDS = (
    "serve",
    "keygen",
    "check-config",
    "import",
    "network",
    "prices",
    "train",
    "plan",
    "export",
    "jobs",
    "quality",
    "status",
    "mirror",
)


def write_config(folder: Path, port: int, **changes: Any) -> Path:
    battery = {"p_charge_max_w": 60000, "p_discharge_max_w": 60000, "energy_wh": 150000}
    tree: dict[str, Any] = {
        "data_dir": "data",
        "signing_key": "keys/hub.key",
        "listen": {"port": 0},
        "mqtt": {"host": "127.0.0.1", "port": port, "insecure": True},
        "grid": {"file": str(VILLAGE), "estimate_every_s": 0.5},
        "edges": {"harbour": {"rated_va": 630000, "batteries": {"bat1": battery}}},
    }
    path = folder / "hub.yaml"
    path.write_text(yaml.safe_dump(tree | changes), encoding="utf-8")
    return path


def write_history(path: Path, now: datetime, days: int = 45) -> Path:
    start = now.replace(minute=0, second=0, microsecond=0) - timedelta(days=days)
    lines = ["point,measured_at,value"]
    for number in range(int((now - start) / timedelta(minutes=15))):
        at = start + timedelta(minutes=15 * number)
        value = 300e3 + 150e3 * math.sin((at.hour + at.minute / 60) / 24 * 2 * math.pi)
        lines.append(f"harbour/site/load_w,{at.isoformat()},{value:.1f}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@contextmanager
def serving(config: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A hub process that has said it is ready, and its address."""
    command = [sys.executable, "-m", "tieline_cloud", "serve", str(config), "--log-level", "WARNING"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                pytest.fail(f"the hub did not start: {process.stderr.read() if process.stderr else ''}")
            yield process, json.loads(line)["url"]
        finally:
            process.kill()
            process.communicate()


@contextmanager
def edge_client(broker: Broker) -> Iterator[tuple[mqtt.Client, Callable[[str], tuple[bytes, bool]]]]:
    """A scripted edge: its connection, and a way to wait for the next message on a topic."""
    got: dict[str, queue.Queue[tuple[bytes, bool]]] = {
        topic: queue.Queue() for topic in (topics.answer(HARBOUR), topics.desired(HARBOUR), topics.command(HARBOUR))
    }
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="harbour-durable")
    client.on_message = lambda _client, _data, message: got[message.topic].put((bytes(message.payload), message.retain))
    client.connect(broker.host, broker.port)
    client.loop_start()
    for topic in got:
        client.subscribe(topic, qos=1)
    try:
        yield client, lambda topic: got[topic].get(timeout=60)
    finally:
        client.disconnect()
        client.loop_stop()


def hello(nonce: str) -> bytes:
    streams = {stream: StreamState(next_seq=1, oldest_seq=1, acked_seq=0) for stream in Stream}
    message = Hello(
        edge_id=HARBOUR,
        epoch=0,
        boot_id="boot-1",
        nonce=nonce,
        streams=streams,
        software="0.1.0",
        at=datetime.now(UTC),  # noqa: TID251 (a real process runs on wall time)
    )
    return message.to_bytes()


def command_line(*arguments: object) -> str:
    """Run a command that must succeed; returns what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "tieline_cloud", *map(str, arguments)], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.broker
def test_from_an_empty_folder_to_a_plan_the_edge_confirms_across_a_kill(tmp_path: Path, broker: Broker) -> None:
    now = datetime.now(UTC)  # noqa: TID251 (a real process runs on wall time)
    assert main(["keygen", str(tmp_path / "keys")]) == 0
    public = bytes.fromhex((tmp_path / "keys" / "hub.pub").read_text(encoding="ascii").strip())
    config = write_config(tmp_path, broker.port)
    history = write_history(tmp_path / "history.csv", now)
    offline = json.loads(command_line("import", history, "--config", config, "--json"))
    assert offline["new"] == offline["rows"] > 4000
    with edge_client(broker) as (edge, expect):
        with serving(config) as (process, url):
            assert json.loads(command_line("import", history, "--url", url, "--json"))["new"] == 0
            held = main(
                [
                    "export",
                    "--config",
                    str(config),
                    "--from",
                    "2016-01-01T00:00Z",
                    "--to",
                    "2016-01-02T00:00Z",
                    "--out",
                    "x.parquet",
                ]
            )
            assert held == 1
            planned = json.loads(command_line("plan", "--url", url, "--json"))
            assert list(planned["plans"]) == ["harbour"]
            process.send_signal(signal.SIGKILL)
        with serving(config) as (process, url), httpx.Client(base_url=url) as http:
            edge.publish(topics.hello(HARBOUR), hello("nonce-of-this-session"), qos=1)
            answer = HelloAnswer.from_bytes(expect(topics.answer(HARBOUR))[0], "answer")
            assert answer.epoch == 1
            desired = confirmed_desired(expect, public, now)
            content = http.get(topics.artifact_path(cast("str", desired.plan))).content
            opened = open_envelope(content, kind=EnvelopeType.PLAN, edge=HARBOUR, trusted={key_id(public): public}, now=now)
            plan = Plan.from_bytes(opened.payload, "plan")
            assert plan.plan_id == planned["plans"]["harbour"]
            report(edge, desired, plan)
            wait_until(lambda: http.get("/v1/plans/current", params={"edge": "harbour"}).json()["state"] == "confirmed")
            assert "runs what it should" in command_line("status", "--url", url)
            assert command_line("quality", "--rule", "spike", "--url", url) == "nothing was found\n"
            assert json.loads(command_line("quality", "--misdated", "--json", "--url", url)) == []
            wait_until(lambda: http.get("/v1/grids/grid/state").status_code == 200)
            assert 'tieline_hub_edges{lane="durable"} 1.0' in http.get("/metrics").text
            assert 'tieline_hub_quality_findings_total{rule="spike"} 0.0' in http.get("/metrics").text
            out = tmp_path / "out.parquet"
            span = ("--from", (now - timedelta(days=2)).isoformat(), "--to", now.isoformat())
            assert (
                json.loads(command_line("export", "--url", url, "--json", *span, "--out", out))["rows"]
                == pq.read_table(out).num_rows
                > 0
            )
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0


def confirmed_desired(expect: Callable[[str], tuple[bytes, bool]], public: bytes, now: datetime) -> Desired:
    """The desired state that carries this session's nonce; earlier ones may come before."""
    for _ in range(5):
        payload, _ = expect(topics.desired(HARBOUR))
        opened = open_envelope(payload, kind=EnvelopeType.DESIRED, edge=HARBOUR, trusted={key_id(public): public}, now=now)
        if opened.header.nonce == "nonce-of-this-session":
            return Desired.from_bytes(opened.payload, "desired")
    pytest.fail("no desired state carried the nonce of this session")


def report(edge: mqtt.Client, desired: Desired, plan: Plan) -> None:
    reported = Reported(
        edge_id=HARBOUR,
        at=datetime.now(UTC),  # noqa: TID251 (a real process runs on wall time)
        software="0.1.0",
        boot_id="boot-1",
        monitor_only=False,
        ladder=LadderStep.CURRENT_PLAN,
        ladder_reason="",
        plan_id=plan.plan_id,
        plan_sha256=desired.plan,
    )
    edge.publish(topics.reported(HARBOUR), reported.to_bytes(), qos=1, retain=True)


def wait_until(true: Callable[[], bool]) -> None:
    wake = threading.Event()
    for _ in range(200):
        if true():
            return
        wake.wait(0.1)
    pytest.fail("it did not become true within 20 s")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_teaches_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    assert f"tieline-cloud {command}" in capsys.readouterr().out


def test_a_command_without_a_hub_says_how_to_start_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--url", "http://127.0.0.1:9"]) == 1
    assert "start one with 'tieline-cloud serve CONFIG'" in capsys.readouterr().err


def test_check_config_names_a_missing_key_and_a_wrong_value(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write_config(tmp_path, 1883)
    assert main(["check-config", str(config)]) == 1
    assert "tieline-cloud keygen" in capsys.readouterr().err
    assert main(["keygen", str(tmp_path / "keys")]) == 0
    assert main(["check-config", str(config)]) == 0
    assert "in order; 1 edge with 1 battery" in capsys.readouterr().out
    assert main(["check-config", str(write_config(tmp_path, 1883, listen={"port": -1}))]) == 1
    assert "listen.port = -1" in capsys.readouterr().err
    assert main(["check-config", str(write_config(tmp_path, 1883, prices="absent.csv"))]) == 1
    assert "there is no such file" in capsys.readouterr().err
    broker = {"host": "localhost", "username": "hub", "password_file": "absent"}
    assert main(["check-config", str(write_config(tmp_path, 1883, mqtt=broker))]) == 1
    assert "mqtt.password_file = 'absent': cannot be read: No such file or directory" in capsys.readouterr().err
    (tmp_path / "no.crt").write_text("no certificate", encoding="utf-8")
    assert main(["check-config", str(write_config(tmp_path, 1883, mqtt={"host": "localhost", "ca_file": "no.crt"}))]) == 1
    assert "mqtt.ca_file = 'no.crt': holds no certificate in PEM form" in capsys.readouterr().err


def test_an_instant_needs_an_offset() -> None:
    with pytest.raises(SystemExit):
        build_parser().parse_args(["export", "--from", "2016-12-07", "--to", "2016-12-08", "--out", "x"])


def test_a_taken_address_is_said_in_one_sentence(tmp_path: Path, broker: Broker, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["keygen", str(tmp_path / "keys")]) == 0
    config = write_config(tmp_path, broker.port, listen={"port": broker.port}, grid={})
    done = subprocess.run(
        [sys.executable, "-m", "tieline_cloud", "serve", str(config)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("tieline-cloud: listen: port = ")
    assert "Traceback" not in done.stderr


def test_what_cannot_be_written_or_read_is_said_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    assert main(["keygen", str(blocked / "keys")]) == 1
    assert "hub.key: cannot be made: Not a directory" in capsys.readouterr().err
    assert main(["keygen", str(tmp_path / "keys")]) == 0
    assert main(["keygen", str(tmp_path / "keys")]) == 1
    assert "there is a key already" in capsys.readouterr().err
    listing = ["sign-vital-list", str(tmp_path / "keys"), "harbour", "load10", "load10", "--by", "duty", "--out"]
    assert main([*listing, str(blocked / "vital.json")]) == 1
    assert "vital.json: cannot be written: Not a directory" in capsys.readouterr().err
    assert main([*listing, str(tmp_path / "vital.json")]) == 0
    assert "1 vital device of harbour" in capsys.readouterr().out
    assert main(["publish-policy", "harbour", str(tmp_path / "absent.yaml")]) == 1
    assert "absent.yaml: cannot be read: No such file or directory\n" in capsys.readouterr().err
    assert main(["publish-policy", "harbour", str(blocked)]) == 1
    assert "file: is empty" in capsys.readouterr().err


@pytest.mark.parametrize("url", ["127.0.0.1:8600", "http://127.0.0.1:port", "", "ftp://127.0.0.1"])
def test_what_is_no_address_is_refused_in_words(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--url", url]) == 1
    assert f"--url = {url!r}: an address like http://127.0.0.1:8600 is expected" in capsys.readouterr().err


@pytest.mark.parametrize("status", [200, 404])
def test_an_answer_of_somebody_else_is_not_taken_for_the_hubs(status: int) -> None:
    page = httpx.MockTransport(lambda _request: httpx.Response(status, text="<html>"))
    with HubClient("http://127.0.0.1:9464", Console(), page) as client, pytest.raises(HubRefusedError, match="is no hub"):
        client.get("health")


def test_a_refused_release_says_what_to_publish_first(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = {"edge_id": "harbour", "sha256": "ab" * 32, "state": "refused", "reason": "classes = 'load99': unknown"}
    page = httpx.MockTransport(lambda _request: httpx.Response(200, json=answer))
    monkeypatch.setattr("tieline_cloud.client.HubClient", partial(HubClient, transport=page))
    assert main(["release-shedding", "harbour"]) == 1
    assert "publish one that the edge takes, then release" in capsys.readouterr().out
