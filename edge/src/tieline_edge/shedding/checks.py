"""What a set of rules must not be told: holds too short for their input, and devices that cannot be shed. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from tieline_core.ids import DeviceId
from tieline_edge.settings import SheddingSettings

#: So many samples of its input a hold must contain.
SAMPLES: Final = 3


def hold_mistakes(settings: SheddingSettings, poll_s: Mapping[DeviceId, float]) -> Iterator[tuple[str, float, str]]:
    """Holds shorter than three samples of their input, as key, value and reason.

    Args:
        settings: What the rules are told.
        poll_s: How often each device is read [s]; devices without an entry are not judged.
    """
    frequency, voltage = settings.frequency, settings.voltage
    if settings.frequency_at:
        holds = {f"frequency.stages.{stage.name}.hold_s": stage.hold_s for stage in frequency.stages}
        holds |= {"frequency.droop_hold_s": frequency.droop_hold_s, "frequency.high_hold_s": frequency.high_hold_s}
        yield from _too_short(holds, settings.frequency_at, poll_s)
    if settings.voltage_at:
        holds = {f"voltage.{key}": getattr(voltage, key) for key in ("hold_s", "severe_hold_s", "high_hold_s")}
        yield from _too_short(holds, settings.voltage_at, poll_s)


def _too_short(
    holds: Mapping[str, float], sources: tuple[DeviceId, ...], poll_s: Mapping[DeviceId, float]
) -> Iterator[tuple[str, float, str]]:
    slowest = max(sources, key=lambda device: poll_s.get(device, 0.0))
    least_s = SAMPLES * poll_s.get(slowest, 0.0)
    for key, hold_s in holds.items():
        if hold_s < least_s - 1e-9:
            reason = (
                f"shorter than {SAMPLES} samples of its input: {slowest} is read every {poll_s[slowest]:g} s, "
                f"so at least {least_s:g} s; read it more often or hold longer"
            )
            yield f"shedding.{key}", hold_s, reason
