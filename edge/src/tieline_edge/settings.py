"""The one frozen configuration tree of an edge agent. Unknown keys are errors; every key has one meaning.

Reading it from YAML, with file and key in every message, is :mod:`tieline_edge.config_file`.
"""

from __future__ import annotations

import difflib
from datetime import time
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, IPvAnyAddress, field_validator, model_validator

from tieline_core.ids import DeviceId, EdgeId
from tieline_core.shedding import (
    ExchangeParameters,
    FrequencyParameters,
    HotSpotParameters,
    LineOverloadParameters,
    LossOfMainsParameters,
    PriorityClass,
    StorageParameters,
    SwitchingParameters,
    ThermalOverloadParameters,
    VoltageParameters,
)

Port = Annotated[int, Field(ge=1, le=65535)]
#: No site's power is larger [W]: what lies beyond is a wrong unit, and sums of such numbers end in infinity.
_MOST_W: Final = 1e12
#: Longest time a timer may be told [s]; what lies beyond is a wrong unit, and ends the calendar when it is added to an instant.
_DAY_S: Final = 86_400.0


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Site(_Section):
    """Where the edge stands."""

    name: str
    time_zone: str = "UTC"
    rated_va: float = Field(gt=0, le=_MOST_W, description="rating of the transformer that feeds the site [VA]")

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ValueError, OSError, ZoneInfoNotFoundError) as error:
            raise ValueError("no such time zone; write it like Europe/Berlin or UTC") from error
        return name


class ClockSettings(_Section):
    """``system`` in production; ``file`` follows a published simulation clock."""

    source: Literal["system", "file"] = "system"
    path: Path | None = None
    max_speed: float = Field(default=1.0, ge=1, description="fastest simulated clock the timers are checked against")

    @model_validator(mode="after")
    def _file_needs_path(self) -> ClockSettings:
        if (self.source == "file") != (self.path is not None):
            raise ValueError("clock.path belongs to clock.source: file, and only to it")
        return self


class MqttEndpoint(_Section):
    """A broker."""

    host: str
    port: Port = 8883
    username: str | None = None
    password_file: Path | None = None
    ca_file: Path | None = Field(
        default=None, description="PEM certificate of the authority that signed the broker's; without it the system's"
    )
    insecure: bool = Field(default=False, description="plain TCP without TLS; only for loopback and demonstration")

    @model_validator(mode="after")
    def _what_belongs_together(self) -> MqttEndpoint:
        if self.insecure and self.ca_file is not None:
            raise ValueError("either insecure: true or a ca_file, not both")
        if self.username is None and self.password_file is not None:
            raise ValueError("password_file needs a username")
        return self


class HubSettings(_Section):
    """How to reach the hub, and whom to believe."""

    mqtt: MqttEndpoint
    http: str = Field(pattern=r"^https?://", description="base address for pulling artifacts by content hash")
    http_ca_file: Path | None = Field(default=None, description="as mqtt.ca_file, for an https address")
    public_keys: tuple[str, ...] = Field(default=(), description="hex Ed25519 public keys; none = monitor only")
    host_id: str = "hub"


class CycleSettings(_Section):
    """Periods in seconds of the clock, with a floor in wall time for fast simulated clocks."""

    period_s: float = Field(default=1.0, gt=0, le=_DAY_S)
    floor_wall_s: float = Field(
        default=0.2, ge=0.001, le=_DAY_S, description="shortest pause between two polls or cycles [wall s]"
    )
    max_input_age_s: float = Field(
        default=10.0, gt=0, le=_DAY_S, description="older inputs are not used (floor: three wall periods)"
    )


class OutboxSettings(_Section):
    """Bounds of the durable memory."""

    max_bytes: int = Field(default=512 * 1024 * 1024, ge=1024 * 1024)
    max_age_days: float = Field(default=14.0, gt=0, le=3660)
    commit_interval_s: float = Field(default=0.1, ge=0, le=5, description="wall time a commit may wait for company")
    frame_readings: int = Field(default=1000, ge=1, le=10000)


class TraceSettings(_Section):
    """Bounds of what is kept of decisions, for ``why``."""

    max_bytes: int = Field(default=256 * 1024 * 1024, ge=1024 * 1024)
    max_age_days: float = Field(default=42.0, gt=0, le=3660)


class ReversionSettings(_Section):
    """Timers written into devices: they must outlast two polls at every speed."""

    refresh_s: float = Field(default=60.0, gt=0, le=_DAY_S)
    timer_s: float = Field(default=180.0, gt=0, le=_DAY_S)


