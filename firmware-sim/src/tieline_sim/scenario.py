"""The scenario file: one frozen tree, unknown keys and wrong types refused with the path of the key."""

from __future__ import annotations

import types
import typing
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import yaml

from tieline_sim.errors import ScenarioError

_MAX_BYTES: Final = 1_000_000
#: At four power flows a second this is one in a hundred and fifty simulated seconds.
MOST_SPEED: Final = 600.0


@dataclass(frozen=True, slots=True)
class NetworkSpec:
    """SimBench network and how it is bent."""

    simbench_code: str
    load_scale: float
    impedance_spread_pct: float = 5.0


@dataclass(frozen=True, slots=True)
class ClockSpec:
    """Speeds of the story; instants are simulated."""

    epoch: datetime
    tick_s: float = 0.25
    quiet_speed: float = 90.0
    normal_before_cut_s: float = 30.0


@dataclass(frozen=True, slots=True)
class NoiseSpec:
    """Seeded relative noise of loads, in percent (one standard deviation)."""

    node_slow_pct: float = 1.5
    node_fast_pct: float = 0.5
    customer_slow_pct: float = 12.0
    customer_fast_pct: float = 3.0


@dataclass(frozen=True, slots=True)
class TransformerSpec:
    """10/0.4 kV transformer; IEC 60076-1 quantities, thermal ones as in IEC 60076-7."""

    rating_kva: float
    vk_pct: float
    vkr_pct: float
    pfe_kw: float
    i0_pct: float
    oil_rise_k: float = 60.0
    oil_time_constant_s: float = 10800.0


@dataclass(frozen=True, slots=True)
class BatterySpec:
    """A battery behind its inverter."""

    id: str
    power_kw: float
    energy_kwh: float
    soc_pct: float
    efficiency: float = 0.96
    soc_min_pct: float = 5.0
    soc_max_pct: float = 95.0
    ramp_s: float = 3.0


@dataclass(frozen=True, slots=True)
class PvSpec:
    """A PV inverter."""

    id: str
    power_kw: float


@dataclass(frozen=True, slots=True)
class SheddableSpec:
    """A customer behind a contactor; its share is of the node's load."""

    unit: int
    priority_class: int
    share: float


@dataclass(frozen=True, slots=True)
class SubstationSpec:
    """One MV node made a substation."""

    id: str
    load: str
    load_scale: float
    transformer: TransformerSpec
    batteries: tuple[BatterySpec, ...]
    pv: tuple[PvSpec, ...]
    sheddable: tuple[SheddableSpec, ...]
    meters: int = 24


@dataclass(frozen=True, slots=True)
class FaultSpec:
    """A named fault; which parameters it takes depends on its kind (see ``faults.py``)."""

    kind: str
    params: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TimelineEntry:
    """At a simulated instant a fault comes or goes."""

    at: datetime
    fault: str
    active: bool


@dataclass(frozen=True, slots=True)
class PriceSpec:
    """Hourly day-ahead prices, EUR/MWh, 24 numbers a local day (UTC+1) from the epoch's day on."""

    days: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class Scenario:
    """Everything a run is made of."""

    version: int
    seed: int
    network: NetworkSpec
    clock: ClockSpec
    substations: tuple[SubstationSpec, ...]
    prices: PriceSpec
    noise: NoiseSpec = NoiseSpec()
    meter_period_s: float = 60.0
    links: tuple[str, ...] = ()
    faults: dict[str, FaultSpec] = field(default_factory=dict)
    timeline: tuple[TimelineEntry, ...] = ()
    edge_timings_s: dict[str, float] = field(default_factory=dict)

    @property
    def epoch_unix_s(self) -> float:
        """Simulated instant the story begins with."""
        return self.clock.epoch.timestamp()

    @property
    def normal_from_unix_s(self) -> float | None:
        """Simulated instant from which speed is 1: some seconds before the first link cut, None without one."""
        cuts = [row.at for row in self.timeline if row.active and self.faults[row.fault].kind in ("link_cut", "link_half_open")]
        return min(cuts).timestamp() - self.clock.normal_before_cut_s if cuts else None


