"""The hub's network: loaded from its file, drawn once a topology, its state estimated every few seconds."""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from tieline_cloud.api.ports import GridPicture, GridValues
from tieline_cloud.console.live import LiveHub, grid_frame
from tieline_cloud.dispatch.artifacts import replace_file
from tieline_cloud.gridmodel import GridModel, load_network
from tieline_cloud.gridmodel.geojson import geojson, topology_arrays
from tieline_cloud.gridmodel.state import STALE_AFTER, GridState, StateQuality, estimate_state
from tieline_cloud.jobs.pool import WorkerPool
from tieline_cloud.powerflow.solver import PowerFlow
from tieline_core.clock import Clock
from tieline_core.errors import TielineError
from tieline_core.ids import PointId
from tieline_core.quantities import Quality, Reading

_LOG = logging.getLogger(__name__)
FILE: Final = "network.json"
MAX_BYTES: Final = 64 * 1024 * 1024


def _finite(values: object) -> tuple[float | None, ...]:
    return tuple(float(value) if math.isfinite(value) else None for value in values)  # type: ignore[attr-defined]  # numpy array


@dataclass(frozen=True, slots=True)
class Expectation:
    """What points that nobody measures now are expected to show: one number a step from ``start`` on."""

    start: datetime
    step: timedelta
    values: Mapping[PointId, tuple[float, ...]]

    def readings(self, at: datetime) -> dict[str, Reading]:
        """The expected readings at an instant, marked as substituted; none outside the horizon."""
        step = (at - self.start) // self.step
        return {
            point: Reading(point, values[step], at, Quality.SUBSTITUTED)
            for point, values in self.values.items()
            if 0 <= step < len(values)
        }


def with_expected(
    measured: Mapping[str, Reading], expected: Mapping[str, Reading], at: datetime
) -> tuple[dict[str, Reading], frozenset[str]]:
    """Measurements, with expectations where they are missing or stale; also the areas (devices) that stand in."""
    absent = {
        point: reading
        for point, reading in expected.items()
        if point not in measured or at - measured[point].measured_at > STALE_AFTER
    }
    return {**measured, **absent}, frozenset(reading.point.device for reading in absent.values())


def values_of(state: GridState, grid: GridModel, expected_areas: frozenset[str]) -> GridValues:
    """A state estimate in the form of the API; branches of areas that rest on expectations are marked."""
    quality = state.branch_quality.astype(int)
    for row, bus in enumerate(grid.branches.from_bus):
        if grid.buses.area[bus] in expected_areas:
            quality[row] |= int(StateQuality.SUBSTITUTED)
    return GridValues(
        at=state.at,
        topology_hash=state.topology_hash,
        loading_pct=_finite(state.loading_pct),
        vm_pu=_finite(state.vm_pu),
        quality=tuple(int(bits) for bits in quality),
    )


class GridDesk:
    """Holds the network and its newest estimated state. Methods are called on the event loop.

    Args:
        grid_id: Name of the grid on the API.
        folder: Where the imported network is kept.
        pool: Reads networks: the importer is heavy.
        last_values: Gives the newest readings by point id.
        clock: Gives the instant of an estimate.
        live: Gets a frame for each estimate.
        every_s: Wall seconds between estimates.
    """

    def __init__(
        self,
        grid_id: str,
        folder: Path,
        pool: WorkerPool,
        last_values: Callable[[], Mapping[str, Reading]],
        clock: Clock,
        live: LiveHub,
        every_s: float,
    ) -> None:
        self._grid_id = grid_id
        self._path = folder / FILE
        self._pool = pool
        self._last_values = last_values
        self._clock = clock
        self._live = live
        self._every_s = every_s
        self._picture: GridPicture | None = None
        self._values: GridValues | None = None
        self._engine: PowerFlow | None = None
        self._changed = asyncio.Event()
        self._expected: Expectation | None = None
        self.grid: GridModel | None = None
        self.problem: str | None = None

    def picture(self) -> GridPicture | None:
        """Topology, or None while there is no network."""
        return self._picture

    def values(self) -> GridValues | None:
        """Newest estimate, or None while there is none."""
        return self._values

    @property
    def estimated_at(self) -> datetime | None:
        """Instant of the newest estimate."""
        return None if self._values is None else self._values.at

    def expect(self, expected: Expectation) -> None:
        """What unmeasured feeders should show from now on; replaces what was expected before."""
        self._expected = expected

    async def load(self, first: Path | None) -> None:
        """Load the network that was imported last, else the first one of the settings, if there is any."""
        path = self._path if self._path.is_file() else first
        if path is not None:
            await self.install(path)

    async def install(self, path: Path) -> GridModel:
        """Read a network, keep its file and make it the hub's grid.

        Raises:
            BadInputError: Naming what is wrong with it; the grid before stays.
        """
        grid = await self._pool.call(load_network, path)
        if path != self._path:
            content = await asyncio.to_thread(path.read_bytes)
            await asyncio.to_thread(replace_file, self._path, content)
        await self._take(grid)
        return grid

    async def _take(self, grid: GridModel) -> None:
        def draw() -> tuple[GridPicture, PowerFlow]:
            arrays = json.dumps({"grid_id": self._grid_id, **topology_arrays(grid)}, allow_nan=False).encode()
            features = json.dumps(geojson(grid), allow_nan=False).encode()
            return GridPicture(self._grid_id, grid.topology_hash, arrays, features), PowerFlow(grid)

        self._picture, self._engine = await asyncio.to_thread(draw)
        self.grid, self._values = grid, None
        self._changed.set()

    async def run(self) -> None:
        """Estimate the state, for ever."""
        while True:
            if self.grid is None:
                await self._changed.wait()
            await self._estimate()
            await asyncio.sleep(self._every_s)

    async def _estimate(self) -> None:
        grid, engine, now = self.grid, self._engine, self._clock.now()
        if grid is None or engine is None:
            return
        expected = self._expected.readings(now) if self._expected else {}
        readings, areas = with_expected(self._last_values(), expected, now)
        try:
            state = await asyncio.to_thread(estimate_state, grid, readings, now, engine)
        except TielineError as error:
            if self.problem is None:
                _LOG.warning("The state of the grid cannot be estimated: %s", error)
            self.problem = str(error)
            return
        self.problem = None
        if grid is not self.grid:
            return
        self._values = values = values_of(state, grid, areas)
        channel = f"grid/{self._grid_id}"
        seq = self._live.next_seq(channel)
        frame = grid_frame(seq, now, values.topology_hash, values.loading_pct, values.vm_pu, values.quality)
        self._live.publish_state(channel, frame)
