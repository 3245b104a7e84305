"""``make bench-trace``: bytes the trace takes a device and day at a cycle of 1 s, and how long it keeps a site of 100 devices.

Ten devices live through ``HOURS`` (default 24) of decisions by the real arbiter: batteries under a plan of quarter hours with
ramps, one battery that follows a meter and so moves every second, plants under a cap that changes every five minutes, loads
that are shed and restored. All writes are confirmed, have their effect, and are refreshed once a minute.
"""

from __future__ import annotations

import os
import random
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.bench.result import write
from tieline_core.ids import DeviceId
from tieline_core.messages.command import CommandState
from tieline_edge.control.arbiter import decide
from tieline_edge.control.claims import Band, Claim, Failsafe, Interval
from tieline_edge.control.effect import same
from tieline_edge.control.executor import Outcome
from tieline_edge.control.facts import DeviceFacts, SiteFacts
from tieline_edge.control.memory import ArbiterMemory
from tieline_edge.control.replay import Asked
from tieline_edge.control.ring import RingReader
from tieline_edge.control.trace import DEFAULT_MAX_BYTES, Trace
from tieline_edge.drivers.capabilities import Action, Capability, DeviceSpec, Role

START = datetime(2016, 12, 7, tzinfo=UTC)
FOLLOWER = DeviceId("bat3")


def site() -> dict[DeviceId, DeviceSpec]:
    """Three batteries, three plants, four loads."""
    specs = [
        DeviceSpec(
            DeviceId(f"bat{n}"),
            Role.STORAGE,
            frozenset({Capability.HOLD_POWER}),
            None,
            -50e3,
            50e3,
            1e5,
            10.0,
            90.0,
            reverts=True,
            ramp_w_per_s=2e3,
            dead_time_s=3.0,
        )
        for n in (1, 2, 3)
    ]
    specs += [
        DeviceSpec(DeviceId(f"pv{n}"), Role.PV, frozenset({Capability.LIMIT_GENERATION}), None, -40e3, 0.0, reverts=True)
        for n in (1, 2, 3)
    ]
    specs += [
        DeviceSpec(DeviceId(f"load{n}"), Role.LOAD, frozenset({Capability.SWITCH}), 3, min_off_s=60.0, off_timer=True)
        for n in (1, 2, 3, 4)
    ]
    return {spec.device_id: spec for spec in specs}


def claims(second: int, dice: random.Random) -> tuple[Claim, ...]:
    """What is wanted at a second of the day."""
    now = START + timedelta(seconds=second)
    soon, step = now + timedelta(seconds=30), second // 900
    found = []
    for n in (1, 2, 3):
        planned = 1e3 * ((step * 7 * n) % 60 - 30)
        found.append(
            Claim(DeviceId(f"bat{n}"), Band.PLAN, "plan", f"plan p-{step // 96}, step {step}", planned, expires_at=soon)
        )
        cap = Interval(lo=-40e3 + 500.0 * ((second // 300) % 40))
        failsafe = Failsafe(Interval(-10e3, 0.0), 60.0)
        found.append(Claim(DeviceId(f"pv{n}"), Band.ENVELOPE, "cap", "feeder 3", limit=cap, expires_at=soon, failsafe=failsafe))
    follow = float(round(-20e3 + dice.gauss(0.0, 3e3)))
    found.append(Claim(FOLLOWER, Band.SAFETY, "import-cap", f"import {follow:.1f} W above", follow, expires_at=soon))
    for n in (1, 2, 3, 4):
        device = DeviceId(f"load{n}")
        found.append(Claim(device, Band.DEFAULT, "default", "nobody wants it open", closed=True, expires_at=soon))
        if (second // 3600) % 6 == n:
            reason = f"transformer at {100 + dice.random() * 10:.1f} %"
            found.append(Claim(device, Band.SAFETY, "thermal-overload", reason, closed=False, expires_at=soon))
    return tuple(found)


def run(path: Path, hours: float) -> dict[str, object]:
    """Live through the hours; returns the figures."""
    specs, dice, memory = site(), random.Random(1), ArbiterMemory()
    trace, wrote, spent_s = Trace.open(path), dict[DeviceId, tuple[Action, int]](), 0.0
    for second in range(int(3600 * hours)):
        now = START + timedelta(seconds=second)
        known = {
            device: DeviceFacts(
                round(dice.gauss(1e4, 50.0)), 50.0 + 0.1 * (second // 900 % 90), True, {"p_w": 0.3, "soc_pct": 0.3}
            )
            for device in specs
        }
        asked = Asked(specs, claims(second, dice), memory, SiteFacts(known), now, 180.0)
        judged = decide(specs, asked.claims, memory, asked.facts, now, 180.0)
        memory = judged.memory
        due = {
            device
            for device, one in judged.by_device.items()
            if one.action is not None
            and (
                device not in wrote
                or not same(specs[device], wrote[device][0], one.action)
                or (specs[device].reverts and second - wrote[device][1] >= 60)
            )
        }
        began = time.perf_counter()
        trace.decided(judged.by_device, asked, now, due)
        for device in due:
            action = judged.by_device[device].action
            assert action is not None
            again = device in wrote and same(specs[device], wrote[device][0], action)
            wrote[device] = action, second
            text = f"registers {action}"[:40]
            trace.happened(Outcome(device, CommandState.CONFIRMED, action, "plan", text, now, again))
        spent_s += time.perf_counter() - began
        trace.flush()
    trace.close()
    with RingReader(path) as ring:
        rows = dict(ring._db.execute("SELECT device, sum(lines) FROM block GROUP BY device"))
        packed = dict(ring._db.execute("SELECT device, sum(length(body)) FROM block GROUP BY device"))
        loose = dict(ring._db.execute("SELECT device, sum(length(body)) FROM line GROUP BY device"))
    days = hours / 24.0
    by_device = {device: round((packed.get(device, 0) + loose.get(device, 0) / 15) / days) for device in specs}
    plain = [size for device, size in by_device.items() if device != FOLLOWER]
    hundred = 95 * sum(plain) / len(plain) + 5 * by_device[FOLLOWER]
    return {
        "hours": hours,
        "rows_packed": rows,
        "bytes_a_device_day": by_device,
        "file_bytes": path.stat().st_size,
        "bytes_a_day_of_100_devices_5_of_them_following": round(hundred),
        "days_kept_of_100_devices": round(DEFAULT_MAX_BYTES / hundred, 1),
        "loop_us_a_device_cycle": round(1e6 * spent_s / (3600 * hours * len(specs)), 2),
    }


def main() -> None:
    """Measure, print and keep."""
    with TemporaryDirectory() as folder:
        figures = run(Path(folder) / "trace.sqlite", float(os.environ.get("HOURS", "24")))
    write("trace", figures, ("zstandard", "pydantic"))


if __name__ == "__main__":
    main()