def load_scenario(path: Path) -> Scenario:
    """Read and check a scenario.

    Raises:
        ScenarioError: Names file, key, value and reason.
    """
    source = str(path)
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ScenarioError(source, "", None, f"cannot be read: {error.strerror}") from error
    if len(raw) > _MAX_BYTES:
        raise ScenarioError(source, "", len(raw), f"is larger than {_MAX_BYTES} bytes")
    try:
        tree = yaml.safe_load(raw)
    except yaml.YAMLError as error:
        raise ScenarioError(source, "", None, f"is not YAML: {error}") from error
    scenario = _build(Scenario, tree, source, "")
    assert isinstance(scenario, Scenario)  # noqa: S101 (tells the type checker what _build returned)
    _check(scenario, source)
    return scenario


def _build(kind: Any, value: Any, source: str, key: str) -> Any:
    """Turn plain YAML values into the annotated type."""
    origin = typing.get_origin(kind)
    if is_dataclass(kind):
        return _build_record(kind, value, source, key)
    if origin is tuple:
        if not isinstance(value, list):
            raise ScenarioError(source, key, value, "must be a list")
        inner = typing.get_args(kind)[0]
        return tuple(_build(inner, item, source, f"{key}[{number}]") for number, item in enumerate(value))
    if origin is dict:
        if not isinstance(value, dict):
            raise ScenarioError(source, key, value, "must be a mapping")
        inner = typing.get_args(kind)[1]
        return {str(name): _build(inner, item, source, f"{key}.{name}") for name, item in value.items()}
    return _scalar(kind, value, source, key)


def _scalar(kind: Any, value: Any, source: str, key: str) -> Any:
    if kind is Any:
        return value
    if kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if kind is datetime:
        if not isinstance(value, datetime) or value.tzinfo is None:
            raise ScenarioError(source, key, value, "must be an instant with a zone, such as 2016-12-14T15:30:00Z")
        return value
    if not isinstance(kind, types.UnionType) and isinstance(value, kind) and isinstance(value, bool) == (kind is bool):
        return value
    raise ScenarioError(source, key, value, f"must be of type {getattr(kind, '__name__', kind)}")


def _build_record(kind: Any, value: Any, source: str, key: str) -> Any:
    if not isinstance(value, dict):
        raise ScenarioError(source, key, value, "must be a mapping")
    hints = typing.get_type_hints(kind)
    known = {item.name: item for item in fields(kind)}
    prefix = f"{key}." if key else ""
    if kind is FaultSpec:
        value = {"kind": value.get("kind"), "params": {name: item for name, item in value.items() if name != "kind"}}
    for name, item in value.items():
        if name not in known:
            raise ScenarioError(source, f"{prefix}{name}", item, f"unknown key; known are {', '.join(known)}")
    made = {name: _build(hints[name], item, source, f"{prefix}{name}") for name, item in value.items()}
    for name, item in known.items():
        if name not in made and item.default is MISSING and item.default_factory is MISSING:
            raise ScenarioError(source, f"{prefix}{name}", None, "is missing")
    return kind(**made)


def _check(scenario: Scenario, source: str) -> None:
    if scenario.version != 1:
        raise ScenarioError(source, "version", scenario.version, "only version 1 is known")
    if not 0 < scenario.clock.quiet_speed <= MOST_SPEED:
        raise ScenarioError(source, "clock.quiet_speed", scenario.clock.quiet_speed, f"must lie in (0, {MOST_SPEED:g}]")
    names = [spec.id for spec in scenario.substations]
    if len(set(names)) != len(names) or not names:
        raise ScenarioError(source, "substations", names, "need at least one, each with its own id")
    for number, spec in enumerate(scenario.substations):
        shares = sum(item.share for item in spec.sheddable)
        if not 0 <= shares < 1:
            raise ScenarioError(source, f"substations[{number}].sheddable", shares, "shares must sum to less than 1")
    for number, entry in enumerate(scenario.timeline):
        if entry.fault not in scenario.faults:
            raise ScenarioError(source, f"timeline[{number}].fault", entry.fault, "is not among faults")
    from tieline_sim.faults import check_fault

    for name, fault in scenario.faults.items():
        check_fault(fault, scenario, source, f"faults.{name}")
