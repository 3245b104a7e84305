"""The tick sheet of a point-to-point checkout: what was seen, what was done, and what a person said of it."""

from __future__ import annotations

import html
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from tieline_core.ids import DeviceId, EdgeId
from tieline_edge.control.state_file import StateFile

_SIGNS: Final = {"pass": "✓", "fail": "✗", "open": "☐"}


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Tick(StrEnum):
    """What a person said."""

    PASS = "pass"  # noqa: S105 (a tick, no secret)
    FAIL = "fail"
    OPEN = "open"
    """Not judged (yet)."""


class PointRow(_Row):
    """One point, as it was seen and judged."""

    quantity: str
    value: float | None
    unit: str
    words: str
    mark: Literal["ok", "odd", "bad"]
    reason: str
    seen_at: AwareDatetime
    tick: Tick = Tick.OPEN
    remark: str = ""


class Step(_Row):
    """One order to a device and what became of it."""

    what: str
    read_back: str = ""
    confirmed: bool | None = None
    effect: str = ""
    effective: bool | None = None


class ActuationRow(_Row):
    """One actuator, as it was moved and judged."""

    name: str
    consent: bool
    note: str = Field(default="", description="why it was not moved, or not all the way")
    steps: tuple[Step, ...] = ()
    done_at: AwareDatetime | None = None
    tick: Tick = Tick.OPEN
    remark: str = ""

    @property
    def good(self) -> bool:
        """Every order was read back and had its effect."""
        return bool(self.steps) and not self.note and all(step.confirmed and step.effective is not False for step in self.steps)


class DeviceRow(_Row):
    """One device; done when all of it was judged."""

    device: DeviceId
    catalog: str
    place: str
    note: str = ""
    points: tuple[PointRow, ...] = ()
    actuations: tuple[ActuationRow, ...] = ()
    done: bool = False


class Sheet(_Row):
    """A whole checkout."""

    version: Literal[1] = 1
    edge_id: EdgeId
    site: str
    by: str = Field(min_length=2, max_length=64)
    began_at: AwareDatetime
    ended_at: AwareDatetime | None = None
    software: str
    config_sha256: str
    devices: tuple[DeviceRow, ...] = ()

    def of(self, device: DeviceId) -> DeviceRow | None:
        """The row of a device."""
        return next((row for row in self.devices if row.device == device), None)

    def with_device(self, row: DeviceRow) -> Sheet:
        """The same with this row, in its place or at the end."""
        known = [one.device for one in self.devices]
        if row.device not in known:
            return self.model_copy(update={"devices": (*self.devices, row)})
        return self.model_copy(update={"devices": tuple(row if one.device == row.device else one for one in self.devices)})

    @property
    def ticks(self) -> list[Tick]:
        """All of them."""
        points = [point.tick for row in self.devices for point in row.points]
        return [*points, *(act.tick for row in self.devices for act in row.actuations)]


def markdown(sheet: Sheet) -> str:
    """The sheet to be printed and signed off."""
    return "\n".join(_markdown_lines(sheet)) + "\n"


def _markdown_lines(sheet: Sheet) -> Iterator[str]:
    ended = "not finished" if sheet.ended_at is None else f"{sheet.ended_at:%Y-%m-%d %H:%M} UTC"
    counts = {tick: sheet.ticks.count(tick) for tick in Tick}
    yield f"# Checkout of {sheet.edge_id} ({sheet.site})"
    yield ""
    yield f"By {sheet.by}, {sheet.began_at:%Y-%m-%d %H:%M} UTC to {ended}. {sheet.software}."
    yield f"Configuration `{sheet.config_sha256}`."
    yield f"{counts[Tick.PASS]} passed, {counts[Tick.FAIL]} failed, {counts[Tick.OPEN]} not judged."
    for row in sheet.devices:
        yield f"\n## {row.device}: {row.catalog}, {row.place}\n"
        if row.note:
            yield f"{row.note}\n"
        if row.points:
            yield "| | point | value | meaning | looks | remark |\n|---|---|---|---|---|---|"
        for point in row.points:
            value = "-" if point.value is None else f"{point.value:.10g} {point.unit}".strip()
            looks = point.mark + (f": {point.reason}" if point.reason else "")
            cells = (_SIGNS[point.tick], point.quantity, value, point.words, looks, point.remark)
            yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
        for act in row.actuations:
            yield f"\n{_SIGNS[act.tick]} **{act.name}**" + (f": {act.remark}" if act.remark else "")
            yield from (f"- {line}" for line in _steps(act))
    yield "\nSigned off: ______________________________   Date: ______________"


