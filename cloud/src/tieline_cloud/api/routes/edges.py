"""``/v1/edges`` and ``/v1/devices``."""

from __future__ import annotations

from fastapi import APIRouter

from tieline_cloud.api.ports import HubServices
from tieline_cloud.api.problems import statuses
from tieline_cloud.api.query import EdgeParameter, Services, all_edges, edge_filter, known_edge
from tieline_cloud.api.schemas.fleet import Device, Edge, EdgeDetail
from tieline_cloud.fleet.views import EdgeStatus
from tieline_cloud.metrics import age_s
from tieline_core.ids import PointId

router = APIRouter(tags=["fleet"])


def edge_summary(hub: HubServices, status: EdgeStatus) -> Edge:
    """An edge as the lists and the live socket show it."""
    reported, wanted = status.reported, hub.desired.of(status.edge_id)
    backlog = list(reported.backlog.values()) if reported else []
    oldest = [stream.oldest_at for stream in backlog if stream.oldest_at is not None]
    return Edge(
        edge_id=status.edge_id,
        online_live=status.online_live,
        online_durable=status.online_durable,
        offline_since=status.offline_since,
        third_party=status.third_party,
        last_heard=status.last_heard,
        epoch=status.epoch,
        ladder=reported.ladder.name.lower() if reported else None,
        backlog_frames=sum(stream.frames for stream in backlog) if reported else None,
        backlog_bytes=sum(stream.bytes for stream in backlog) if reported else None,
        backlog_readings=sum(stream.readings for stream in backlog) if reported else None,
        backlog_oldest_at=min(oldest, default=None),
        outbox_room_h=reported.outbox.room_h if reported and reported.outbox else None,
        autonomy_h=reported.autonomy.hours if reported and reported.autonomy else None,
        autonomy_limited_by=(reported.autonomy.limited_by or None) if reported and reported.autonomy else None,
        outbox_usable=reported.outbox.usable if reported and reported.outbox else None,
        streams=reported.backlog if reported else {},
        reported_age_s=age_s(reported.at, hub.clock.now()) if reported else None,
        reported_stale=reported is not None and not status.online_durable,
        monitor_only=reported.monitor_only if reported else None,
        dry_run=reported.dry_run if reported else None,
        tagged=reported.tagged if reported else (),
        config_sha256=reported.config_sha256 if reported else None,
        software=reported.software if reported else None,
        plan_id=reported.plan_id if reported else None,
        devices_offline=reported.devices_offline if reported else (),
        shed=reported.shed if reported else (),
        desired_confirmed=None if wanted is None else wanted.confirmed_at is not None,
    )


@router.get("/edges", summary="All edges", responses=statuses())
async def list_edges(hub: Services) -> list[Edge]:
    """Every edge that was ever heard of, and those the settings name."""
    return [edge_summary(hub, status) for status in all_edges(hub)]


@router.get("/edges/{edge_id}", summary="One edge", responses=statuses(404, 422))
async def read_edge(edge_id: str, hub: Services) -> EdgeDetail:
    """With its own last report and what the hub wants it to run."""
    status = known_edge(hub, edge_id)
    wanted = hub.desired.of(status.edge_id)
    return EdgeDetail(
        **dict(edge_summary(hub, status)),
        reported=status.reported,
        desired=wanted.desired if wanted else None,
        desired_published_at=wanted.published_at if wanted else None,
        desired_confirmed_at=wanted.confirmed_at if wanted else None,
    )


@router.get("/devices", summary="Devices", responses=statuses(404, 422))
async def list_devices(hub: Services, edge: EdgeParameter = None) -> list[Device]:
    """Devices as their births described them, of one edge or of all."""
    return [
        Device(
            edge_id=device.edge_id,
            device_id=device.device_id,
            online=device.online,
            offline_since=device.offline_since,
            points=tuple(PointId.of(device.edge_id, device.device_id, metric) for metric in device.metrics),
            born_at=device.born_at,
        )
        for device in hub.fleet.devices(edge_filter(hub, edge))
    ]
