"""What one seed stands for: a site, its weather, its orders and its misfortunes, drawn once and replayable for ever."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tieline_core.ids import DeviceId
from tieline_edge.settings import EdgeSettings

EDGE: Final = "sim"
VITAL: Final = "vit1"
TRANSFORMER: Final = "tr1"


@dataclass(frozen=True, slots=True)
class Pace:
    """How often something of a kind begins [mean seconds between two]; infinite = never."""

    every_s: dict[str, float] = field(default_factory=dict)

    def draw(self, rng: random.Random, until_s: float) -> list[tuple[float, str]]:
        """Instants at which something begins, in order."""
        found: list[tuple[float, str]] = []
        for kind, mean_s in self.every_s.items():
            at_s = rng.expovariate(1.0 / mean_s)
            while at_s < until_s:
                found.append((at_s, kind))
                at_s += rng.expovariate(1.0 / mean_s)
        return sorted(found)


#: Kinds of trouble, and how many seconds lie between two of a kind on average in a troubled seed.
TROUBLES: Final = {
    "overload": 450.0,
    "device dead": 900.0,
    "device slow": 900.0,
    "device lies": 2400.0,
    "device deaf": 1500.0,
    "device refuses": 3000.0,
    "sensor stuck": 3000.0,
    "sensor nan": 1800.0,
    "bus dead": 2400.0,
    "hand": 2400.0,
    "link cut": 500.0,
    "link black hole": 900.0,
    "link one way": 1500.0,
    "link refused": 900.0,
    "duplicates": 1500.0,
    "disk errors": 1800.0,
    "disk full": 2400.0,
    "kill": 900.0,
    "kill at work": 900.0,
    "power cut": 1800.0,
    "freeze": 2400.0,
    "bogus ack": 900.0,
    "replay": 400.0,
}
#: What people and the hub do meanwhile.
BUSINESS: Final = {"plan": 600.0, "command": 240.0, "bad command": 500.0, "policy": 2000.0}
#: Wrong clocks are their own kind of day: minimum times are measured with them.
CLOCKS: Final = {"clock step": 1200.0}


@dataclass(frozen=True, slots=True)
class Scenario:
    """Everything that is decided before the first second.

    Attributes:
        hours: Simulated time with faults; a while without any follows.
        shuffle: What is ready at once runs in any order.
        cycle_s: Period of the control loop; a second at one site in thirty, for time is what a campaign is short of.
        poll_s: Poll period of the devices.
        link_share: Share of the time in which the hub can be reached.
    """

    seed: int
    hours: float
    shuffle: bool
    cycle_s: float
    poll_s: float
    commit_s: float
    link_share: float
    batteries: int
    loads: int
    clock_steps: bool
    happenings: tuple[tuple[float, str], ...]

    @classmethod
    def of(cls, seed: int, hours: float) -> Scenario:
        """Draw a scenario."""
        rng = random.Random(f"scenario {seed}")
        clock_steps = rng.random() < 0.2
        quick = rng.random() < 1.0 / 30.0
        calm = rng.choice((0.7, 1.0, 2.0))
        kinds = {**TROUBLES, **BUSINESS, **(CLOCKS if clock_steps else {})}
        pace = Pace({kind: mean_s * (calm if kind in TROUBLES else 1.0) for kind, mean_s in kinds.items()})
        return cls(
            seed=seed,
            hours=hours,
            shuffle=rng.random() < 0.5,
            cycle_s=1.0 if quick else rng.choice((3.0, 4.0, 5.0)),
            poll_s=rng.choice((1.0, 2.0)) if quick else rng.choice((4.0, 5.0)),
            commit_s=rng.choice((0.5, 1.0)) if quick else random.Random(f"commit {seed}").choice((2.0, 4.0)),
            link_share=rng.choice((0.05, 0.1, 0.1, 0.3)),
            batteries=rng.choice((1, 1, 1, 2)),
            loads=rng.randint(2, 4),
            clock_steps=clock_steps,
            happenings=tuple(pace.draw(rng, hours * 3600.0)),
        )

    def settings(self, folder: Path, public_key: str) -> EdgeSettings:
        """The configuration of the agent at this site."""
        rng = random.Random(f"site {self.seed}")
        devices: list[dict[str, Any]] = [
            {
                "id": TRANSFORMER,
                "catalog": "transformer-bay-opcua",
                "opcua": {"url": "opc.tcp://field:4840"},
                "poll_s": self.cycle_s,
            }
        ]
        for number in range(self.batteries):
            rating_w = rng.choice((20e3, 60e3))
            devices.append(
                {
                    "id": f"bat{number + 1}",
                    "catalog": "sunspec-storage-704",
                    "modbus": {"host": "field", "unit": 10 + number},
                    "p_min_w": -rating_w,
                    "p_max_w": rating_w,
                    "energy_wh": rng.choice((20e3, 100e3)),
                    "soc_min_pct": 10.0,
                    "soc_max_pct": 90.0,
                    "ramp_w_per_s": rating_w / 20.0,
                    "dead_time_s": 10.0,
                    "poll_s": self.poll_s,
                }
            )
        devices.append(
            {
                "id": "pv1",
                "catalog": "sunspec-pv-704",
                "modbus": {"host": "field", "unit": 20},
                "p_min_w": -50e3,
                "ramp_w_per_s": 2500.0,
                "poll_s": self.poll_s,
            }
        )
        # Several classes under one transformer, and at some sites two loads of one class.
        classes = rng.sample((1, 2, 2, 3, 4), self.loads)
        for number in range(self.loads + 1):
            vital = number == self.loads
            devices.append(
                {
                    "id": VITAL if vital else f"load{number + 1:02d}",
                    "catalog": "modbus-load-switch-latched" if vital or rng.random() < 0.3 else "modbus-load-switch",
                    "modbus": {"host": "field", "unit": 30 + number},
                    "priority_class": 0 if vital else classes[number],
                    "p_max_w": 100e3,
                    "min_on_s": 60.0,
                    "min_off_s": rng.choice((60.0, 120.0)),
                    "poll_s": self.poll_s,
                }
            )
        return EdgeSettings.model_validate(
            {
                "edge_id": EDGE,
                "state_dir": folder,
                "site": {"name": "Simulated", "rated_va": 250e3},
                "hub": {
                    "mqtt": {"host": "127.0.0.1", "port": 1883, "insecure": True},
                    "http": "http://127.0.0.1:8080",
                    "public_keys": [public_key],
                },
                "cycle": {"period_s": self.cycle_s},
                "outbox": {"commit_interval_s": self.commit_s},
                "reversion": {"refresh_s": 60.0, "timer_s": 180.0},
                "devices": devices,
                "shedding": {
                    "transformer": TRANSFORMER,
                    "vital": [VITAL],
                    "thermal_overload": {
                        "hold_s": 20.0,
                        "severe_hold_s": 5.0,
                        "restore_hold_s": 60.0,
                    },
                    "switching": {"restore_step_s": 20.0, "restore_spread_s": 10.0, "min_off_s": 60.0, "failed_s": 600.0},
                    "loss_of_mains": {"stable_s": 20.0},
                },
                "forecast": {"enabled": False},
                "metrics": {"port": 0},
            }
        )


def loads_of(settings: EdgeSettings) -> list[DeviceId]:
    """Ids of the switchable loads, the vital one last."""
    return [device.id for device in settings.devices if device.priority_class is not None]
