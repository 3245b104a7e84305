"""How far something that was published for an edge has come: a function of the edge's own report."""

from __future__ import annotations

from enum import StrEnum

from pydantic import AwareDatetime

from tieline_core.messages.base import Message
from tieline_core.messages.desired import Reported


class ArtifactState(StrEnum):
    """Stages of a configuration or a policy."""

    PUBLISHED = "published"
    CONFIRMED = "confirmed"
    REFUSED = "refused"


class ArtifactStanding(Message):
    """What the edge has made of it."""

    state: ArtifactState
    text: str = ""
    at: AwareDatetime | None = None


def judged(reported: Reported | None, kind: str, sha256: str, in_force: str | None, words: str) -> ArtifactStanding:
    """What an edge's report says.

    Args:
        reported: The newest report, None when there was none yet.
        kind: What refusals of it are called.
        sha256: Of what was published.
        in_force: Of what the edge reports to work by.
        words: What to say when it is the same.
    """
    if reported is None:
        return ArtifactStanding(state=ArtifactState.PUBLISHED, text="the edge has not reported yet")
    if in_force == sha256:
        return ArtifactStanding(state=ArtifactState.CONFIRMED, text=words, at=reported.at)
    refusals = [one for one in reported.refusals if one.what == kind and one.sha256 == sha256]
    if refusals:
        return ArtifactStanding(state=ArtifactState.REFUSED, text=refusals[-1].reason, at=refusals[-1].at)
    return ArtifactStanding(state=ArtifactState.PUBLISHED, text="the edge has not answered yet")
