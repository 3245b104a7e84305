"""The table of job kinds, and what posts jobs by itself."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from tieline_cloud.fleet.reconcile import Reconciler
from tieline_cloud.jobs.estimate_job import estimate_kind
from tieline_cloud.jobs.export_job import export_kind
from tieline_cloud.jobs.import_job import REJECTS, import_kind
from tieline_cloud.jobs.mirror_job import mirror_rebuild_kind
from tieline_cloud.jobs.model import JobKind
from tieline_cloud.jobs.network_job import network_kind
from tieline_cloud.jobs.plan_job import Planner, plan_kind
from tieline_cloud.jobs.prices_job import prices_kind
from tieline_cloud.jobs.reconcile_job import backfill_kind, reconcile_kind
from tieline_cloud.jobs.runner import JobRunner
from tieline_cloud.jobs.scheduler import JobScheduler
from tieline_cloud.jobs.store_writer import StoreWriter
from tieline_cloud.jobs.train_job import site_load, train_kind
from tieline_cloud.jobs.upkeep import retain_kind, retention
from tieline_cloud.mirror.mirror import Mirror
from tieline_cloud.quality.rule_table import RuleTable
from tieline_cloud.settings import HubSettings
from tieline_cloud.store.ports import RetentionPolicy, Store
from tieline_core.clock import Clock


def job_kinds(
    planner: Planner, store: Store, rules: RuleTable, reconciler: Reconciler, mirrors: Mapping[str, Mirror]
) -> dict[str, JobKind[Any]]:
    """The table of job kinds: a new kind is one file in ``jobs`` and one line here."""
    settings, clock = planner.settings, planner.clock
    table: tuple[JobKind[Any], ...] = (
        import_kind(StoreWriter(store, clock), settings.data_dir / REJECTS),
        network_kind(planner.desk),
        prices_kind(planner.documents),
        train_kind(settings, store, planner.pool, planner.models, clock),
        plan_kind(planner),
        export_kind(store),
        retain_kind(store, retention_policy(settings), clock),
        reconcile_kind(reconciler),
        backfill_kind(reconciler),
        mirror_rebuild_kind(mirrors),
        estimate_kind(store, rules, ZoneInfo(settings.site.time_zone), clock),
    )
    return {kind.name: kind for kind in table}


def job_schedulers(planner: Planner, jobs: JobRunner) -> dict[str, JobScheduler]:
    """What posts jobs by the clock, by name; without edges or with planning off nobody plans."""
    settings, clock = planner.settings, planner.clock
    schedulers = {"estimate scheduler": _estimates(settings, jobs, clock), "retention scheduler": retention(jobs, clock)}
    if settings.planning.enabled and settings.edges:
        schedulers["plan scheduler"] = _plans(planner, jobs)
    return schedulers


def retention_policy(settings: HubSettings) -> RetentionPolicy:
    """The part of the settings the store needs to forget."""
    keys = settings.retention
    return RetentionPolicy(keys.raw_days, keys.minute_days, keys.quarter_days, keys.hour_days, keys.overrides)


def _plans(planner: Planner, jobs: JobRunner) -> JobScheduler:
    needed = [site_load(edge) for edge in planner.settings.edges]

    def ready() -> bool:
        return planner.desk.grid is not None and set(needed) <= set(planner.query.points())

    def last() -> Any:
        newest = planner.plans.newest(None, 1)
        return newest[0].plan.issued_at if newest else None

    return JobScheduler(jobs, planner.clock, planner.settings.planning.replan_every_s, ready, last)


def _estimates(settings: HubSettings, jobs: JobRunner, clock: Clock) -> JobScheduler:
    def last() -> datetime | None:
        return next((job.created_at for job in jobs.newest(10_000) if job.kind == "estimate"), None)

    return JobScheduler(jobs, clock, settings.quality.estimate_every_s, lambda: True, last, "estimate")
