"""The MQTT link against a real broker: answers, loss, wills, versions, and no thread left behind."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.ports import free_port
from tests.conftest import Broker
from tests.tls_front import make_authority, tls_front
from tieline_edge.settings import MqttEndpoint
from tieline_edge.sync.transport import (
    Backoff,
    ConnectRefusedError,
    LinkLostError,
    LinkTimes,
    Message,
    MqttLink,
    MqttSession,
    PublishRefusedError,
    Will,
)

FAST = LinkTimes(connect_s=2.0, answer_s=2.0, keepalive_s=5, backoff_s=0.02, backoff_cap_s=0.1)


def _endpoint(port: int) -> MqttEndpoint:
    return MqttEndpoint(host="127.0.0.1", port=port, insecure=True)


def _link(broker: Broker, name: str, inbox: int = 1000) -> MqttLink:
    return MqttLink(_endpoint(broker.port), name, FAST, inbox)


@pytest.fixture(autouse=True)
def no_network_thread_is_left() -> Iterator[None]:
    yield
    assert [thread.name for thread in threading.enumerate() if "paho" in thread.name] == []


@pytest.mark.broker
async def test_a_message_arrives_once_and_its_publish_returns_after_the_puback(broker: Broker) -> None:
    async with _link(broker, "a").connect() as sender, _link(broker, "b").connect() as receiver:
        assert sender.protocol == "5"
        await receiver.subscribe("t/#")
        await sender.publish("t/1", b"x")
        assert await receiver.receive() == Message("t/1", b"x", 1, False)


@pytest.mark.broker
async def test_a_killed_broker_ends_receive_and_publish_with_a_lost_link(broker: Broker) -> None:
    async with _link(broker, "a").connect() as session:
        await session.subscribe("t")
        receiving = asyncio.create_task(session.receive())
        await asyncio.sleep(0)
        broker.kill()
        with pytest.raises(LinkLostError):
            await receiving
        with pytest.raises(LinkLostError):
            await session.publish("t", b"x")
        assert not session.alive


@pytest.mark.broker
async def test_the_broker_speaks_the_will_of_a_cut_connection_and_in_mqtt_5_of_a_clean_one_too(broker: Broker) -> None:
    async with _link(broker, "w").connect() as watcher:
        await watcher.subscribe("will/#")
        async with _link(broker, "a").connect(lambda: Will("will/cut", b"gone")) as session:
            session.cut()
        assert await watcher.receive() == Message("will/cut", b"gone", 1, False)
        async with _link(broker, "b").connect(lambda: Will("will/clean", b"goodbye")) as session:
            assert session.protocol == "5"
        assert await watcher.receive() == Message("will/clean", b"goodbye", 1, False)


async def test_no_will_is_asked_for_while_the_broker_cannot_be_reached() -> None:
    asked: list[str] = []
    with pytest.raises(LinkLostError):
        async with MqttLink(_endpoint(free_port()), "a", FAST).connect(lambda: asked.append("will")):
            pass
    assert asked == []


@pytest.mark.broker
async def test_run_serves_again_after_the_broker_has_come_back(broker: Broker, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "tieline_edge.sync.transport")
    served: asyncio.Queue[MqttSession] = asyncio.Queue()

    async def serve(session: MqttSession) -> None:
        served.put_nowait(session)
        async with asyncio.TaskGroup() as group:
            group.create_task(session.receive())
            group.create_task(session.receive())

    link = _link(broker, "a")
    running = asyncio.create_task(link.run(serve))
    first = await served.get()
    broker.kill()
    await asyncio.to_thread(broker.start)
    async with asyncio.timeout(60):
        second = await served.get()
    assert not first.alive
    assert second.alive
    assert link.counters.connects == 2
    assert "connected to" in caplog.text
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    assert running.cancelled()
    assert not second.alive


async def test_a_broker_that_is_away_is_told_once_not_at_every_attempt(caplog: pytest.LogCaptureFixture) -> None:
    async def serve(_session: MqttSession) -> None:
        raise AssertionError("nobody is there")

    caplog.set_level(logging.INFO, "tieline_edge.sync.transport")
    link = MqttLink(_endpoint(free_port()), "a", replace(FAST, backoff_s=0.001, backoff_cap_s=0.002))
    running = asyncio.create_task(link.run(serve))
    async with asyncio.timeout(30):
        while link.counters.losses < 5:  # noqa: ASYNC110 (a counter of the link's own)
            await asyncio.sleep(0.01)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    assert [record.getMessage() for record in caplog.records if "cannot be reached" in record.getMessage()] == [
        caplog.records[0].getMessage()
    ]


@pytest.mark.broker
async def test_an_error_of_the_server_is_not_taken_for_a_lost_link(broker: Broker) -> None:
    async def serve(_session: MqttSession) -> None:
        raise ValueError("a mistake")

    with pytest.raises(ValueError, match="a mistake"):
        await _link(broker, "a").run(serve)


async def test_an_unreachable_broker_is_named() -> None:
    port = free_port()
    with pytest.raises(LinkLostError, match=rf"127\.0\.0\.1:{port} cannot be reached"):
        async with MqttLink(_endpoint(port), "a", FAST).connect():
            pass


async def test_a_silent_peer_costs_one_time_out_and_cancelling_is_clean() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        times = LinkTimes(connect_s=0.5, answer_s=0.2)
        with pytest.raises(LinkLostError, match="did not answer CONNECT"):
            async with MqttLink(_endpoint(port), "a", times).connect():
                pass
        connecting = asyncio.create_task(MqttLink(_endpoint(port), "a").connect().__aenter__())
        await asyncio.sleep(0.1)
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting


async def test_a_peer_that_talks_garbage_ends_the_session() -> None:
    async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"\x20\x01\x00" + b"\xff" * 50)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(garbage, "127.0.0.1", 0) as server:
        with pytest.raises(LinkLostError):
            async with MqttLink(_endpoint(server.sockets[0].getsockname()[1]), "a", FAST).connect():
                pass


async def test_a_broker_without_mqtt_5_gets_3_1_1_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    async def old(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connect = await reader.read(200)
        writer.write(b"\x20\x02\x00\x01" if connect[8] == 5 else b"\x20\x02\x00\x00")
        await writer.drain()
        await reader.read(200)
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(old, "127.0.0.1", 0) as server:
        link = MqttLink(_endpoint(server.sockets[0].getsockname()[1]), "a", FAST)
        async with link.connect() as session:
            assert session.protocol == "3.1.1"
    assert "does not speak MQTT 5" in caplog.text


@pytest.mark.broker
async def test_a_full_inbox_drops_the_newest_and_counts(broker: Broker) -> None:
    link = _link(broker, "a", inbox=2)
    async with link.connect() as session:
        await session.subscribe("t", "end")
        for number in range(3):
            await session.publish("t", str(number).encode())
        await session.subscribe("other")  # its answer comes after the three messages
        assert link.counters.dropped == 1
        assert [(await session.receive()).payload for _ in range(2)] == [b"0", b"1"]


def _allow_only(broker: Broker, pattern: str) -> None:
    conf = Path(broker.command[-1])
    acl = conf.with_suffix(".acl")
    acl.write_text(f"topic readwrite {pattern}\n", encoding="utf-8")
    conf.write_text(f"{conf.read_text('utf-8')}user root\nacl_file {acl}\n", encoding="utf-8")


@pytest.mark.broker
async def test_a_denied_publish_is_visible_with_mqtt_5(broker: Broker) -> None:
    broker.kill()
    _allow_only(broker, "open/#")
    await asyncio.to_thread(broker.start)
    async with _link(broker, "a").connect() as session:
        await session.publish("open/x", b"1")
        with pytest.raises(PublishRefusedError, match="Not authorized"):
            await session.publish("closed/x", b"1")


@pytest.mark.broker
async def test_a_broker_behind_an_authority_of_its_own_is_trusted_by_its_file(broker: Broker, tmp_path: Path) -> None:
    authority = make_authority(tmp_path)
    async with tls_front(tmp_path, broker.port) as port:
        async with MqttLink(MqttEndpoint(host="127.0.0.1", port=port, ca_file=authority), "a", FAST).connect() as session:
            assert session.protocol == "5"
        with pytest.raises(ConnectRefusedError, match="not one this system trusts; name the authority's in ca_file"):
            async with MqttLink(MqttEndpoint(host="127.0.0.1", port=port), "a", FAST).connect():
                pass


@pytest.mark.broker
async def test_a_certificate_of_another_host_is_refused_in_words(broker: Broker, tmp_path: Path) -> None:
    authority = make_authority(tmp_path, "127.0.0.9")
    async with tls_front(tmp_path, broker.port) as port:
        with pytest.raises(ConnectRefusedError, match="certificate is refused: IP address mismatch"):
            async with MqttLink(MqttEndpoint(host="127.0.0.1", port=port, ca_file=authority), "a", FAST).connect():
                pass


@pytest.mark.broker
async def test_a_password_file_that_is_gone_costs_the_link_and_not_the_agent(
    broker: Broker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    secret, served = tmp_path / "password", asyncio.Event()
    endpoint = MqttEndpoint(host="127.0.0.1", port=broker.port, insecure=True, username="edge", password_file=secret)

    async def serve(_session: MqttSession) -> None:
        served.set()
        await asyncio.Event().wait()

    running = asyncio.create_task(MqttLink(endpoint, "a", FAST).run(serve))
    try:
        async with asyncio.timeout(20):
            told = f"password_file = '{secret}': cannot be read: No such file or directory"
            while told not in caplog.text:  # noqa: ASYNC110 - the link says it to the log
                await asyncio.sleep(0.02)
            secret.write_text("anything\n", encoding="utf-8")
            await served.wait()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def test_back_off_grows_to_its_cap_with_jitter() -> None:
    backoff = Backoff(0.25, 15.0, random.Random(1))
    delays = [backoff.delay_s(n) for n in range(1, 40)]
    assert all(delay <= 15.0 for delay in delays)
    assert max(delays) > 7.5
    assert delays[0] <= 0.25
    assert len(set(delays)) == len(delays)