class ModbusEndpoint(_Section):
    """A Modbus bus and one of its units: ``host`` for TCP (``framing: rtu`` behind a transparent gateway), or ``serial``."""

    host: str | None = Field(default=None, min_length=1, max_length=253)
    port: Port = 502
    framing: Literal["tcp", "rtu"] = Field(default="tcp", description="rtu = RTU frames over TCP")
    serial: str | None = Field(default=None, min_length=1, max_length=255, description="serial line, e.g. /dev/ttyUSB0")
    baud: int = Field(default=9600, ge=300, le=4_000_000)
    parity: Literal["N", "E", "O"] = "N"
    stop_bits: Literal[1, 2] = 1
    unit: int = Field(default=1, ge=0, le=247)
    instance: int = Field(
        default=1,
        ge=1,
        le=16,
        description="which of several SunSpec models of one number",
    )
    timeout_s: float = Field(default=1.0, gt=0, le=30)

    @model_validator(mode="after")
    def _one_bus(self) -> ModbusEndpoint:
        if (self.host is None) == (self.serial is None):
            raise ValueError("exactly one of host and serial says where the bus is")
        foreign = {"port", "framing"} if self.host is None else {"baud", "parity", "stop_bits"}
        if given := sorted(foreign & self.model_fields_set):
            kind = "a serial line" if self.host is None else "a host"
            raise ValueError(f"{', '.join(given)} does not belong to {kind}")
        return self

    @property
    def place(self) -> str:
        """The bus, as devices on it have it in common."""
        return self.serial if self.serial is not None else f"{self.host}:{self.port}"


def opcua_address(url: str) -> str:
    """The same, when it is an address of an OPC-UA server.

    Raises:
        ValueError: Saying what is expected.
    """
    parts = urlsplit(url)
    if "@" in parts.netloc:
        raise ValueError("nobody's password stands in an address: username and password_file are keys of their own")
    if parts.scheme != "opc.tcp" or not parts.hostname or not parts.port:
        raise ValueError("the address of an OPC-UA server is expected, host and port, such as opc.tcp://10.0.0.2:4840")
    return url


class OpcUaEndpoint(_Section):
    """An OPC-UA server and how the way to it is secured (names as in Telegraf; policies of OPC 10000-7)."""

    url: Annotated[str, AfterValidator(opcua_address)]
    root: str = Field(default="TR1", min_length=1, max_length=64, description="replaces {root} in the catalogue's node ids")
    timeout_s: float = Field(default=2.0, gt=0, le=30)
    security_policy: Literal["Basic256Sha256", "Aes128_Sha256_RsaOaep", "Aes256_Sha256_RsaPss"] = "Basic256Sha256"
    security_mode: Literal["Sign", "SignAndEncrypt"] = "SignAndEncrypt"
    username: str | None = Field(default=None, min_length=1, max_length=128)
    password_file: Path | None = None
    insecure: bool = Field(default=False, description="no security at all: anyone on the way reads and writes")

    @model_validator(mode="after")
    def _secrets_stay_secret(self) -> OpcUaEndpoint:
        if (self.username is None) != (self.password_file is None):
            raise ValueError("username and password_file belong together")
        if self.insecure and self.username is not None:
            raise ValueError("with insecure: true the password would travel in plain text; give a security_policy instead")
        if self.insecure and self.model_fields_set & {"security_policy", "security_mode"}:
            raise ValueError("either insecure: true or a security_policy, not both")
        return self


class MqttSource(_Section):
    """A device that publishes to the field broker."""

    serial: str = Field(min_length=1, max_length=64, pattern=r"^[^#+{}\x00-\x1f]+$", description="replaces {serial} in topics")
    report_s: float | None = Field(
        default=None, gt=0, le=_DAY_S, description="period of its reports, where it is not the catalogue's"
    )


