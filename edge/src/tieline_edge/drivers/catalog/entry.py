"""The form of a catalogue entry: what a device model offers and how its values are read and written.

Register words follow Telegraf (``INT16``, ``byte_order: CDAB``, ``scale``); SunSpec registers are given by model number
and offset from the model's ID register, as in the public model files.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import Field, model_validator

from tieline_core.quantities import QUANTITIES
from tieline_edge.drivers.capabilities import Capability, Role
from tieline_edge.drivers.catalog.form import Form, Span, Steps, Variable
from tieline_edge.drivers.catalog.messages import MessageForm, MessageSource, Order, ReportForm
from tieline_edge.drivers.catalog.nodes import VIEW_ONLY, NodeWrite, Subscribe
from tieline_edge.drivers.catalog.quality import Ledger


class Table(StrEnum):
    """The four address spaces of Modbus."""

    HOLDING = "holding"
    INPUT = "input"
    COIL = "coil"
    DISCRETE = "discrete"

    @property
    def is_bits(self) -> bool:
        """True for the spaces of single bits."""
        return self in (Table.COIL, Table.DISCRETE)


class RegisterType(StrEnum):
    """How the 16-bit words of a value are read."""

    BOOL = "BOOL"
    INT16 = "INT16"
    UINT16 = "UINT16"
    INT32 = "INT32"
    UINT32 = "UINT32"
    INT64 = "INT64"
    UINT64 = "UINT64"
    FLOAT32 = "FLOAT32"
    FLOAT64 = "FLOAT64"
    ACC32 = "ACC32"

    @property
    def words(self) -> int:
        """Number of 16-bit registers; 1 for a bit."""
        return _WORDS[self]


_WORDS: Final = {kind: {"16": 1, "32": 2, "64": 4}.get(kind.value[-2:], 1) for kind in RegisterType}


class Register(Form):
    """Where a value lives and how it is encoded.

    ``address`` counts from 0 as on the wire; with ``model`` it is the offset from that SunSpec model's ID register.
    ``scale_factor`` is the address (same counting) of a SunSpec ``sunssf`` register, a power of ten.
    """

    address: int = Field(ge=0, le=65535)
    type: RegisterType = RegisterType.UINT16
    table: Table = Table.HOLDING
    model: int | None = Field(default=None, ge=1, le=65534)
    name: str = Field(default="", max_length=40, description="name in the source document")
    byte_order: Literal["ABCD", "CDAB", "BADC", "DCBA"] = "ABCD"
    scale: float = Field(default=1.0, gt=0, description="value = raw x scale x 10^scale_factor + offset")
    offset: float = Field(default=0.0, description="added after scaling, in the point's unit")
    scale_factor: int | None = Field(default=None, ge=0, le=65535)
    absent: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        default=(), description="bit patterns that say 'no value' (plain registers; SunSpec has its own)"
    )

    @model_validator(mode="after")
    def _fits(self) -> Register:
        if self.table.is_bits != (self.type is RegisterType.BOOL):
            raise ValueError("type BOOL belongs to the tables coil and discrete, and only to them")
        if self.scale_factor is not None and self.model is None:
            raise ValueError("scale_factor needs a SunSpec model")
        if self.model is not None and self.table is not Table.HOLDING:
            raise ValueError("SunSpec models live in holding registers")
        if self.model is not None and (self.absent or self.byte_order != "ABCD"):
            raise ValueError("SunSpec fixes byte order and 'not implemented' patterns itself")
        if any(pattern >= 1 << 16 * self.type.words for pattern in self.absent):
            raise ValueError(f"a pattern of absent is wider than {self.type.value}")
        return self

    @property
    def label(self) -> str:
        """Short name for messages."""
        place = f"model {self.model} offset {self.address}" if self.model else f"{self.table.value} {self.address}"
        return f"{self.name} ({place})" if self.name else place


class Point(Form):
    """One measured quantity; exactly one of ``register``, ``node``, ``field`` and ``messages`` says where it is found."""

    quantity: str
    register_: Register | None = Field(default=None, alias="register")
    node: str | None = Field(default=None, max_length=200, description="OPC-UA node id; {root} is the instance's root")
    field: str | None = Field(default=None, max_length=64, description="key in the JSON object of a receipted message")
    messages: tuple[MessageSource, ...] | None = Field(default=None, min_length=1, description="where it stands in messages")
    subscribe: Subscribe | None = Field(default=None, description="a node that comes by subscription, for people to look at")
    sign: Literal[1, -1] = Field(default=1, description="-1 where the source counts generation positive")
    plausible: Span | None = Field(
        default=None, description="outside it the value cannot be; default by quantity, see drivers/plausibility.py"
    )

    @model_validator(mode="after")
    def _known_and_placed(self) -> Point:
        if self.quantity not in QUANTITIES:
            raise ValueError(f"{self.quantity!r} is no quantity of tieline_core.quantities")
        if sum(place is not None for place in (self.register_, self.node, self.field, self.messages)) != 1:
            raise ValueError(f"point {self.quantity}: exactly one of register, node, field and messages says where it is")
        if self.subscribe is not None and self.node is None:
            raise ValueError(f"point {self.quantity}: only a node can be subscribed to")
        if self.subscribe is not None and self.quantity not in VIEW_ONLY:
            raise ValueError(
                f"point {self.quantity}: control may read it, so it is read directly; subscribe to {sorted(VIEW_ONLY)}"
            )
        return self


class Write(Form):
    """One register of a write; steps are written in order, neighbours in one request.

    ``value`` is a constant or a variable: ``power_w`` the signed setpoint, ``power_pct`` the same in per cent of
    ``rating``, ``limit_w`` and ``limit_pct`` the largest allowed generation, in per cent of the rated one,
    ``revert_s`` and ``off_timer_s`` the times of the action (rounded up; longer than the register holds = its longest),
    ``revert_again_s`` one second more or less than ``revert_s``, for a device whose timer restarts when it changes.
    """

    register_: Register = Field(alias="register")
    value: float | Variable
    sign: Literal[1, -1] = 1
    optional: bool = Field(default=False, description="skipped when the device has not implemented the register")
    writable: Span | None = Field(default=None, description="what the device takes; beyond it nothing is written")


Writes = Steps[Write]


class Reversion(Form):
    """How the device's own reversion timer is watched and started again.

    ``remaining`` is read back after each write. Where rewriting did not restart the timer, ``nudge`` is tried, which
    leaves the control on; then ``toggle``, which switches it off and on within one turn of the bus and is therefore
    given only where the device is harmless for that moment. Where neither helps, it is reported.
    """

    remaining: Register
    nudge: tuple[Write, ...] = ()
    toggle: tuple[Write, ...] = ()


class CatalogEntry(Form):
    """One device model."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{2,60}$")
    title: str
    source: str = Field(min_length=8, description="public document the entry was written from")
    protocol: Literal["modbus", "opcua", "mqtt"]
    role: Role
    capabilities: Annotated[tuple[Capability, ...], Field(min_length=1)]
    points: Annotated[tuple[Point, ...], Field(min_length=1)]
    writes: Writes = Field(default=Writes(), description="registers, for Modbus")
    node_writes: Steps[NodeWrite] = Field(default=Steps[NodeWrite](), description="nodes, for OPC-UA")
    orders: Steps[Order] = Field(default=Steps[Order](), description="messages, for MQTT")
    rating: Register | None = Field(default=None, description="register of the rating that power_pct refers to [W]")
    message: MessageForm | None = Field(default=None, description="for meters that wait for a receipt")
    reports: ReportForm | None = Field(default=None, description="for MQTT devices that report without receipts")
    max_fill: int = Field(default=0, ge=0, le=64, description="largest hole between plain registers that one read may bridge")
    nominal_v: float = Field(default=230.0, gt=0, description="nominal of v_v [V]; a device may say otherwise")
    reverts: bool = False
    reversion: Reversion | None = None
    off_timer: bool = False
    safe_closed: bool = True
    safe_power_w: float | None = Field(default=None, description="power the device falls back to; None = its own rule")
    dead_time_s: float = Field(default=0.0, ge=0)
    min_on_s: float = Field(default=0.0, ge=0)
    min_off_s: float = Field(default=0.0, ge=0)
    quality: Ledger = Ledger()

    @model_validator(mode="after")
    def _consistent(self) -> CatalogEntry:
        quantities = [point.quantity for point in self.points]
        if doubled := sorted({name for name in quantities if quantities.count(name) > 1}):
            raise ValueError(f"quantities stand more than once: {', '.join(doubled)}")
        place = {"modbus": "register_", "opcua": "node", "mqtt": "messages" if self.reports else "field"}[self.protocol]
        if wrong := [point.quantity for point in self.points if getattr(point, place) is None]:
            raise ValueError(f"points without {place.rstrip('_')}: {', '.join(wrong)}")
        if self.reversion is not None and not self.reverts:
            raise ValueError("reversion belongs to a device that reverts")
        if (self.protocol == "mqtt") != (self.message is not None or self.reports is not None):
            raise ValueError("message or reports belong to protocol mqtt, and only to it")
        if self.message is not None and self.reports is not None:
            raise ValueError("a device either waits for receipts (message) or just reports (reports)")
        self._writes_fit()
        return self

    def _writes_fit(self) -> None:
        steps = self.steps
        if any(other.all() for other in (self.writes, self.node_writes, self.orders) if other is not steps):
            raise ValueError("writes are registers (modbus), node_writes nodes (opcua), orders messages (mqtt)")
        needed = {
            Capability.HOLD_POWER: (steps.hold_power, steps.release),
            Capability.LIMIT_GENERATION: (steps.limit_generation, steps.release),
            Capability.SWITCH: (steps.open, steps.close, steps.release),
        }
        for capability, parts in needed.items():
            if (capability in self.capabilities) != any(parts[:-1]) or (any(parts[:-1]) and not all(parts)):
                raise ValueError(f"capability {capability.value} and its writes (release included) belong together")

        unconfirmed = [steps[-1].topic for _, steps in self.orders if steps and steps[-1].confirm is None]
        if unconfirmed:
            raise ValueError(
                f"{unconfirmed[0]}: the last message of an order needs a confirm: nothing else says that it was done"
            )

    @property
    def steps(self) -> Writes | Steps[NodeWrite] | Steps[Order]:
        """What is written, in the form of the entry's protocol."""
        if self.protocol == "opcua":
            return self.node_writes
        return self.orders if self.protocol == "mqtt" else self.writes

    @property
    def written_registers(self) -> tuple[Register, ...]:
        """Every register that some action writes, each once."""
        again = self.reversion
        steps = self.writes.all()
        steps += (*again.nudge, *again.toggle) if again else ()
        return tuple(dict.fromkeys(step.register_ for step in steps))

    @property
    def registers(self) -> tuple[Register, ...]:
        """Every register the entry names, each once."""
        read = [point.register_ for point in self.points if point.register_ is not None]
        extra = [self.rating] if self.rating else []
        extra += [self.reversion.remaining] if self.reversion else []
        return tuple(dict.fromkeys((*read, *self.written_registers, *extra)))
