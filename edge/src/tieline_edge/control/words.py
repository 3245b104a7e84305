"""The words of ``why``: what a substation engineer reads. Instants are told in the site's zone and in UTC."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from tieline_edge.control.replay import action_to_json
from tieline_edge.drivers.capabilities import HoldPower, LimitGeneration, Release, SwitchContact

#: Bands as an engineer calls them.
SPEAKERS: Final = {
    "interlock": "hard limit",
    "safety": "local protection",
    "operator": "operator",
    "envelope": "network limit of the hub",
    "plan": "plan",
    "default": "default",
}
#: Quantities with the words and units of their values.
_QUANTITIES: Final = {"p_w": "power", "soc_pct": "state of charge", "closed": "position"}


def watts(value_w: float) -> str:
    """A power with the prefix people use: 950 W, 5 kW, 1.25 MW."""
    size = abs(value_w)
    if size >= 1e6:
        return f"{value_w / 1e6:.6g} MW"
    return f"{value_w / 1e3:.6g} kW" if size >= 1e3 else f"{value_w:.4g} W"


def action_words(action: Mapping[str, Any] | HoldPower | LimitGeneration | SwitchContact | Release | None) -> str:
    """An action, or its JSON form, in words."""
    value = action if action is None or isinstance(action, Mapping) else action_to_json(action)
    if value is None:
        return "left alone"
    if value["do"] == "hold":
        power_w = value["power_w"]
        way = "charge" if power_w > 0 else ("discharge" if power_w < 0 else "rest")
        return f"hold {watts(power_w)} ({way})"
    if value["do"] == "limit":
        limit_w = value["min_power_w"]
        return "no limit of generation" if limit_w is None else f"deliver at most {watts(-limit_w)}"
    if value["do"] == "switch":
        return "close" if value["closed"] else "open"
    return "release to its own default"


def instant_words(at: datetime | str, zone: ZoneInfo) -> str:
    """An instant in the site's zone, with UTC beside it where that differs."""
    when = datetime.fromisoformat(at) if isinstance(at, str) else at
    utc = when.astimezone(UTC)
    local = when.astimezone(zone)
    if local.utcoffset() == utc.utcoffset():
        return f"{utc:%Y-%m-%d %H:%M:%S} UTC"
    return f"{local:%Y-%m-%d %H:%M:%S %Z} ({utc:%H:%M:%S} UTC)"


def explanation_words(answer: Mapping[str, Any], zone: ZoneInfo) -> str:
    """The document of :func:`tieline_edge.control.explain.explain` as text."""
    head = f"{answer['device']} at {instant_words(answer['at'], zone)}: {answer['words']}"
    kept = instant_words(answer["decided_at"], zone)
    since = instant_words(answer["since"], zone)
    lines = [head, f"  decided   {since}" + ("" if since == kept else f"; last seen unchanged {kept}")]
    if answer["away"] is not None:
        lines.insert(1, f"  NOTE      {answer['away']}")
    winner = answer["winner"]
    nobody = "nobody claims a setpoint; see the limits below" if answer["limits"] else "nobody claims a setpoint or position"
    lines.append(f"  because   {nobody if winner is None else _claim(winner)}")
    lines += [f"  against   {_claim(claim)}" for claim in answer["losers"]]
    lines += [f"  limit     {_claim(claim)}" for claim in answer["limits"]]
    lines += [f"  dropped   {_claim(claim)}" for claim in answer["dropped"]]
    if answer["limits"]:
        lines.append(f"  leaves    {answer['interval']}")
    lines += [f"  note      {text}" for text in answer["notes"]]
    inputs = [_input(name, answer["values"].get(name), age) for name, age in sorted(answer["ages_s"].items())]
    lines.append("  inputs    " + (", ".join(inputs) or "nothing was ever measured of it"))
    lines += [f"  written   {_write(write, zone)}" for write in answer["writes"]]
    if not answer["writes"]:
        lines.append("  written   nothing: the device does this by itself, or is left alone")
    if answer["replay"] is not None:
        lines.append(f"  replay    {_replay(answer['replay'])}")
    return "\n".join(lines)


def timeline_words(answer: Mapping[str, Any], zone: ZoneInfo) -> str:
    """The document of :func:`tieline_edge.control.explain.timeline` as text, a line a change."""
    lines = [f"{answer['device']}, {instant_words(answer['since'], zone)} to {instant_words(answer['until'], zone)}"]
    for line in answer["lines"]:
        what = f"wrote {line['words']}" if line["kind"] == "write" else line["words"]
        lines.append(f"  {instant_words(line['at'], zone)}  {what}: {line['because']}")
    if answer["more"]:
        lines.append(f"  ... and more: only the first {len(answer['lines'])} lines are shown; ask for a shorter span")
    return "\n".join(lines)


def _claim(claim: list[str]) -> str:
    band, source, wish, reason = claim
    return f"{SPEAKERS.get(band, band)} ({source}): {wish}, {reason}"


def _input(name: str, value: object, age_s: float) -> str:
    age = f"{age_s:.3g} s old"
    if value is None:
        return f"{_QUANTITIES.get(name, name)} not usable ({age})"
    if name == "closed":
        told = "closed" if value else "open"
    elif name == "soc_pct":
        told = f"{value:g} %"
    else:
        told = watts(float(str(value)))
    return f"{_QUANTITIES.get(name, name)} {told} ({age})"


def _write(write: Mapping[str, Any], zone: ZoneInfo) -> str:
    at = instant_words(write["at"], zone)
    if "refreshed" in write:
        return f"and again {write['refreshed']} times from {instant_words(write['first'], zone)} to {at}, confirmed each time"
    again = " again" if write["refresh"] else ""
    return f"{at} {write['words']}{again}: {write['state']}, {write['text']}"


def _replay(replay: Mapping[str, Any]) -> str:
    if replay["same"]:
        return f"asked again, the arbiter answers the same: {replay['answer']}"
    return f"DIFFERS: {replay['reason']}"
