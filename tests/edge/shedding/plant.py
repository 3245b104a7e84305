"""A small site for closed loops: a transformer with loads, batteries and a plant that do what the rules claim.

Its arithmetic is its own: power balance, a delay line for what the transformer shows, and nothing of the product.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from tieline_core.ids import DeviceId, EdgeId, PointId
from tieline_core.quantities import Quality, Reading
from tieline_edge.control.claims import NO_LIMIT, Claim, Interval
from tieline_edge.control.facts import AgeLimits, gather
from tieline_edge.drivers.capabilities import Capability, DeviceSpec, Role
from tieline_edge.settings import SheddingSettings
from tieline_edge.shedding.rule import RuleEvent, RuleResult, RuleSite, RuleView
from tieline_edge.shedding.rule_set import RuleSet
from tieline_edge.shedding.rules import load_rules
from tieline_edge.snapshot import ProcessImage

START = datetime(2016, 12, 7, 18, tzinfo=UTC)
EDGE = EdgeId("harbour")
TR, METER, SECOND = DeviceId("tr1"), DeviceId("fm1"), DeviceId("fm2")
RATED_VA = 100e3
_WOBBLE: Mapping[str, float] = {"f_hz": 0.002, "v_v": 0.1, "i_a": 0.05}
#: Times in which a test does not have to wait for hours.
QUICK: Mapping[str, Any] = {
    "effect_s": 2,
    "min_off_s": 15,
    "restore_step_s": 5,
    "restore_spread_s": 2,
    "restore_step_share": 0.01,
    "cold_load_factor": 1.3,
    "cold_load_s": 0.001,
    "relapse_s": 0,
}
LEVELS: Mapping[str, Any] = {"hold_s": 10, "severe_hold_s": 5, "restore_hold_s": 20}
LOADS: Mapping[str, tuple[int, float]] = {
    "l41": (4, 6e3),
    "l42": (4, 4e3),
    "l31": (3, 12e3),
    "l32": (3, 8e3),
    "l11": (1, 10e3),
    "l01": (0, 5e3),
}


def shedding(**rest: Any) -> SheddingSettings:
    """Settings of a watched transformer in quick times; no battery helps unless a test says so."""
    told = {
        "transformer": "tr1",
        "thermal_overload": LEVELS,
        "switching": QUICK,
        "storage": {"relieve": False, "hold_s": 5},
        **rest,
    }
    return SheddingSettings.model_validate(told)


@dataclass
class Battery:
    """A battery that follows the limits it is given at once, or rests when it does not ``obey``."""

    rated_w: float
    energy_wh: float = 1e9
    soc_pct: float = 50.0
    p_w: float = 0.0
    wanted_w: float = 0.0
    obeys: bool = True


@dataclass
class Plant:
    """The site. Public fields are what a test turns.

    Attributes:
        delay_s: What the transformer shows is so old, though its time stamp says otherwise.
        gain: True relief of a load as a multiple of what is measured of it.
        disobedient: Loads that ignore their contactor.
        unmeasured: Loads whose power nobody measures.
        extra: Further values by device and quantity, or other values than the true ones.
        frozen: These values do not even wobble.
        live: The busbar is.
    """

    settings: SheddingSettings = field(default_factory=shedding)
    loads: Mapping[str, tuple[int, float]] = field(default_factory=lambda: LOADS)
    batteries: dict[str, Battery] = field(default_factory=dict)
    pv_rated_w: float = 0.0
    base_w: float = 45e3
    delay_s: int = 0
    gain: float = 1.0
    seed: int = 1
    poll_s: float = 1.0
    quality: Quality = Quality.GOOD
    known: bool = True
    disobedient: set[str] = field(default_factory=set)
    unmeasured: set[str] = field(default_factory=set)
    tagged: set[str] = field(default_factory=set)
    extra: dict[tuple[str, str], float] = field(default_factory=dict)
    frozen: bool = False
    live: bool = True

    def __post_init__(self) -> None:
        self.now = START
        self.closed = dict.fromkeys(self.loads, True)
        self.pv_w = self.pv_rated_w
        self.pv_limit_w = -self.pv_rated_w
        self.events: list[tuple[float, RuleEvent]] = []
        self.switched: list[tuple[float, str, bool]] = []
        self.limits: dict[str, Interval] = {}
        self.claims: tuple[Claim, ...] = ()
        self.noise = random.Random(self.seed)
        self._seen: deque[float] = deque(maxlen=self.delay_s + 1)
        self.rules = self.load(self.settings)

    def load(self, settings: SheddingSettings) -> RuleSet:
        """A fresh set of rules for this site."""
        return load_rules(self.site(settings), random.Random(self.seed))

    def site(self, settings: SheddingSettings, **rest: Any) -> RuleSite:
        """The site as the rules are told of it."""
        poll_s = dict.fromkeys(self.specs(), self.poll_s)
        return RuleSite(EDGE, RATED_VA, self.specs(), settings, poll_s, **rest)

    def specs(self) -> dict[DeviceId, DeviceSpec]:
        """All devices."""
        measures = frozenset({Capability.MEASURE})
        specs = {TR: DeviceSpec(TR, Role.TRANSFORMER, measures)}
        specs |= {device: DeviceSpec(device, Role.METER, measures) for device in (METER, SECOND)}
        for name, (priority, _) in self.loads.items():
            specs[DeviceId(name)] = DeviceSpec(DeviceId(name), Role.LOAD, frozenset({Capability.SWITCH}), priority)
        for name, one in self.batteries.items():
            specs[DeviceId(name)] = DeviceSpec(
                DeviceId(name), Role.STORAGE, frozenset({Capability.HOLD_POWER}), None, -one.rated_w, one.rated_w, one.energy_wh
            )
        if self.pv_rated_w:
            device, able = DeviceId("pv1"), frozenset({Capability.LIMIT_GENERATION})
            specs[device] = DeviceSpec(device, Role.PV, able, None, -self.pv_rated_w)
        return specs

    @property
    def flow_w(self) -> float:
        """True power of the transformer, positive towards the loads [W]."""
        loads = sum(power * self.gain for name, (_, power) in self.loads.items() if self.closed[name])
        return self.base_w + loads + sum(one.p_w for one in self.batteries.values()) - self.pv_w

    @property
    def loading_pct(self) -> float:
        """True loading [%]."""
        return 100.0 * abs(self.flow_w) / RATED_VA

    @property
    def t(self) -> float:
        """Seconds since the start."""
        return (self.now - START).total_seconds()

    @property
    def open(self) -> set[str]:
        """Loads whose contactor is open."""
        return {name for name, closed in self.closed.items() if not closed}

    @property
    def codes(self) -> list[str]:
        """Codes of everything that was told."""
        return [event.code for _, event in self.events]

    def at(self, code: str) -> list[float]:
        """When something was told."""
        return [t for t, event in self.events if event.code == code]

    def readings(self) -> list[Reading]:
        """What the meters show."""
        self._seen.append(self.flow_w)
        shown_w = self._seen[0] + self.noise.uniform(-5.0, 5.0)
        values: dict[tuple[str, str], float] = {}
        if self.known:
            values |= {("tr1", "loading_pct"): 100.0 * abs(shown_w) / RATED_VA, ("tr1", "p_w"): shown_w, ("tr1", "q_var"): 0.0}
        values |= {("tr1", "breaker_closed"): float(self.live), ("tr1", "v_v"): 400.0 * self.live}
        for name, (_, power) in self.loads.items():
            values[name, "closed"] = float(self.closed[name])
            if name not in self.unmeasured:
                values[name, "p_w"] = power if self.closed[name] else 0.0
        for name, one in self.batteries.items():
            values |= {(name, "p_w"): one.p_w, (name, "soc_pct"): one.soc_pct}
        if self.pv_rated_w:
            values["pv1", "p_w"] = -self.pv_w
        for (name, quantity), value in self.extra.items():
            # Real frequencies and voltages never stand still.
            wobble = 0.0 if self.frozen else _WOBBLE.get(quantity, 0.0)
            values[name, quantity] = value + self.noise.uniform(-wobble, wobble)
        watched = {"tr1", "fm1", "fm2"}
        return [
            Reading(
                PointId.of(EDGE, DeviceId(name), quantity), value, self.now, self.quality if name in watched else Quality.GOOD
            )
            for (name, quantity), value in values.items()
        ]

    def view(self) -> RuleView:
        """What the rules see now."""
        return self.view_of(self.readings())

    def view_of(self, readings: list[Reading]) -> RuleView:
        """What they see when only this was read."""
        image, ages = ProcessImage(), AgeLimits(4.0)
        image.put(readings)
        snapshot = image.freeze(self.now)
        facts = gather(snapshot, EDGE, self.specs(), ages, frozenset(map(DeviceId, self.tagged)))
        return RuleView(self.now, snapshot, facts, ages)

    def run(self, seconds: float, period_s: float = 1.0) -> None:
        """Let it live."""
        for _ in range(round(seconds / period_s)):
            self.obey(self.rules.step(self.view()))
            self.now += timedelta(seconds=period_s)

    def obey(self, result: RuleResult) -> None:
        """Do what is claimed."""
        self.claims = result.claims
        self.events.extend((self.t, event) for event in result.events)
        wanted_open = {str(claim.device) for claim in result.claims if claim.closed is False}
        for name, was in self.closed.items():
            closed = name not in wanted_open
            if closed != was and name not in self.disobedient:
                self.closed[name] = closed
                self.switched.append((self.t, name, closed))
        self.limits = {}
        for claim in result.claims:
            if claim.limit is not None and claim.limit != NO_LIMIT:
                held = self.limits.get(str(claim.device), NO_LIMIT)
                self.limits[str(claim.device)] = held.meet(claim.limit) or Interval(0.0, 0.0)
        for name, one in self.batteries.items():
            one.p_w = self.limits.get(name, NO_LIMIT).clamp(one.wanted_w) if one.obeys else 0.0
            one.p_w = 0.0 if one.soc_pct <= 0.0 and one.p_w < 0.0 else one.p_w
            one.soc_pct = min(100.0, max(0.0, one.soc_pct + one.p_w / one.energy_wh / 36.0))
        if self.pv_rated_w:
            self.pv_w = min(self.pv_rated_w, -self.limits.get("pv1", Interval(lo=-self.pv_rated_w)).lo)

    def switchings(self, name: str, closed: bool) -> list[float]:
        """When a load was opened (or closed)."""
        return [t for t, who, to in self.switched if who == name and to == closed]
