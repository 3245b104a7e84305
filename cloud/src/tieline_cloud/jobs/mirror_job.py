"""``mirror-rebuild``: give a mirror everything again that was measured since an instant."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import AwareDatetime, ConfigDict, Field

from tieline_cloud.jobs.model import JobFailedError, JobKind, JobParams, JobProgress
from tieline_cloud.mirror.mirror import Mirror


class MirrorRebuildParams(JobParams):
    """Which mirror, and from when."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_by_name=True, validate_by_alias=True, serialize_by_alias=True
    )

    name: str = Field(max_length=48)
    since: AwareDatetime = Field(alias="from")


def mirror_rebuild_kind(mirrors: Mapping[str, Mirror]) -> JobKind[MirrorRebuildParams]:
    """The row of the table."""

    async def run(params: MirrorRebuildParams, progress: JobProgress) -> dict[str, Any]:
        mirror = mirrors.get(params.name)
        if mirror is None:
            known = ", ".join(sorted(mirrors)) or "none"
            raise JobFailedError(f"there is no mirror {params.name!r}; configured: {known}")
        mirror.rebuild(params.since)
        progress.tell(1.0, "the mirror replays beside its usual work")
        return {"mirror": params.name, "from": params.since.isoformat(), "follow": f"/v1/health, part 'mirror {params.name}'"}

    return JobKind("mirror-rebuild", "replay everything measured since an instant into a mirror", MirrorRebuildParams, run)
