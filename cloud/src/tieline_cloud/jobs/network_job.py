"""``network``: a network.json becomes the hub's grid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tieline_cloud.jobs.grid_desk import MAX_BYTES, GridDesk
from tieline_cloud.jobs.model import JobKind, JobParams, JobProgress
from tieline_core.errors import BadInputError


class NetworkParams(JobParams):
    """A file written by ``pandapower.to_json`` on the hub's machine."""

    file: Path


def network_kind(desk: GridDesk) -> JobKind[NetworkParams]:
    """The row of the table."""

    async def run(params: NetworkParams, progress: JobProgress) -> dict[str, Any]:
        if not params.file.is_file():
            raise BadInputError(str(params.file), "", params.file.name, "there is no such file on the hub's machine")
        if params.file.stat().st_size > MAX_BYTES:
            raise BadInputError(str(params.file), "", params.file.name, f"at most {MAX_BYTES} bytes are read")
        progress.tell(0.1, f"reading {params.file.name}")
        grid = await desk.install(params.file)
        return {
            "topology_hash": grid.topology_hash,
            "buses": len(grid.buses),
            "branches": len(grid.branches),
            "substations": [substation.edge_id for substation in grid.substations],
        }

    return JobKind("network", "import a network (pandapower JSON) as the hub's grid", NetworkParams, run)
