"""Where a Modbus bus is reached: TCP, RTU frames over TCP, or a serial line. Pure values.

Sources: Modbus Messaging on TCP/IP Implementation Guide V1.0b (MBAP frames); Modbus over Serial Line V1.02, 2.5.1.1 (RTU
frames and the silence between them).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from tieline_edge.settings import ModbusEndpoint

#: Modbus over Serial Line V1.02, 2.5.1.1: above 19200 baud the silence between frames stays at 1.75 ms.
_LEAST_GAP_S: Final = 0.00175
_GAP_CHARACTERS: Final = 3.5


@dataclass(frozen=True, slots=True)
class TcpEndpoint:
    """A server on the network; ``framing`` ``rtu`` is a transparent gateway that passes RTU frames on."""

    host: str
    port: int
    framing: Literal["tcp", "rtu"] = "tcp"

    @property
    def place(self) -> str:
        """What two devices on the same bus have in common."""
        return f"{self.host}:{self.port}"

    @property
    def gap_s(self) -> float:
        """Silence to keep between an answer and the next request [s]: the gateway's own business."""
        return 0.0


@dataclass(frozen=True, slots=True)
class SerialEndpoint:
    """A serial line with RTU frames."""

    path: str
    baud: int = 9600
    parity: Literal["N", "E", "O"] = "N"
    stop_bits: Literal[1, 2] = 1

    @property
    def place(self) -> str:
        """What two devices on the same bus have in common."""
        return self.path

    @property
    def gap_s(self) -> float:
        """Silence to keep between an answer and the next request [s]."""
        bits = 1 + 8 + (self.parity != "N") + self.stop_bits
        return max(_LEAST_GAP_S, _GAP_CHARACTERS * bits / self.baud)


Endpoint = TcpEndpoint | SerialEndpoint


def endpoint_of(settings: ModbusEndpoint) -> Endpoint:
    """The endpoint that a device's ``modbus`` block names."""
    if settings.serial is not None:
        return SerialEndpoint(settings.serial, settings.baud, settings.parity, settings.stop_bits)
    return TcpEndpoint(settings.host or "", settings.port, settings.framing)
