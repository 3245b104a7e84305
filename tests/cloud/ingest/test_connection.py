"""The hub's connection to its broker: what it says when there is none."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from deploy.ports import free_port
from tieline_cloud.ingest.connection import HubConnection, Wiring
from tieline_cloud.ingest.settings import BrokerAddress

#: CONNACK of MQTT 5 with reason 0x87, not authorized.
REFUSAL = bytes([0x20, 3, 0, 0x87, 0])


async def problem_of(connection: HubConnection, words: str) -> None:
    """Run it until its problem has these words."""
    running = asyncio.create_task(connection.run())
    try:
        async with asyncio.timeout(20):
            while words not in (connection.problem or ""):  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.02)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_broker_that_is_away_is_named_with_the_reason() -> None:
    port = free_port()
    connection = HubConnection(BrokerAddress("127.0.0.1", port, insecure=True), "hub", Wiring((), lambda _message: None))
    await problem_of(connection, f"broker 127.0.0.1:{port} cannot be reached: Connection refused")


async def test_a_file_that_is_gone_is_named_with_its_key(tmp_path: Path) -> None:
    address = BrokerAddress("127.0.0.1", 1, insecure=True, username="hub", password_file=tmp_path / "absent")
    await problem_of(HubConnection(address, "hub", Wiring((), lambda _message: None)), "mqtt.password_file = 'absent'")


async def test_a_refusal_is_told_once_and_is_no_reason_to_try_an_older_protocol(caplog: pytest.LogCaptureFixture) -> None:
    protocols: list[int] = []

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        protocols.append((await reader.readexactly(9))[8])
        writer.write(REFUSAL)
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    address = BrokerAddress("127.0.0.1", server.sockets[0].getsockname()[1], insecure=True)
    connection = HubConnection(address, "hub", Wiring((), lambda _message: None))
    with caplog.at_level(logging.WARNING):
        running = asyncio.create_task(connection.run())
        try:
            async with asyncio.timeout(20):
                while len(protocols) < 3:  # noqa: ASYNC110 - the server counts
                    await asyncio.sleep(0.02)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            server.close()
    assert protocols[:3] == [5, 5, 5]
    assert caplog.text.count("refuses the connection: Not authorized") == 1
    assert "refuses the connection: Not authorized" in (connection.problem or "")
