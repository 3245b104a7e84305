"""A schedule as plan messages, one for each edge."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime

import numpy as np

from tieline_cloud.gridmodel.model import FloatArray
from tieline_cloud.planning.formulation import Schedule
from tieline_cloud.planning.problem import PlanningProblem
from tieline_core.ids import DeviceId, EdgeId
from tieline_core.messages.network import NetworkTable, PriceVector
from tieline_core.messages.plan import Certificate, DevicePlan, Plan, PlanMode
from tieline_core.quantities import QUANTITIES, round_to


def _rounded(power_kw: FloatArray) -> tuple[float | None, ...]:
    """Watts at the resolution of ``p_w``; infinite = no instruction."""
    exponent = QUANTITIES["p_w"].exponent
    # Adding 0.0 turns -0.0 into 0.0: a plan says "0 W" in one way.
    return tuple(round_to(float(value) * 1e3, exponent) + 0.0 if np.isfinite(value) else None for value in power_kw)


def _devices(problem: PlanningProblem, schedule: Schedule, edge_id: str) -> tuple[DevicePlan, ...]:
    rows: list[tuple[str, PlanMode, FloatArray]] = []
    for b, battery in enumerate(problem.batteries):
        if battery.edge_id == edge_id:
            rows.append((battery.device_id, PlanMode.SETPOINT_W, schedule.battery_kw[b]))
    for p, plant in enumerate(problem.pv):
        if plant.edge_id == edge_id:
            rows.append((plant.device_id, PlanMode.GENERATION_LIMIT_W, -schedule.pv_limit_kw[p]))
    for f, load in enumerate(problem.flexible):
        if load.edge_id == edge_id:
            rows.append((load.device_id, PlanMode.LOAD_LIMIT_W, schedule.flexible_kw[f]))
    return tuple(DevicePlan(device_id=DeviceId(name), mode=mode, values_w=_rounded(power)) for name, mode, power in rows)


def plans_of(
    problem: PlanningProblem,
    schedule: Schedule,
    certificate: Certificate,
    now: datetime,
    networks: Mapping[str, NetworkTable],
) -> tuple[Plan, ...]:
    """One plan for each site, with the network around it; the id is the same for the same inputs at the same instant."""
    step_s = int(problem.step.total_seconds())
    known = tuple(round(float(price), 4) for price in problem.price_eur_per_mwh)
    prices = PriceVector(start=problem.start, step_s=step_s, eur_per_mwh=known)
    seed = "".join(certificate.input_sha256.values()) + now.isoformat()
    return tuple(
        Plan(
            plan_id=hashlib.sha256(f"{seed}/{site.edge_id}".encode()).hexdigest()[:16],
            edge_id=EdgeId(site.edge_id),
            issued_at=now,
            start=problem.start,
            step_s=step_s,
            devices=_devices(problem, schedule, site.edge_id),
            certificate=certificate,
            network=networks.get(site.edge_id),
            prices=prices,
        )
        for site in problem.sites
    )
