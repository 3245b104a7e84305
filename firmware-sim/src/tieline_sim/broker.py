"""Embedded MQTT 3.1.1 broker (amqtt): for the demo on machines without mosquitto, anonymous and on loopback only."""

from __future__ import annotations

import asyncio
import logging
import signal
from typing import Any

from tieline_sim.errors import SimulatorError


def serve(port: int, *, verbose: bool = False) -> None:
    """Run until SIGINT or SIGTERM.

    Raises:
        SimulatorError: When the port is taken.
    """
    logging.getLogger().setLevel(logging.INFO if verbose else logging.CRITICAL)
    asyncio.run(_serve(port))


async def _serve(port: int) -> None:
    from amqtt.broker import Broker
    from amqtt.errors import BrokerError

    config: dict[str, Any] = {
        "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}", "max_connections": 500}},
        "timeout_disconnect_delay": 2,
        "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
    }
    broker = Broker(config)
    try:
        await broker.start()
    except (BrokerError, OSError) as error:
        raise SimulatorError(f"port {port} on 127.0.0.1 cannot be opened: {error}") from error
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    await stopping.wait()
    await broker.shutdown()