class DeviceSettings(_Section):
    """One device: which catalogue entry describes it and where it is."""

    id: DeviceId
    catalog: str = Field(description="name of a catalogue entry, e.g. sunspec-storage-704, or the path of a .yaml of the site")
    modbus: ModbusEndpoint | None = None
    opcua: OpcUaEndpoint | None = None
    mqtt: MqttSource | None = None
    poll_s: float = Field(default=1.0, gt=0, le=_DAY_S)
    priority_class: PriorityClass | None = None
    p_min_w: float | None = Field(default=None, ge=-_MOST_W, le=_MOST_W)
    p_max_w: float | None = Field(default=None, ge=-_MOST_W, le=_MOST_W)
    energy_wh: float | None = Field(default=None, gt=0, le=_MOST_W)
    soc_min_pct: float | None = Field(default=None, ge=0, le=100)
    soc_max_pct: float | None = Field(default=None, ge=0, le=100)
    soc_reserve_pct: float | None = Field(
        default=None, ge=0, le=100, description="energy above soc_min_pct that only safety and operators may discharge"
    )
    ramp_w_per_s: float | None = Field(default=None, gt=0)
    dead_time_s: float | None = Field(default=None, ge=0, le=_DAY_S)
    min_on_s: float | None = Field(default=None, ge=0, le=_DAY_S)
    min_off_s: float | None = Field(default=None, ge=0, le=_DAY_S)
    effect_s: float | None = Field(default=None, gt=0, le=3600, description="longest time from a write to its measured effect")
    switches_per_h: int | None = Field(default=None, ge=2, le=3600, description="most orders to a contactor within an hour")
    orientation: Literal[1, -1] = Field(default=1, description="-1 for a meter or converter wired the other way round")
    nominal_v: float | None = Field(default=None, gt=0, description="nominal of its v_v [V]; None = as its entry says")
    nominal_hz: Literal[50, 60] | None = Field(default=None, description="None = either")

    @model_validator(mode="after")
    def _one_endpoint(self) -> DeviceSettings:
        if sum(endpoint is not None for endpoint in (self.modbus, self.opcua, self.mqtt)) != 1:
            raise ValueError(f"device {self.id}: exactly one of modbus, opcua and mqtt says where it is")
        return self


class LineSettings(_Section):
    """A line (or any element with a current) whose meter is a device of this edge."""

    device: DeviceId = Field(description="whose i_a is watched; its p_w and q_var are used where it has them")
    rating_a: float = Field(gt=0)
    nominal_v: float = Field(default=230.0, gt=0, description="phase to neutral")
    loads: tuple[DeviceId, ...] | None = Field(default=None, description="what is fed by it; absent: every load of the site")


class SheddingSettings(_Section):
    """Local shedding of this site: what is watched, and with which parameters.

    A rule works when its input is named here; see ``shared/docs/shedding.md``.
    """

    transformer: DeviceId | None = Field(default=None, description="whose loading_pct the thermal rule watches")
    ambient: DeviceId | None = Field(default=None, description="whose temp_degc the hot-spot model takes")
    lines: tuple[LineSettings, ...] = ()
    voltage_at: tuple[DeviceId, ...] = Field(default=(), max_length=2, description="first source, then the second one")
    frequency_at: tuple[DeviceId, ...] = Field(default=(), max_length=2, description="first source, then the second one")
    exchange_at: DeviceId | None = Field(default=None, description="whose p_w is the site's exchange; default: transformer")
    shared: tuple[DeviceId, ...] = Field(default=(), description="watched elements that other edges watch, too")
    thermal_overload: ThermalOverloadParameters = ThermalOverloadParameters()
    hot_spot: HotSpotParameters | None = None
    line_overload: LineOverloadParameters = LineOverloadParameters()
    voltage: VoltageParameters = VoltageParameters()
    frequency: FrequencyParameters = FrequencyParameters()
    exchange: ExchangeParameters = ExchangeParameters()
    loss_of_mains: LossOfMainsParameters = LossOfMainsParameters()
    switching: SwitchingParameters = SwitchingParameters()
    storage: StorageParameters = StorageParameters()
    vital: tuple[DeviceId, ...] = Field(default=(), description="never shed, whatever their class says")
    vital_list: Path | None = Field(default=None, description="signed list of vital devices; checked at every start")

    @property
    def inputs(self) -> tuple[DeviceId, ...]:
        """Every device some rule is told to read, and every device named."""
        single = filter(None, [self.transformer, self.ambient, self.exchange_at])
        fed = (device for line in self.lines for device in (line.device, *(line.loads or ())))
        return (*single, *fed, *self.voltage_at, *self.frequency_at, *self.shared)

    def place_of(self, device: DeviceId) -> str:
        """The key that names a device, for messages."""
        for key in ("transformer", "ambient", "exchange_at", "voltage_at", "frequency_at", "shared", "vital"):
            named = getattr(self, key)
            if device == named or (isinstance(named, tuple) and device in named):
                return f"shedding.{key}"
        return "shedding.lines"


