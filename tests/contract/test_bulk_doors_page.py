"""The page of the bulk doors is kept true: its example is run against a hub process that has a mirror."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import httpx
import pytest
import yaml

from tests.cloud.mirror.conftest import VictoriaMetrics, victoria_metrics
from tests.cloud.test_main import command_line, serving, wait_until, write_config
from tests.conftest import Broker
from tieline_cloud.__main__ import main
from tieline_cloud.settings import HubSettings

PAGE = Path(__file__).parents[2] / "shared" / "docs" / "bulk-doors.md"

__all__ = ["victoria_metrics"]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.mark.broker
def test_the_example_of_the_page_stores_once_and_reaches_the_mirror(
    tmp_path: Path, broker: Broker, victoria_metrics: VictoriaMetrics
) -> None:
    assert main(["keygen", str(tmp_path / "keys")]) == 0
    token = tmp_path / "keys" / "mdm.token"
    token.write_text("0123456789abcdef" * 2 + "\n", encoding="ascii")
    token.chmod(0o600)
    (sources,) = (tree for tree in map(yaml.safe_load, blocks("yaml")) if "sources" in tree)
    mirror = {"name": "grafana", "url": victoria_metrics.url, "poll_s": 0.1}
    config = write_config(tmp_path, broker.port, **sources, mirrors=[mirror])
    (example,) = blocks("sh")
    with serving(config) as (_, url), httpx.Client(base_url=url) as http:

        def run() -> dict[str, object]:
            shell = ["bash", "-euc", example]
            done = subprocess.run(
                shell, cwd=tmp_path, env={"HUB": url, "PATH": "/usr/bin:/bin"}, capture_output=True, check=False
            )
            assert done.returncode == 0, done.stdout.decode()
            answer: dict[str, object] = json.loads(done.stdout)
            return answer

        first, again = run(), run()
        assert first == again
        assert first["readings"] == 2
        last = http.get("/v1/readings/last", params={"points": "mdm/meter-17/p_w"}).json()
        assert [row["value"] for row in last] == [420.5]
        selector = '{device="meter-17"}'
        assert victoria_metrics.until_count(2, selector=selector) == 2
        assert http.get("/v1/health").json()["parts"]["mirror grafana"]["ok"] is True
        lines = 'tieline_hub_mirror_lines_total{mirror="grafana"} '
        before = float(http.get("/metrics").text.split(lines)[1].split()[0])
        command_line("mirror", "rebuild", "grafana", "--from", "2026-01-01T00:00Z", "--url", url)
        wait_until(lambda: float(http.get("/metrics").text.split(lines)[1].split()[0]) > before)
        assert victoria_metrics.until_count(2, selector=selector) == 2
        victoria_metrics.kill()
        wait_until(lambda: http.get("/v1/health").json()["parts"]["mirror grafana"]["ok"] is False)
        assert run() == first


def test_every_setting_of_the_page_is_one() -> None:
    for text in blocks("yaml"):
        tree = {"data_dir": "d", "signing_key": "k", "mqtt": {"host": "127.0.0.1"}, **yaml.safe_load(text)}
        HubSettings.model_validate(tree)
