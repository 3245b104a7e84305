"""Import and export without a running hub: the command opens the store itself."""

from __future__ import annotations

import asyncio
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from tieline_cloud.bootstrap import open_clock, open_ledger
from tieline_cloud.jobs.import_job import REJECTS, ImportParams, import_files
from tieline_cloud.jobs.model import JobProgress
from tieline_cloud.jobs.store_writer import StoreWriter
from tieline_cloud.settings import HubSettings


def import_offline(settings: HubSettings, params: ImportParams, console: Console) -> dict[str, Any]:
    """Import history files into the store.

    Raises:
        StoreBusyError: When a process holds the store.
        BadInputError: When a file cannot be used.
    """
    with open_ledger(settings) as store, console.status("importing") as status:
        progress = JobProgress(lambda share, message: status.update(f"{share:4.0%} {message}"))
        writer = StoreWriter(store, open_clock(settings.clock))
        return asyncio.run(import_files(params, writer, progress, settings.data_dir / REJECTS))


def export_offline(settings: HubSettings, out: Path, start: datetime, end: datetime, edge: str | None) -> dict[str, Any]:
    """Write readings to a parquet file.

    Raises:
        StoreBusyError: When a process holds the store.
    """
    with open_ledger(settings) as store:
        return {"rows": store.export(str(out), start, end, edge), "file": str(out)}
