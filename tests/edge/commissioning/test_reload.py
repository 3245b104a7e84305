"""Another configuration while the edge runs: only the difference is touched, what cannot be taken changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.edge.commissioning.publishing import EDGE, NOW, Running, Site, edge
from tests.edge.commissioning.site import BAT_UNIT, battery, field_of, load, written
from tests.edge.drivers.field import ModbusServer
from tieline_core.errors import TransientError
from tieline_core.ids import DeviceId
from tieline_core.messages.command import Action, Command
from tieline_core.messages.policy import Policy
from tieline_edge.agent import Agent
from tieline_edge.commissioning.local_edge import ask
from tieline_edge.commissioning.reload import Difference, SiteTaker
from tieline_edge.commissioning.site_in_force import site_in_force
from tieline_edge.control.state_file import StateFile
from tieline_edge.control.tags import Hold, new_tag
from tieline_edge.drivers.capabilities import DevicePermanentError, HoldPower
from tieline_edge.drivers.context import DriverContext
from tieline_edge.sampling import DeviceHandle, open_devices
from tieline_edge.settings import EdgeSettings
from tieline_edge.sync.sinks import OfferRefusedError

BAT, BAT2, LOAD = map(DeviceId, ("bat1", "bat2", "load01"))


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with ModbusServer() as old, ModbusServer() as new:
        field_of(old)
        field_of(new)
        yield Site(tmp_path, old, new)


async def test_a_battery_joins_and_the_others_keep_their_connection(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    async with edge(site) as running:
        parts, before = running.parts, dict(running.parts.handles)
        taken = site.publish(site.with_devices(battery(site.old.port), load(site.old.port), battery(site.new.port, "bat2")))
        await running.taker.offer(*taken)
        await running.online(BAT2)
        assert site.old.connections == 1
        assert {device: parts.handles[device] for device in before} == before
        assert BAT2 in parts.cycle.specs
        assert parts.plans.specs is parts.commands.specs
        assert parts.site.config_sha256 == taken[1]
        assert f"configuration {taken[1][:16]}, published by" in caplog.text
        assert (await parts.handles[BAT2].apply(HoldPower(5e3, 180.0))).confirmed
        assert written(site.new)
        assert written(site.old) == []


async def test_what_was_taken_runs_after_a_restart_and_the_same_again_touches_nothing(site: Site) -> None:
    made = site.with_devices(battery(site.old.port), battery(site.new.port, "bat2"))
    first = site.publish(made)
    async with edge(site) as running:
        await running.taker.offer(*first)
        assert list(running.parts.handles) == [BAT, BAT2]
    found = site_in_force(site.path)
    assert found.config_sha256 == first[1]
    async with edge(site, found) as running:
        assert list(running.parts.handles) == [BAT, BAT2]
        before = (dict(running.parts.handles), site.old.connections, site.new.connections)
        again = site.publish(made)
        await running.taker.offer(*again)
        assert (dict(running.parts.handles), site.old.connections, site.new.connections) == before
        assert running.parts.site.config_sha256 == again[1]
    assert site_in_force(site.path).config_sha256 == again[1]


async def test_a_device_that_leaves_is_handed_back_first_and_its_values_go_with_it(site: Site) -> None:
    async with edge(site) as running:
        parts = running.parts
        await _hold(running, site.old, 20e3)
        await running.taker.offer(*site.publish(site.with_devices(load(site.old.port))))
        assert site.old.holding[BAT_UNIT, _wset_ena(site.old)] == 0, "the release was written while the connection stood"
        assert list(parts.handles) == [LOAD]
        assert BAT not in parts.cycle.specs
        assert BAT not in parts.executor._lines
        assert all(point.device != BAT for point in parts.image.freeze(NOW).readings)


async def _hold(running: Running, server: ModbusServer, power_w: float) -> None:
    """Have an operator hold a power, and wait until the battery was told."""
    parts = running.parts
    now = parts.clock.now()
    command = Command(
        command_id="hold-0001",
        edge_id=EDGE,
        device_id=BAT,
        action=Action.SETPOINT_W,
        value_w=power_w,
        expires_at=now + timedelta(hours=1),
        issued_by="tests",
        issued_at=now,
        reason="test",
    )
    await parts.cycle.take_command(command)
    async with asyncio.timeout(10.0):
        while parts.executor.busy or server.holding[BAT_UNIT, _wset_ena(server)] != 1:  # noqa: ASYNC110 (no event)
            await asyncio.sleep(0.01)


def _wset_ena(server: ModbusServer) -> int:
    at = next(address for (unit, address), word in server.holding.items() if unit == BAT_UNIT and word == 704)
    return at + 22


@pytest.mark.parametrize(
    ("change", "check", "named"),
    [
        ({"edge_id": "other"}, "edge", "other"),
        ({"state_dir": "/elsewhere"}, "fixed", "state_dir"),
        ({"metrics": {"port": 1}}, "fixed", "metrics.port"),
        ({"clock": {"source": "file", "path": "/c"}}, "fixed", "clock.source"),
        ({"dry_run": True}, "fixed", "dry_run"),
        ({"site": {"name": "Harbour", "rated_va": 630e3, "time_zone": "Europe/Berlin"}}, "fixed", "site.time_zone"),
        ({"sight": 1}, "content", "sight"),
        ({"devices": []}, "content", "devices"),
        ({"sight": 1, "devises": 1}, "content", "1 more: tieline-edge check-config names all"),
    ],
)
async def test_what_cannot_change_while_it_runs_is_refused_by_name(
    site: Site, change: dict[str, Any], check: str, named: str
) -> None:
    async with edge(site) as running:
        before = dict(running.parts.handles)
        with pytest.raises(OfferRefusedError, match=named) as refused:
            await running.taker.offer(*site.publish({**site.tree, **change}))
        assert refused.value.check == check
        assert running.parts.handles == before
        assert running.parts.site.config_sha256 is None
    assert site_in_force(site.path).config_sha256 is None


async def test_hub_keys_cannot_be_changed_by_the_hub(site: Site) -> None:
    hub = {**site.tree["hub"], "public_keys": ["ab" * 32]}
    async with edge(site) as running:
        with pytest.raises(OfferRefusedError, match=r"hub\.public_keys"):
            await running.taker.offer(*site.publish({**site.tree, "hub": hub}))


async def test_no_configuration_of_the_hub_makes_a_vital_load_sheddable_also_not_in_two_steps(site: Site) -> None:
    vital = load(site.old.port, priority_class=0)
    site.tree = site.with_devices(battery(site.old.port), vital)
    site.write(site.tree)
    sheddable = site.with_devices(battery(site.old.port), load(site.old.port, priority_class=4))
    async with edge(site) as running:
        with pytest.raises(OfferRefusedError, match="load01: vital"):
            await running.taker.offer(*site.publish(sheddable))
        await running.taker.offer(*site.publish(site.with_devices(battery(site.old.port))))
        with pytest.raises(OfferRefusedError, match="load01: vital"):
            await running.taker.offer(*site.publish(sheddable))
        renamed = site.with_devices(battery(site.old.port), load(site.old.port, "load99"))
        with pytest.raises(OfferRefusedError, match="load99: vital"):
            await running.taker.offer(*site.publish(renamed))
    async with edge(site) as running:
        with pytest.raises(OfferRefusedError, match="load01: vital"):
            await running.taker.offer(*site.publish(sheddable))


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST.", "127.1", "0x7f.0.0.1", "2130706433", "::ffff:127.0.0.1"])
async def test_another_spelling_of_its_address_makes_no_vital_load_sheddable(site: Site, host: str) -> None:
    vital = load(site.old.port, priority_class=0)
    site.tree = site.with_devices(battery(site.old.port), vital)
    site.write(site.tree)
    twin = load(site.old.port, "load99")
    twin["modbus"]["host"] = host
    async with edge(site) as running:
        with pytest.raises(OfferRefusedError, match="load99") as refused:
            await running.taker.offer(*site.publish(site.with_devices(battery(site.old.port), vital, twin)))
        assert refused.value.check == "vital"


async def test_a_vital_load_is_not_driven_as_a_battery_of_the_same_box(site: Site) -> None:
    vital = load(site.old.port, priority_class=0)
    site.tree = site.with_devices(battery(site.old.port), vital)
    site.write(site.tree)
    posing = battery(site.old.port, "bat2")
    posing["modbus"] |= {"unit": vital["modbus"]["unit"], "instance": 2}
    same_id = {**posing, "id": "load01"}
    async with edge(site) as running:
        for devices, rest in (
            ((battery(site.old.port), vital, posing), {}),
            ((battery(site.old.port), vital, posing), {"shedding": {"vital": ["load01", "bat2"]}}),
            ((battery(site.old.port), same_id), {"shedding": {"vital": ["load01"]}}),
        ):
            with pytest.raises(OfferRefusedError, match="vital"):
                await running.taker.offer(*site.publish(site.with_devices(*devices, **rest)))
        changed = {**vital, "poll_s": 0.2}
        await running.taker.offer(*site.publish(site.with_devices(battery(site.old.port), changed)))


async def test_another_id_or_spelling_does_not_reach_round_a_tag(site: Site) -> None:
    async with edge(site) as running:
        running.parts.tags.hang(new_tag("bat1", "the crew", "work", Hold.AS_IS, NOW))
        twin = battery(site.old.port, "bat2")
        twin["modbus"]["host"] = "localhost"
        with pytest.raises(OfferRefusedError, match="bat2") as refused:
            await running.taker.offer(*site.publish(site.with_devices(*site.tree["devices"], twin)))
        assert refused.value.check == "tagged"
        assert list(running.parts.handles) == [BAT, LOAD]


async def test_a_tagged_device_and_one_that_the_policy_names_stay(site: Site) -> None:
    async with edge(site) as running:
        parts = running.parts
        parts.tags.hang(new_tag("load01", "the crew", "work", Hold.AS_IS, NOW))
        with pytest.raises(OfferRefusedError, match="tagged"):
            await running.taker.offer(*site.publish(site.with_devices(battery(site.old.port))))
        parts.tags.remove(LOAD, "the crew")
        parts.cycle.take_policy(Policy(policy_id="policy-1", edge_id=EDGE, classes={LOAD: 2}))
        with pytest.raises(OfferRefusedError, match="load01") as refused:
            await running.taker.offer(*site.publish(site.with_devices(battery(site.old.port))))
        assert refused.value.check == "rules"
        assert list(parts.handles) == [BAT, LOAD]


async def test_a_disk_that_refuses_leaves_the_old_in_force_and_it_is_tried_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = site.publish(site.with_devices(battery(site.old.port)))
    async with edge(site) as running:
        with monkeypatch.context() as patch:
            patch.setattr(StateFile, "write", _full)
            with pytest.raises(TransientError, match="cannot be kept"):
                await running.taker.offer(*taken)
        assert list(running.parts.handles) == [BAT, LOAD]
        await running.taker.offer(*taken)
        assert list(running.parts.handles) == [BAT]


def _full(_self: StateFile, _text: str) -> None:
    raise OSError(28, "No space left on device")


async def test_whoever_edits_the_file_at_the_site_speaks_last_until_the_hub_publishes_again(site: Site) -> None:
    async with edge(site) as running:
        await running.taker.offer(*(first := site.publish(site.with_devices(battery(site.old.port)))))
    site.path.write_text(site.path.read_text() + "# looked at the site\n", encoding="utf-8")
    found = site_in_force(site.path)
    assert found.config_sha256 is None
    assert found.overruled is not None
    assert found.overruled[0] == first[1]
    assert len(found.settings.devices) == 2
    async with edge(site, found) as running:
        await running.taker.offer(*(second := site.publish(site.with_devices(battery(site.old.port)))))
    assert site_in_force(site.path).config_sha256 == second[1]


async def test_a_stored_configuration_that_was_tampered_with_does_not_run(site: Site) -> None:
    async with edge(site) as running:
        await running.taker.offer(*site.publish(site.with_devices(battery(site.old.port))))
        stored = running.parts.paths.site
    text = stored.read_text()
    for bad in (text.replace('"envelope":"{', '"envelope":"{ '), "{", text.replace("protected", "Protected")):
        stored.write_text(bad, encoding="utf-8")
        found = site_in_force(site.path)
        assert found.config_sha256 is None
        assert found.overruled is not None
        assert len(found.settings.devices) == 2


async def test_a_power_cut_between_keeping_and_doing_leaves_the_new_one_for_the_next_start(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def cut(*_rest: object) -> None:
        raise ConnectionAbortedError("power cut")

    monkeypatch.setattr(SiteTaker, "_carry_out", cut)
    taken = site.publish(site.with_devices(battery(site.old.port)))
    async with edge(site) as running:
        with pytest.raises(ConnectionAbortedError):
            await running.taker.offer(*taken)
    found = site_in_force(site.path)
    assert found.config_sha256 == taken[1]
    async with edge(site, found) as running:
        assert list(running.parts.handles) == [BAT]


async def test_an_unforeseen_error_refuses_the_configuration_and_nothing_else(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def defect(*_rest: object) -> None:
        raise ZeroDivisionError("a driver's defect")

    async with edge(site) as running:
        with monkeypatch.context() as patch:
            patch.setattr("tieline_edge.commissioning.reload.open_devices", defect)
            with pytest.raises(OfferRefusedError, match="a driver's defect") as refused:
                await running.taker.offer(*site.publish(site.with_devices(battery(site.old.port))))
        assert refused.value.check == "defect"
        assert list(running.parts.handles) == [BAT, LOAD]
    assert site_in_force(site.path).config_sha256 is None


async def test_a_configuration_that_cannot_be_started_gives_way_to_the_file_at_the_site(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with edge(site) as running:
        await running.taker.offer(*(taken := site.publish(site.with_devices(battery(site.old.port)))))
    real = open_devices

    def fails(settings: EdgeSettings, context: DriverContext) -> dict[DeviceId, DeviceHandle]:
        if len(settings.devices) == 1:
            raise DevicePermanentError("bat1: its certificate is gone")
        return real(settings, context)

    monkeypatch.setattr("tieline_edge.bootstrap.open_devices", fails)
    agent = Agent(site_in_force(site.path))
    async with asyncio.TaskGroup() as group:
        group.create_task(agent.run())
        async with asyncio.timeout(60.0):
            await agent.ready.wait()
        status = await asyncio.to_thread(ask, agent._settings, "/status")
        assert sorted(status["devices"]) == [BAT, LOAD]
        assert status["config_sha256"] is None
        assert agent._site.overruled is not None
        assert agent._site.overruled[0] == taken[1]
        assert "certificate is gone" in agent._site.overruled[1]
        agent.stop()


def test_the_difference_is_told_in_words(site: Site) -> None:
    settings = site_in_force(site.path).settings
    other = settings.model_copy(
        update={"devices": tuple(one.model_copy(update={"poll_s": 2.0}) for one in settings.devices if one.id == BAT)}
    )
    assert str(Difference.between(settings, other)) == "removed load01; changed bat1"
    assert str(Difference.between(settings, settings)) == "no device changes"
