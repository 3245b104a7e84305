"""One TCP connection for each Modbus server, shared by all its units: many servers accept only one.

After a time-out the connection is closed, so that a late reply can never be taken for the answer to the next request.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final

from tieline_edge.drivers.capabilities import DevicePermanentError, DeviceTransientError
from tieline_edge.drivers.catalog.entry import Table

if TYPE_CHECKING:
    from pymodbus.client import AsyncModbusTcpClient
    from pymodbus.pdu import ModbusPDU

#: After a failed connect the other units of the server do not wait for a time-out of their own.
_CONNECT_PAUSE_S: Final = 0.25

#: Modbus Application Protocol V1.1b3, section 7: words, and whether trying again can help.
EXCEPTIONS: Final = {
    1: ("illegal function: the device does not know this kind of request", False),
    2: ("illegal data address: the device has no such register; the catalogue entry does not fit it", False),
    3: ("illegal data value: the device refuses this value or length", False),
    4: ("server device failure: the device could not carry it out", True),
    5: ("acknowledge: the device accepted and needs more time", True),
    6: ("server device busy: try again later", True),
    8: ("memory parity error in the device", True),
    10: ("gateway path unavailable: the gateway is overloaded or has no such port", True),
    11: ("gateway target failed to respond: the unit behind the gateway is silent", True),
}


class ModbusLink:
    """The connection to one server; requests queue for it one at a time.

    Args:
        host: Address of the server.
        port: Its TCP port.
        timeout_s: Longest wait for a connection and for an answer [wall seconds].
    """

    def __init__(self, host: str, port: int, timeout_s: float) -> None:
        self.host, self.port, self.timeout_s = host, port, timeout_s
        self._lock = asyncio.Lock()
        self._client: AsyncModbusTcpClient | None = None
        self._users = 0
        self._in_flight = False
        self._refuse_until_s = float("-inf")

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    def acquire(self) -> None:
        """Count one more user of the connection."""
        self._users += 1

    def release(self) -> None:
        """Count one user less; the last one closes the connection."""
        self._users -= 1
        if self._users <= 0:
            self.close()

    def close(self) -> None:
        """Close at once; the next request connects anew."""
        if self._client is not None:
            self._client.close()
            self._client = None

    async def read(self, unit: int, table: Table, address: int, count: int) -> Sequence[int]:
        """Read registers (or bits, as 0 and 1).

        Raises:
            DeviceTransientError: No connection, no answer, or an exception that passes.
            DevicePermanentError: An exception that does not.
        """

        def ask(client: AsyncModbusTcpClient) -> Awaitable[ModbusPDU]:
            calls = {
                Table.HOLDING: client.read_holding_registers,
                Table.INPUT: client.read_input_registers,
                Table.COIL: client.read_coils,
                Table.DISCRETE: client.read_discrete_inputs,
            }
            return calls[table](address, count=count, device_id=unit)

        answer = await self._request(unit, f"reading {count} from {table.value} {address}", ask)
        got: Sequence[int] = [int(bit) for bit in answer.bits[:count]] if table.is_bits else answer.registers
        if len(got) != count:
            self.close()
            raise DeviceTransientError(f"{self} unit {unit}: asked for {count} of {table.value} {address}, got {len(got)}")
        return got

    async def write(self, unit: int, table: Table, address: int, words: Sequence[int]) -> None:
        """Write holding registers or coils in one request; raises like :meth:`read`."""

        def ask(client: AsyncModbusTcpClient) -> Awaitable[ModbusPDU]:
            if table is Table.COIL and len(words) == 1:
                return client.write_coil(address, bool(words[0]), device_id=unit)
            if table is Table.COIL:
                return client.write_coils(address, [bool(word) for word in words], device_id=unit)
            if len(words) == 1:
                return client.write_register(address, words[0], device_id=unit)
            return client.write_registers(address, list(words), device_id=unit)

        await self._request(unit, f"writing {list(words)} to {table.value} {address}", ask)

    async def _request(self, unit: int, what: str, ask: Callable[[AsyncModbusTcpClient], Awaitable[ModbusPDU]]) -> ModbusPDU:
        from pymodbus.exceptions import ModbusException
        from pymodbus.pdu import ExceptionResponse

        async with self._lock:
            client = await self._connected()
            self._in_flight = True
            try:
                answer = await ask(client)
            except asyncio.CancelledError:
                self.close()
                raise
            except (ModbusException, OSError) as error:
                self.close()
                raise DeviceTransientError(
                    f"{self} unit {unit}: no answer to {what} within {self.timeout_s:g} s ({error})"
                ) from error
            finally:
                self._in_flight = False
        if isinstance(answer, ExceptionResponse) or answer.isError():
            code = int(getattr(answer, "exception_code", 0))
            words, passes = EXCEPTIONS.get(code, ("an exception the standard does not name", True))
            text = f"{self} unit {unit}: {what}: Modbus exception {code}, {words}"
            raise DeviceTransientError(text) if passes else DevicePermanentError(text)
        return answer

    async def _connected(self) -> AsyncModbusTcpClient:
        if self._client is not None and self._client.connected:
            return self._client
        if time.monotonic() < self._refuse_until_s:
            raise DeviceTransientError(f"{self}: not reachable a moment ago")
        from pymodbus.client import AsyncModbusTcpClient

        # Its own account of every failure would stand beside ours.
        logging.getLogger("pymodbus").setLevel(logging.CRITICAL)
        self.close()
        client = AsyncModbusTcpClient(
            self.host,
            port=self.port,
            timeout=self.timeout_s,
            retries=0,
            reconnect_delay=0,
            trace_connect=self._on_connect,
        )
        try:
            connected = await client.connect()
        except asyncio.CancelledError:
            client.close()
            raise
        if not connected:
            client.close()
            self._refuse_until_s = time.monotonic() + _CONNECT_PAUSE_S
            raise DeviceTransientError(f"{self}: no connection within {self.timeout_s:g} s; is it on and the port right?")
        self._client = client
        return client

    def _on_connect(self, connected: bool) -> None:
        # A connection that ends while we wait fails the request at once instead of after the time-out.
        client = self._client
        if not connected and self._in_flight and client is not None and not client.ctx.response_future.done():
            client.ctx.response_future.set_exception(ConnectionResetError("the device closed the connection"))


class ModbusLinks:
    """All links of an edge, one for each (host, port)."""

    def __init__(self) -> None:
        self._links: dict[tuple[str, int], ModbusLink] = {}

    def link(self, host: str, port: int, timeout_s: float) -> ModbusLink:
        """The one link to that server; the shortest time-out asked for holds."""
        found = self._links.setdefault((host, port), ModbusLink(host, port, timeout_s))
        found.timeout_s = min(found.timeout_s, timeout_s)
        return found
