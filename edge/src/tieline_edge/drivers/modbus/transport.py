"""A pymodbus client for an endpoint: the only place that knows its classes."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from tieline_edge.drivers.modbus.endpoint import Endpoint, SerialEndpoint

if TYPE_CHECKING:
    from pymodbus.client import AsyncModbusSerialClient, AsyncModbusTcpClient

    Client = AsyncModbusTcpClient | AsyncModbusSerialClient


def _open_errors() -> tuple[type[Exception], ...]:
    if sys.platform == "win32":
        return (OSError, ValueError)
    import termios

    return (OSError, ValueError, termios.error)


#: What opening a place may raise beside saying no: a line that does not take its settings is a ``termios.error``.
OPEN_ERRORS: Final = _open_errors()


def make_client(endpoint: Endpoint, timeout_s: float, on_connect: Callable[[bool], None]) -> Client:
    """A client that is not connected yet; it neither retries nor reconnects by itself: that is the link's to decide.

    Args:
        endpoint: Where to.
        timeout_s: Longest wait for a connection and for an answer [wall seconds].
        on_connect: Told of each connection made (True) and lost (False).
    """
    from pymodbus import FramerType
    from pymodbus.client import AsyncModbusSerialClient, AsyncModbusTcpClient

    # Its own account of every failure would stand beside ours.
    logging.getLogger("pymodbus").setLevel(logging.CRITICAL)
    if isinstance(endpoint, SerialEndpoint):
        return AsyncModbusSerialClient(
            endpoint.path,
            framer=FramerType.RTU,
            baudrate=endpoint.baud,
            parity=endpoint.parity,
            stopbits=endpoint.stop_bits,
            timeout=timeout_s,
            retries=0,
            reconnect_delay=0,
            trace_connect=on_connect,
        )
    return AsyncModbusTcpClient(
        endpoint.host,
        port=endpoint.port,
        framer=FramerType.RTU if endpoint.framing == "rtu" else FramerType.SOCKET,
        timeout=timeout_s,
        retries=0,
        reconnect_delay=0,
        trace_connect=on_connect,
    )
