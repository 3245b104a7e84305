"""One connection for each Modbus bus, shared by all its units: many servers accept only one, a serial line has only one.

Requests take turns, writes before polls; a silent unit is left alone for a while, whoever asks. After a time-out or an
answer to something else the connection is closed, so that a late reply can never be taken for the answer to the next request.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from tieline_edge.drivers.capabilities import DevicePermanentError, DeviceTransientError
from tieline_edge.drivers.catalog.entry import Table
from tieline_edge.drivers.modbus.breaker import Breaker
from tieline_edge.drivers.modbus.endpoint import Endpoint, SerialEndpoint, TcpEndpoint
from tieline_edge.drivers.modbus.exceptions import EXCEPTIONS, UNNAMED
from tieline_edge.drivers.modbus.transport import OPEN_ERRORS, make_client
from tieline_edge.drivers.modbus.turns import Turns, Urgency

if TYPE_CHECKING:
    from pymodbus.pdu import ModbusPDU

    from tieline_edge.drivers.modbus.transport import Client

    Ask = Callable[[Client], Awaitable[ModbusPDU]]

#: After a failed connect the other units of the server do not wait for a time-out of their own.
_CONNECT_PAUSE_S: Final = 0.25
#: An RTU frame carries no number: what a bus still has to say to somebody else may pass before a new connection is used.
_DRAIN_S: Final = 0.05


class Bus:
    """A link for as long as its turn is held: the requests of one body follow each other with nothing in between."""

    def __init__(self, link: ModbusLink, unit: int) -> None:
        self._link, self._unit = link, unit

    async def read(self, table: Table, address: int, count: int) -> Sequence[int]:
        """Read registers (or bits, as 0 and 1).

        Raises:
            DeviceTransientError: No connection, no answer, or an exception that passes.
            DevicePermanentError: An exception that does not.
        """

        def ask(client: Client) -> Awaitable[ModbusPDU]:
            calls = {
                Table.HOLDING: client.read_holding_registers,
                Table.INPUT: client.read_input_registers,
                Table.COIL: client.read_coils,
                Table.DISCRETE: client.read_discrete_inputs,
            }
            return calls[table](address, count=count, device_id=self._unit)

        function = {Table.HOLDING: 3, Table.INPUT: 4, Table.COIL: 1, Table.DISCRETE: 2}[table]

        def fits(answer: ModbusPDU) -> bool:
            held = (answer.bits if table.is_bits else answer.registers) or ()
            return len(held) == (-(-count // 8) * 8 if table.is_bits else count)

        def what() -> str:
            return f"reading {count} from {table.value} {address}"

        answer = await self._link.request(self._unit, what, function, ask, fits)
        return [int(bit) for bit in answer.bits[:count]] if table.is_bits else answer.registers

    async def write(self, table: Table, address: int, words: Sequence[int]) -> None:
        """Write holding registers or coils in one request; raises like :meth:`read`."""
        single = len(words) == 1

        def ask(client: Client) -> Awaitable[ModbusPDU]:
            if table is Table.COIL:
                bits = [bool(word) for word in words]
                if single:
                    return client.write_coil(address, bits[0], device_id=self._unit)
                return client.write_coils(address, bits, device_id=self._unit)
            if single:
                return client.write_register(address, words[0], device_id=self._unit)
            return client.write_registers(address, list(words), device_id=self._unit)

        function = (5 if single else 15) if table is Table.COIL else (6 if single else 16)

        def what() -> str:
            return f"writing {list(words)} to {table.value} {address}"

        await self._link.request(self._unit, what, function, ask, lambda answer: answer.address == address)


class ModbusLink:
    """The connection to one bus.

    Args:
        endpoint: Where it is.
        timeout_s: Longest wait for a connection and for an answer [wall seconds].
    """

    def __init__(self, endpoint: Endpoint, timeout_s: float) -> None:
        self.endpoint, self.timeout_s = endpoint, timeout_s
        self._turns = Turns()
        self._breakers: dict[int, Breaker] = {}
        self._client: Client | None = None
        self._users = 0
        self._in_flight = False
        self._refuse_until_s = float("-inf")
        self._quiet_until_s = float("-inf")
        self._gap_s = endpoint.gap_s
        self._serial = isinstance(endpoint, SerialEndpoint)
        self._numbered = isinstance(endpoint, TcpEndpoint) and endpoint.framing == "tcp"

    def __str__(self) -> str:
        return self.endpoint.place

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
        """One read in a turn of its own; see :meth:`Bus.read`."""
        # What `turn` does, without its context manager: this line is passed hundreds of times a second.
        self._check_breaker(unit)
        await self._turns.take(Urgency.READ)
        try:
            self._check_breaker(unit)
            return await Bus(self, unit).read(table, address, count)
        finally:
            self._turns.pass_on()

    @asynccontextmanager
    async def turn(self, unit: int, urgency: Urgency) -> AsyncIterator[Bus]:
        """Hold the bus for the requests of the body. Keep it short: everyone else waits.

        Raises:
            DeviceTransientError: At once and with no byte sent, when the unit was silent a moment ago.
        """
        self._check_breaker(unit)
        async with self._turns.turn(urgency):
            # While we waited, somebody else may have found the unit silent.
            self._check_breaker(unit)
            yield Bus(self, unit)

    def _check_breaker(self, unit: int) -> None:
        breaker = self._breakers.get(unit)
        if breaker is None or not breaker.silences:
            return
        wait_s = breaker.wait_s(time.monotonic())
        if wait_s > 0:
            text = f"{self} unit {unit}: silent a moment ago, asked again in {wait_s:.1f} s; nothing was sent"
            raise DeviceTransientError(text)

    async def request(
        self, unit: int, what: Callable[[], str], function: int, ask: Ask, fits: Callable[[ModbusPDU], bool]
    ) -> ModbusPDU:
        """One request and its answer; for :class:`Bus` only, which holds the turn.

        Args:
            unit: Unit id.
            what: What it is, for messages.
            function: Function code the answer must carry.
            ask: Sends it.
            fits: True when the answer is one to this request.
        """
        from pymodbus.exceptions import ModbusException

        client = await self._connected()
        breaker = self._breakers.get(unit)
        if breaker is None:
            breaker = self._breakers[unit] = Breaker()
        self._in_flight = True
        try:
            if self._gap_s and (pause_s := self._quiet_until_s - time.monotonic()) > 0:
                await asyncio.sleep(pause_s)
            answer = await ask(client)
        except asyncio.CancelledError:
            self.close()
            raise
        except (ModbusException, OSError) as error:
            self.close()
            breaker.silent(time.monotonic())
            raise DeviceTransientError(f"{self} unit {unit}: no answer to {what()} within {self.timeout_s:g} s") from error
        finally:
            self._in_flight = False
            if self._gap_s:
                self._quiet_until_s = time.monotonic() + self._gap_s
        self._check_answer(client, unit, what, function, answer)
        if answer.isError():
            refusal = EXCEPTIONS.get(answer.exception_code, UNNAMED)
            if refusal.silence:
                breaker.silent(time.monotonic())
            else:
                breaker.answered()
            text = f"{self} unit {unit}: {what()}: Modbus exception {answer.exception_code}, {refusal.words}"
            raise DeviceTransientError(text) if refusal.passes else DevicePermanentError(text)
        if not fits(answer):
            self._out_of_step(unit, what, "the answer is of another length or for another address")
        breaker.answered()
        return answer

    def _check_answer(self, client: Client, unit: int, what: Callable[[], str], function: int, answer: ModbusPDU) -> None:
        if self._numbered and answer.transaction_id != client.ctx.request_transaction_id:
            self._out_of_step(unit, what, f"the answer carries transaction id {answer.transaction_id}")
        if answer.function_code & 0x7F != function:
            self._out_of_step(unit, what, f"the answer is one to function {answer.function_code & 0x7F}")

    def _out_of_step(self, unit: int, what: Callable[[], str], reason: str) -> None:
        self.close()
        raise DeviceTransientError(f"{self} unit {unit}: {what()}: {reason}; the connection starts anew")

    async def _connected(self) -> Client:
        if self._client is not None and self._client.connected:
            return self._client
        if time.monotonic() < self._refuse_until_s:
            raise DeviceTransientError(f"{self}: no connection a moment ago")
        self.close()
        reason = ""
        client = make_client(self.endpoint, self.timeout_s, self._on_connect)
        try:
            connected = await client.connect()
            if connected and not self._numbered:
                await asyncio.sleep(_DRAIN_S)
        except asyncio.CancelledError:
            client.close()
            raise
        except OPEN_ERRORS as error:
            connected, reason = False, f" ({error})"
        if not connected:
            client.close()
            self._refuse_until_s = time.monotonic() + _CONNECT_PAUSE_S
            hint = "is it there, and may it be opened so?" if self._serial else "is it on and the port right?"
            raise DeviceTransientError(f"{self}: no connection within {self.timeout_s:g} s; {hint}{reason}")
        self._client = client
        return client

    def _on_connect(self, connected: bool) -> None:
        # A connection that ends while we wait fails the request at once instead of after the time-out.
        client = self._client
        if not connected and self._in_flight and client is not None and not client.ctx.response_future.done():
            client.ctx.response_future.set_exception(ConnectionResetError("the device closed the connection"))


class ModbusLinks:
    """All links of an edge, one for each bus."""

    def __init__(self) -> None:
        self._links: dict[str, ModbusLink] = {}

    def link(self, endpoint: Endpoint, timeout_s: float) -> ModbusLink:
        """The one link to that bus; the shortest time-out asked for holds.

        Raises:
            DevicePermanentError: When another device reaches the same place with another framing or line setting.
        """
        found = self._links.setdefault(endpoint.place, ModbusLink(endpoint, timeout_s))
        if found.endpoint != endpoint:
            raise DevicePermanentError(f"{endpoint.place} is configured in two ways: {found.endpoint} and {endpoint}")
        found.timeout_s = min(found.timeout_s, timeout_s)
        return found
