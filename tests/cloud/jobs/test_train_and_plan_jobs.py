"""Training and planning as jobs: from the store to a signed artifact the edge is told to run."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from tests.cloud.rooms import HARBOUR, NOW, TRUSTED, Rooms
from tieline_cloud.forecasting.experts import FitParams
from tieline_cloud.forecasting.training import TrainingRequest
from tieline_cloud.jobs.grid_desk import GridDesk
from tieline_cloud.jobs.model import JobFailedError, JobProgress
from tieline_cloud.jobs.plan_job import Planner, PlanParams, plan_kind
from tieline_cloud.jobs.pool import WorkerPool
from tieline_cloud.jobs.train_job import TrainParams, chosen_points, fit_one, train_kind
from tieline_cloud.planning.errors import PlanRefusedError
from tieline_cloud.settings import HubSettings
from tieline_core.frame import ReadingBatch
from tieline_core.ids import EdgeId, PointId
from tieline_core.messages.plan import Plan
from tieline_core.model_manifest import ModelManifest, sha256_hex
from tieline_core.signing import EnvelopeType, open_envelope
from tieline_core.timegrid import to_us

VILLAGE = Path(__file__).parents[1] / "gridmodel" / "village.json"
LOAD = PointId("harbour/site/load_w")
QUIET = JobProgress(lambda _share, _text: None)


@dataclass
class QuickPool:
    """Calls in this process, with a small fit; can be told to refuse."""

    refuse: Exception | None = None
    calls: list[str] = field(default_factory=list)

    async def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        self.calls.append(function.__name__)
        if self.refuse is not None:
            raise self.refuse
        if function is fit_one:
            request: TrainingRequest = arguments[0]
            small = FitParams(trees=10, leaves=4, rows_an_issue=8, issue_stride=95)
            return function(replace(request, params=small))
        return function(*arguments)


def settings(folder: Path) -> HubSettings:
    battery = {"p_charge_max_w": 60e3, "p_discharge_max_w": 60e3, "energy_wh": 150e3}
    return HubSettings.model_validate(
        {
            "data_dir": folder,
            "mqtt": {"host": "127.0.0.1"},
            "signing_key": folder / "hub.key",
            "edges": {"harbour": {"rated_va": 630e3, "batteries": {"bat1": battery}}},
        }
    )


def fill(rooms: Rooms, days: int) -> None:
    """History of harbour's load up to now: a daily and a weekly wave with seeded noise."""
    number = np.arange(days * 96)
    at = to_us(NOW) - (days * 96 - number) * 900_000_000
    hour = (number / 4) % 24
    noise = np.random.default_rng(1).normal(1.0, 0.03, len(number))
    values = (300e3 + 150e3 * np.sin(hour / 24 * 2 * np.pi) + 20e3 * (number // 96 % 7 < 5)) * noise
    zeros = np.zeros(len(number), np.int32)
    rooms.store.import_readings(ReadingBatch((LOAD,), zeros, at, values, zeros.astype(np.uint8)), "test", NOW)


def planner(rooms: Rooms, pool: QuickPool) -> Planner:
    workers = cast("WorkerPool", pool)
    desk = GridDesk("grid", rooms.folder, workers, dict, rooms.clock, rooms.live, 2.0)
    return Planner(
        settings=settings(rooms.folder),
        clock=rooms.clock,
        query=rooms.store,
        documents=rooms.documents,
        artifacts=rooms.artifacts,
        models=rooms.models,
        plans=rooms.plans,
        events=rooms.events,
        desk=desk,
        pool=workers,
    )


async def test_a_trained_model_is_signed_stored_and_desired_and_then_used_for_the_plan(tmp_path: Path) -> None:
    rooms, pool = Rooms(tmp_path), QuickPool()
    fill(rooms, 130)
    kind = train_kind(settings(tmp_path), rooms.store, cast("WorkerPool", pool), rooms.models, rooms.clock)
    result = await kind.run(TrainParams(), QUIET)
    assert (result["failed"], result["models"][0]["point"]) == ({}, LOAD)
    record, wanted = rooms.models.current(LOAD), rooms.desired.of(HARBOUR)
    assert record is not None
    assert wanted is not None
    assert wanted.desired.models == {LOAD: record.sha256}
    content = rooms.artifacts.get(record.sha256)
    assert content is not None
    opened = open_envelope(content, kind=EnvelopeType.MODEL, edge=HARBOUR, trusted=TRUSTED, now=NOW)
    manifest = ModelManifest.from_bytes(opened.payload, "artifact")
    for sha256 in (manifest.onnx_sha256, manifest.seed.sha256 if manifest.seed else ""):
        assert sha256_hex(rooms.artifacts.get(sha256) or b"") == sha256
    work = planner(rooms, pool)
    await work.desk.install(VILLAGE)
    planned = await plan_kind(work).run(PlanParams(), QUIET)
    assert not [note for note in planned["notes"] if "there is no model" in note or "cannot be used" in note]


async def test_a_plan_is_published_with_an_event_and_opens_at_the_edge(tmp_path: Path) -> None:
    rooms, pool = Rooms(tmp_path), QuickPool()
    fill(rooms, 45)
    work = planner(rooms, pool)
    await work.desk.install(VILLAGE)
    result = await plan_kind(work).run(PlanParams(), QUIET)
    assert result["certificate"]["verdict"] == "clean"
    record = rooms.plans.current(HARBOUR)
    assert record is not None
    assert result["plans"] == {"harbour": record.plan.plan_id}
    opened = open_envelope(
        rooms.artifacts.get(record.sha256) or b"", kind=EnvelopeType.PLAN, edge=HARBOUR, trusted=TRUSTED, now=NOW
    )
    assert Plan.from_bytes(opened.payload, "artifact") == record.plan
    assert [event.code for event in rooms.events.kept(10)] == ["plan.published"]


async def test_a_battery_that_the_edge_runs_by_configuration_is_planned_without_the_hubs_settings(tmp_path: Path) -> None:
    rooms, pool = Rooms(tmp_path), QuickPool()
    fill(rooms, 45)
    row = {"id": "bat2", "catalog": "sunspec-storage-704", "p_min_w": -30e3, "p_max_w": 30e3, "energy_wh": 60e3}
    text = json.dumps({"edge_id": "harbour", "devices": [row]})
    work = replace(planner(rooms, pool), running=lambda _edge: text)
    await work.desk.install(VILLAGE)
    result = await plan_kind(work).run(PlanParams(), QUIET)
    record = rooms.plans.current(HARBOUR)
    assert record is not None
    assert [part.device_id for part in record.plan.devices] == ["bat2"], "bat1 has gone there, and a plan may not name it"
    assert "harbour/bat1: the configuration that runs there has no such device; it is not planned" in result["notes"]


async def test_configurations_are_read_beside_the_loop(tmp_path: Path) -> None:
    rooms, pool = Rooms(tmp_path), QuickPool()
    fill(rooms, 45)
    threads: list[int] = []
    work = replace(planner(rooms, pool), running=lambda _edge: threads.append(threading.get_ident()))
    await work.desk.install(VILLAGE)
    await plan_kind(work).run(PlanParams(), QUIET)
    assert threads
    assert threading.get_ident() not in threads


async def test_a_refused_plan_raises_an_alarm_and_leaves_the_old_one(tmp_path: Path) -> None:
    rooms, pool = Rooms(tmp_path), QuickPool()
    fill(rooms, 45)
    work = planner(rooms, pool)
    await work.desk.install(VILLAGE)
    await plan_kind(work).run(PlanParams(), QUIET)
    before = rooms.plans.current(HARBOUR)
    pool.refuse = PlanRefusedError("worse than doing nothing")
    with pytest.raises(PlanRefusedError):
        await plan_kind(work).run(PlanParams(), QUIET)
    assert rooms.plans.current(HARBOUR) == before
    assert {event.code for event in rooms.events.kept(10)} == {"plan.published", "plan.refused"}


async def test_without_a_network_or_history_the_reason_is_said(tmp_path: Path) -> None:
    rooms, pool = Rooms(tmp_path), QuickPool()
    work = planner(rooms, pool)
    with pytest.raises(JobFailedError, match="there is no network"):
        await plan_kind(work).run(PlanParams(), QUIET)
    kind = train_kind(settings(tmp_path), rooms.store, cast("WorkerPool", pool), rooms.models, rooms.clock)
    with pytest.raises(JobFailedError, match="nothing is stored for harbour/site/load_w"):
        await kind.run(TrainParams(), QUIET)


def test_points_named_win_over_edges_and_over_the_settings(tmp_path: Path) -> None:
    hub = settings(tmp_path)
    assert chosen_points(TrainParams(), hub) == [LOAD]
    assert chosen_points(TrainParams(edges=(EdgeId("mill"),)), hub) == ["mill/site/load_w"]
    assert chosen_points(TrainParams(points=(PointId("a/b/c"),), edges=(EdgeId("mill"),)), hub) == ["a/b/c"]


def test_a_fresh_state_of_charge_is_gathered(tmp_path: Path) -> None:
    rooms = Rooms(tmp_path)
    fill(rooms, 45)
    soc = PointId("harbour/bat1/soc_pct")
    at = np.array([to_us(NOW - timedelta(minutes=1))])
    rooms.store.import_readings(
        ReadingBatch((soc,), np.zeros(1, np.int32), at, np.array([71.5]), np.zeros(1, np.uint8)), "test", NOW
    )
    work = planner(rooms, QuickPool())
    from tieline_cloud.gridmodel import load_network

    inputs = work.gather(load_network(VILLAGE), NOW, work.assets()[0])
    assert inputs.soc_pct == {soc: 71.5}
    assert (inputs.start, inputs.steps, len(inputs.histories[LOAD].values)) == (NOW, 96, 45 * 96)