class TariffStep(_Section):
    """A price that holds from a local time of day until the next step's."""

    start: time
    eur_per_mwh: float = Field(ge=-5000, le=50000)


class LocalScheduleSettings(_Section):
    """What batteries do without a plan: flatten the top of the local forecast, or follow known prices."""

    objective: Literal["peak", "price"] = "peak"
    tariff: tuple[TariffStep, ...] = Field(default=(), max_length=96, description="local tariff, where the hub sends no prices")
    wear_eur_per_mwh: float = Field(default=0.0, ge=0, description="price of wear on what a battery delivers")
    eta_charge: float = Field(default=0.96, gt=0, le=1)
    eta_discharge: float = Field(default=0.96, gt=0, le=1)
    end_eur_per_mwh: float | None = Field(default=None, description="worth of energy left at the end; None = mean price")

    @model_validator(mode="after")
    def _ascending(self) -> LocalScheduleSettings:
        starts = [step.start for step in self.tariff]
        if starts != sorted(set(starts)):
            raise ValueError("tariff steps ascend in their time of day")
        return self


class ForecastSettings(_Section):
    """Local forecasting."""

    enabled: bool = True
    issue_every_s: float = Field(default=900.0, ge=1, le=_DAY_S)


class LanPageSettings(_Section):
    """The status page for the substation's own network: read only, without TLS and without a password."""

    address: IPvAnyAddress = Field(description="address of this computer on that network, or 0.0.0.0 for all of them")
    port: Port = 9465


class MetricsSettings(_Section):
    """Prometheus, status and status page: on loopback, and on the local network only where that is asked for."""

    port: int = Field(default=9464, ge=0, le=65535, description="0 = none")
    lan: LanPageSettings | None = Field(default=None, description="also serve the read-only page here; anybody there can read")


class EdgeSettings(_Section):
    """Everything an edge agent is told at its start."""

    edge_id: EdgeId
    state_dir: Path
    site: Site
    hub: HubSettings
    clock: ClockSettings = ClockSettings()
    field_broker: MqttEndpoint | None = None
    cycle: CycleSettings = CycleSettings()
    outbox: OutboxSettings = OutboxSettings()
    trace: TraceSettings = TraceSettings()
    reversion: ReversionSettings = ReversionSettings()
    devices: tuple[DeviceSettings, ...] = Field(min_length=1)
    shedding: SheddingSettings = SheddingSettings()
    forecast: ForecastSettings = ForecastSettings()
    local_schedule: LocalScheduleSettings = LocalScheduleSettings()
    metrics: MetricsSettings = MetricsSettings()
    dry_run: bool = Field(default=False, description="decide, trace and report everything, write nothing to any device")

    @model_validator(mode="after")
    def _consistent(self) -> EdgeSettings:
        ids = [device.id for device in self.devices]
        doubled = sorted({device for device in ids if ids.count(device) > 1})
        if doubled:
            raise ValueError(f"device ids must be unique, {', '.join(doubled)} stands more than once")
        unknown = sorted({*self.shedding.vital, *self.shedding.inputs} - set(ids))
        if unknown:
            near = difflib.get_close_matches(unknown[0], ids, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            more = f" (and {', '.join(unknown[1:])})" if unknown[1:] else ""
            raise ValueError(f"{self.shedding.place_of(unknown[0])} names '{unknown[0]}', no device of this site{hint}{more}")
        if any(device.mqtt for device in self.devices) and self.field_broker is None:
            raise ValueError("field_broker is needed: there are devices that publish over MQTT")
        polls_s = max(max(device.poll_s, self.cycle.floor_wall_s * self.clock.max_speed) for device in self.devices)
        if self.reversion.timer_s < 2 * polls_s:
            raise ValueError(
                f"reversion.timer_s {self.reversion.timer_s:g} s must outlast two polls "
                f"at the fastest clock ({2 * polls_s:g} s)"
            )
        return self


def sample_periods_s(settings: EdgeSettings) -> dict[DeviceId, float]:
    """How often a rule sees a new value of each device: its poll, the cycle and the floor of a fast clock together [s]."""
    cycle, speed = settings.cycle, settings.clock.max_speed
    least_s = max(cycle.period_s, cycle.floor_wall_s * speed if speed > 1.0 else 0.0)
    return {device.id: max(device.poll_s, least_s) for device in settings.devices}