def _steps(act: ActuationRow) -> Iterator[str]:
    if not act.consent and not act.note:
        yield "not moved: no consent was given"
    for step in act.steps:
        back = {True: "read back", False: "NOT read back", None: "not answered"}[step.confirmed]
        seen = {True: "effect seen", False: "NO EFFECT", None: "effect not measured"}[step.effective]
        yield f"{step.what}: {back} ({step.read_back}); {seen} ({step.effect})"
    if act.note:
        yield act.note


def page(sheet: Sheet) -> str:
    """The sheet as one HTML page without anything from elsewhere."""
    rows = []
    for device in sheet.devices:
        rows.append(f"<h2>{html.escape(f'{device.device}: {device.catalog}, {device.place}')}</h2>")
        if device.note:
            rows.append(f"<p>{html.escape(device.note)}</p>")
        rows.append("<table><tr><th></th><th>point</th><th>value</th><th>meaning</th><th>looks</th><th>remark</th></tr>")
        for point in device.points:
            value = "-" if point.value is None else f"{point.value:.10g} {point.unit}"
            cells = (_SIGNS[point.tick], point.quantity, value, point.words, f"{point.mark} {point.reason}", point.remark)
            rows.append("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>")
        rows.append("</table>")
        for act in device.actuations:
            steps = "".join(f"<li>{html.escape(line)}</li>" for line in _steps(act))
            rows.append(f"<p>{_SIGNS[act.tick]} <b>{html.escape(act.name)}</b> {html.escape(act.remark)}</p><ul>{steps}</ul>")
    counts = ", ".join(f"{sheet.ticks.count(tick)} {word}" for tick, word in _COUNTED)
    ended = "not finished" if sheet.ended_at is None else f"{sheet.ended_at:%Y-%m-%d %H:%M} UTC"
    title = html.escape(f"Checkout of {sheet.edge_id} ({sheet.site})")
    head = html.escape(f"By {sheet.by}, {sheet.began_at:%Y-%m-%d %H:%M} UTC to {ended}. {sheet.software}. {counts}.")
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>body{{font:15px sans-serif;'
        "max-width:60em;margin:2em auto}table{border-collapse:collapse}td,th{border:1px solid #999;padding:.2em .5em;"
        f"text-align:left}}</style><h1>{title}</h1><p>{head}</p><p>Configuration <code>{html.escape(sheet.config_sha256)}"
        f"</code></p>{''.join(rows)}<p>Signed off: ______________________ Date: ____________</p></html>\n"
    )


_COUNTED: Final = ((Tick.PASS, "passed"), (Tick.FAIL, "failed"), (Tick.OPEN, "not judged"))


def save(sheet: Sheet, folder: Path) -> Path:
    """Keep a sheet as JSON, Markdown and HTML; returns the path of the Markdown."""
    stem = f"{sheet.began_at:%Y%m%dT%H%M%SZ}"
    StateFile(folder / f"{stem}.json").write(sheet.model_dump_json(indent=2))
    StateFile(folder / f"{stem}.html").write(page(sheet))
    path = folder / f"{stem}.md"
    StateFile(path).write(markdown(sheet))
    return path


def unfinished(folder: Path, config_sha256: str, by: str) -> Sheet | None:
    """The newest sheet of this person and configuration that was not brought to its end."""
    for path in sorted(folder.glob("*.json"), reverse=True) if folder.exists() else ():
        text = StateFile(path).read()
        try:
            sheet = None if text is None else Sheet.model_validate_json(text)
        except ValueError:
            continue
        if sheet is not None and sheet.config_sha256 == config_sha256 and sheet.by == by:
            return sheet if sheet.ended_at is None else None
    return None
