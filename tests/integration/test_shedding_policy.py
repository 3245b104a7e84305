"""A shedding policy from the hub's command line to a running edge, which refuses one that could shed a vital load."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
import yaml

from tests.conftest import Broker
from tests.edge.commissioning.site import field_of, load, tree
from tests.edge.drivers.field import ModbusServer
from tests.integration.test_site_config import Hub, command, edge, hub

pytestmark = pytest.mark.broker


async def test_a_policy_is_followed_and_one_that_could_shed_a_listed_load_is_refused_by_name(
    broker: Broker, tmp_path: Path
) -> None:
    path, policy, listed = tmp_path / "site.yaml", tmp_path / "policy.yaml", tmp_path / "vital.json"
    async with (
        ModbusServer() as server,
        hub(tmp_path, broker) as url,
        httpx.AsyncClient(base_url=f"{url}/v1", timeout=30.0) as session,
    ):
        field_of(server)
        made = tree(tmp_path, [{**load(server.port), "priority_class": 0}])
        name = made["devices"][0]["id"]
        sign = ("tieline_cloud", "sign-vital-list", str(tmp_path / "keys"), "harbour")
        assert (await command(*sign, name, "--by", "ada", "--out", str(listed)))[0] == 0
        made["hub"] = {
            "mqtt": {"host": broker.host, "port": broker.port, "insecure": True},
            "http": url,
            "public_keys": [(tmp_path / "keys/hub.pub").read_text().strip()],
        }
        made["shedding"] = {"vital_list": str(listed)}
        path.write_text(yaml.safe_dump(made, sort_keys=False), encoding="utf-8")
        publish = ("tieline_cloud", "publish-policy", "harbour", "--url", url)
        async with edge(path):
            await Hub(session).until("edges/harbour", lambda one: bool(one["reported"]))
            policy.write_text("switching: {effect_s: 8}\n", encoding="utf-8")
            status, told = await command(*publish, str(policy))
            assert (status, "confirmed" in told) == (0, True), told
            policy.write_text(f"classes: {{{name}: 3}}\n", encoding="utf-8")
            status, told = await command(*publish, str(policy))
            assert status == 1
            assert name in told
            assert "never made sheddable" in told
            status, told = await command("tieline_cloud", "release-shedding", "harbour", "--url", url)
            assert status == 1, "a release keeps the refused sections, so it is refused as well"
            shown = (await session.get("edges/harbour/policy")).json()
            assert shown["policy"]["released_at"] is not None
            policy.write_text("voltage: {hold_s: 1}\n", encoding="utf-8")
            status, told = await command(*publish, str(policy))
            assert (status, "longer than tap_changer_s" in told) == (1, True)
        assert (await session.get("edges/nowhere/policy")).status_code == 404
