"""The campaign is worth its time: each of these defects, planted into the agent, breaks a law within a few seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.simulation.campaign import run
from tieline_core.ids import DeviceId
from tieline_edge.control import arbiter, contacts, power
from tieline_edge.control.claims import Claim
from tieline_edge.control.commands import CommandBook
from tieline_edge.shedding import selection
from tieline_edge.shedding.selection import Candidate
from tieline_edge.sync import uplink_state

SEEDS = 20
HOURS = 0.5

Plant = Callable[[pytest.MonkeyPatch], None]


def lower_band_wins(patch: pytest.MonkeyPatch) -> None:
    def first(claims: list[Claim]) -> Claim | None:
        return max(claims, key=lambda claim: (claim.band, claim.order), default=None)

    patch.setattr(arbiter, "_first", first)


def minimum_off_is_ignored(patch: pytest.MonkeyPatch) -> None:
    real = contacts._close

    def close(request: contacts.Request, *rest: Any) -> contacts.Result:
        hasty = replace(request, spec=replace(request.spec, min_off_s=0.0))
        return real(hasty, *rest)

    patch.setattr(contacts, "_close", close)


def expired_commands_are_obeyed(patch: pytest.MonkeyPatch) -> None:
    real = CommandBook.claims
    ever: dict[tuple[int, object], tuple[Claim, datetime]] = {}

    def claims(book: CommandBook, now: datetime) -> tuple[Claim, ...]:
        ever.update({(id(book), claim.key): (claim, now) for claim in real(book, now)})
        mine = [(claim, at) for (whose, _), (claim, at) in ever.items() if whose == id(book)]
        late = timedelta(minutes=10)
        return tuple(replace(claim, expires_at=now + timedelta(minutes=1)) for claim, at in mine if now - at < late)

    patch.setattr(CommandBook, "claims", claims)


def classes_are_reversed(patch: pytest.MonkeyPatch) -> None:
    real = selection.choose

    def choose(candidates: Mapping[DeviceId, Candidate], need_w: float) -> tuple[DeviceId, ...]:
        turned = {device: replace(one, priority=10 - one.priority) for device, one in candidates.items()}
        return real(turned, need_w)

    patch.setattr("tieline_edge.shedding.mechanism.choose", choose)


def acknowledgements_above_what_was_sent_are_believed(patch: pytest.MonkeyPatch) -> None:
    real = uplink_state.acknowledged

    def acknowledged(state: Any, ack: Any, *rest: Any) -> Any:
        progress = {
            stream: replace(one, highest=max(one.highest, ack.committed.get(stream, 0)))
            for stream, one in state.streams.items()
        }
        return real(replace(state, streams=progress), ack, *rest)

    patch.setattr(uplink_state, "acknowledged", acknowledged)


def ramps_are_skipped(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(power, "_ramped", lambda _request, _last, target: target)


#: Each with the first seed that finds it, counted from seed 1: so many of the build's hundred stories it takes. Where a
#: change of the agent has changed that story, the next ones are tried.
@pytest.mark.parametrize(
    ("plant", "first"),
    [
        (minimum_off_is_ignored, 1),
        (classes_are_reversed, 3),
        (ramps_are_skipped, 5),
        (lower_band_wins, 9),
        (expired_commands_are_obeyed, 9),
        (acknowledgements_above_what_was_sent_are_believed, 24),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_planted_defect_is_found(plant: Plant, first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    report = run(range(first, first + SEEDS), HOURS, until_failure=True)
    assert report.failed, f"not found in {SEEDS} seeds"
