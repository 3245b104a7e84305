"""A device on an OPC-UA server: its nodes in one direct read, view-only ones by subscription, orders read back.

Direct reads, because a subscription's latency is its publishing interval (decision 12). A node that
vanished makes its own point bad and leaves the rest alone. A session that lost its connection is thrown away and built anew.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import urlsplit

from tieline_core.ids import EdgeId
from tieline_core.messages.telemetry import Severity
from tieline_core.quantities import Quality, Reading
from tieline_core.timegrid import EARLIEST, LATEST
from tieline_edge.drivers.capabilities import (
    Action,
    DevicePermanentError,
    DeviceSpec,
    DeviceTransientError,
    ReadBack,
)
from tieline_edge.drivers.catalog.entry import CatalogEntry
from tieline_edge.drivers.context import DriverContext
from tieline_edge.drivers.events import tell
from tieline_edge.drivers.opcua.absent import AbsentNodes
from tieline_edge.drivers.opcua.session import OpcUaSession, open_session
from tieline_edge.drivers.opcua.watch import Watch, WatchedNode
from tieline_edge.drivers.opcua.writes import encode, held, kind_of, may_pass, plan_node_writes
from tieline_edge.drivers.plausibility import Nominal, judged
from tieline_edge.drivers.points import PointRow, PointTable, bad_reading, good_reading
from tieline_edge.drivers.spec import nominal_of, spec_of
from tieline_edge.settings import DeviceSettings, OpcUaEndpoint
from tieline_edge.snapshot import AHEAD_S

if TYPE_CHECKING:
    from asyncua import ua

#: OPC 10000-4, 7.39: the two top bits of a StatusCode are its severity: 00 good, 01 uncertain, 10 and 11 bad.
_SEVERITY_SHIFT: Final = 30
_UNCERTAIN: Final = 1
#: What comes by subscription is also read so often.
_REFRESH: Final = timedelta(seconds=60)
#: Stands in the list of watched positions for a node the server does not watch.
_READ: Final = -1
#: How often the ends of certificates are looked at while a session stands.
_LOOK_AGAIN: Final = timedelta(hours=1)


def is_loopback(url: str) -> bool:
    """True for a server on this machine."""
    return urlsplit(url).hostname in ("localhost", "127.0.0.1", "::1")


def quality_of(status: int) -> Quality:
    """Quality of a StatusCode."""
    severity = status >> _SEVERITY_SHIFT
    return Quality.GOOD if severity == 0 else Quality.UNCERTAIN if severity == _UNCERTAIN else Quality.BAD


def reading_of(row: PointRow, status: int, value: object, source_time: datetime | None, now: datetime) -> Reading:
    """One answered node as a reading; what is no finite number is bad as of now, never a number.

    A source clock that is ahead of ours must not make an old value look fresh: the reading is stamped now and uncertain.
    """
    at = now if source_time is None else source_time.replace(tzinfo=UTC) if source_time.tzinfo is None else source_time
    quality = quality_of(status)
    if quality is Quality.BAD or not isinstance(value, bool | int | float) or not math.isfinite(value):
        return bad_reading(row, now)
    if not EARLIEST <= at <= LATEST:
        return bad_reading(row, now)
    if (at - now).total_seconds() > AHEAD_S:
        at, quality = now, Quality.UNCERTAIN
    try:
        return good_reading(row, float(value), at, quality)
    except (OverflowError, ValueError):
        return bad_reading(row, now)


class OpcUaDriver:
    """One device whose values are nodes of one server.

    Args:
        spec: What the device is.
        entry: Its catalogue entry.
        points: Its points; ``node`` says where each is.
        endpoint: Server, security, root of the node ids, time-out.
        context: Clock, recorder of events, own certificate and trust list.
        nominal: What is known of its values beforehand.
    """

    def __init__(
        self,
        spec: DeviceSpec,
        entry: CatalogEntry,
        points: PointTable,
        endpoint: OpcUaEndpoint,
        context: DriverContext,
        nominal: Nominal | None = None,
    ) -> None:
        self._nominal = nominal or Nominal()
        self._spec, self._entry, self._points, self._endpoint, self._context = spec, entry, points, endpoint, context
        self._clock = context.clock
        self._rows = tuple(points)
        self._absent = AbsentNodes(len(self._rows))
        self._watch: Watch | None = None
        #: Positions of the points the server tells of its own accord, in the order they were subscribed.
        self._watched: list[int] = []
        self._refresh_at = datetime.min.replace(tzinfo=UTC)
        self._session: OpcUaSession | None = None
        self._nodes: list[ua.NodeId] = []
        #: Node id of each writable node and the VariantType the server says it has.
        self._writable: dict[str, tuple[ua.NodeId, int]] = {}
        self._told_insecure = False
        self._warn_again = datetime.min.replace(tzinfo=UTC)

    @property
    def spec(self) -> DeviceSpec:
        """What the device is."""
        return self._spec

    async def __aenter__(self) -> Self:
        """Open a session of its own, and ask which types the writable nodes have."""
        self._nodes = [self._node_id(row.point.node or "") for row in self._rows]
        session = await open_session(self._endpoint, self._context.pki)
        try:
            await self._ask_types(session)
            await self._subscribe(session)
            await self._warn(session)
        except BaseException:
            await self._end(session)
            raise
        self._session = session
        return self

    async def __aexit__(self, *exc: object) -> None:
        session, self._session = self._session, None
        if session is not None:
            await self._end(session)

    async def _end(self, session: OpcUaSession) -> None:
        watch, self._watch, self._watched = self._watch, None, []
        try:
            if watch is not None:
                await watch.end()
        finally:
            await session.close()

    async def _subscribe(self, session: OpcUaSession) -> None:
        """Subscribe to what the catalogue wants to be told; what the server does not watch is read like the rest."""
        self._refresh_at = datetime.min.replace(tzinfo=UTC)
        wanted = [number for number, row in enumerate(self._rows) if row.point.subscribe is not None]
        if not wanted:
            return
        nodes = [
            WatchedNode(self._nodes[number], form.sampling_s, form.deadband)
            for number in wanted
            if (form := self._rows[number].point.subscribe) is not None
        ]
        self._watch = Watch(session)
        granted = await self._watch.begin(nodes)
        self._watched = [number if good else _READ for number, good in zip(wanted, granted, strict=True)]

    def _node_id(self, text: str) -> ua.NodeId:
        from asyncua import ua

        try:
            return ua.NodeId.from_string(text.replace("{root}", self._endpoint.root))
        except ua.UaStringParsingError as error:
            raise DevicePermanentError(f"{self._spec.device_id}: a node id cannot be read: {error}") from error

    async def _ask_types(self, session: OpcUaSession) -> None:
        from asyncua import ua

        names = dict.fromkeys(step.node.replace("{root}", self._endpoint.root) for step in self._entry.node_writes.all())
        nodes = [self._node_id(name) for name in names]
        if not nodes:
            return
        values = await session.read(nodes)
        types = await session.read(nodes, ua.AttributeIds.DataType)
        kinds = [kind_of(value, declared) for value, declared in zip(values, types, strict=True)]
        self._writable = dict(zip(names, zip(nodes, kinds, strict=True), strict=True))

    async def _warn(self, session: OpcUaSession) -> None:
        if self._clock.now() < self._warn_again:
            return
        self._warn_again = self._clock.now() + _LOOK_AGAIN
        if self._endpoint.insecure and not self._told_insecure and not is_loopback(self._endpoint.url):
            text = f"{self._spec.device_id}: {self._endpoint.url} is used without any security, as insecure: true asks for"
            self._told_insecure = await tell(self._context, self._spec.device_id, Severity.ACTION, "opcua.insecure", text)
        if session.certificate is not None and self._context.pki is not None:
            for text in self._context.pki.warnings(session.certificate):
                await tell(self._context, self._spec.device_id, Severity.ACTION, "opcua.certificate_expires", text)

    def _connected(self) -> OpcUaSession:
        if self._session is None:
            raise DeviceTransientError(f"{self._endpoint.url}: not connected")
        return self._session

    async def read(self) -> Sequence[Reading]:
        """Read all nodes in one call; those that have vanished are left out until they are tried again."""
        session, now = self._connected(), self._clock.now()
        news = [] if self._watch is None else self._watch.collect()
        wanted = self._due(now)
        answers = await session.read([self._nodes[number] for number in wanted])
        now = self._clock.now()
        statuses = [answer.StatusCode.value if answer.StatusCode is not None else 0 for answer in answers]
        await self._note_absent(list(zip(wanted, statuses, strict=True)), now)
        told = [(self._watched[handle], answer) for handle, answer in news if handle < len(self._watched)]
        told = [(number, answer) for number, answer in told if number != _READ]
        readings = [self._reading(number, answer, now) for number, answer in told]
        newest = {reading.point: reading.measured_at for reading in readings}
        for number, answer in zip(wanted, answers, strict=True):
            reading = self._reading(number, answer, now)
            if reading.point not in newest or reading.measured_at > newest[reading.point]:
                readings.append(reading)
        await self._warn(session)
        absent = set(range(len(self._rows))) - set(wanted) - set(self._watched)
        return [*readings, *(bad_reading(self._rows[number], now) for number in sorted(absent))]

    def _due(self, now: datetime) -> list[int]:
        """Positions to read now: what is subscribed to only once a minute, as proof that nothing was missed."""
        asked = self._absent.asked(now)
        if now >= self._refresh_at:
            self._refresh_at = now + _REFRESH
            return asked
        return [number for number in asked if number not in self._watched] or asked

    def _reading(self, number: int, answer: ua.DataValue, now: datetime) -> Reading:
        status = answer.StatusCode.value if answer.StatusCode is not None else 0
        value = None if answer.Value is None else answer.Value.Value
        row = self._rows[number]
        return judged(row, reading_of(row, status, value, answer.SourceTimestamp, now), self._nominal)

    async def _note_absent(self, statuses: Sequence[tuple[int, int]], now: datetime) -> None:
        lost, back = self._absent.note(statuses, now)
        if len(self._absent) == len(self._rows):
            raise DevicePermanentError(
                f"{self._endpoint.url}: none of the {len(self._rows)} nodes of {self._entry.name} exists there; "
                f"is opcua.root {self._endpoint.root!r} right?"
            )
        for numbers, severity, code, words in (
            (lost, Severity.ALARM, "opcua.node_gone", "vanished; its point is out, the others go on, it is tried again"),
            (back, Severity.INFORMATION, "opcua.node_back", "is there again"),
        ):
            if numbers:
                names = ", ".join(self._nodes[number].to_string() for number in numbers)
                await tell(self._context, self._spec.device_id, severity, code, f"{self._spec.device_id}: node {names} {words}")

    async def apply(self, action: Action) -> ReadBack:
        """Write one node after the other, each confirmed by its StatusCode, then read all of them back."""
        from asyncua import ua

        planned = plan_node_writes(action, self._spec, self._entry, self._endpoint.root)
        session = self._connected()
        writes = []
        for plan in planned:
            node, kind = self._writable[plan.node]
            try:
                writes.append((plan, node, kind, encode(plan, kind)))
            except ValueError as error:
                raise DevicePermanentError(f"{self._spec.device_id}: {error}; nothing was written") from error
        done: list[str] = []
        for plan, node, kind, value in writes:
            status = await session.write(node, ua.Variant(value, ua.VariantType(kind)))
            if not status.is_good():
                raise self._refused(plan.label, status.name, done)
            done.append(plan.label)
        if not writes:
            return ReadBack(confirmed=True, text="nothing to write")
        answers = await session.read([node for _, node, _, _ in writes])
        confirmed, texts = True, []
        for (plan, _, kind, value), answer in zip(writes, answers, strict=True):
            shown = None if answer.Value is None else answer.Value.Value
            same = held(shown, value, kind)
            confirmed = confirmed and same
            texts.append(plan.label if same else f"{plan.label}: holds {shown}")
        return ReadBack(confirmed, "; ".join(texts))

    def _refused(self, label: str, status: str, done: Sequence[str]) -> DeviceTransientError | DevicePermanentError:
        text = f"{self._spec.device_id}: the server refuses {label} ({status})"
        if done:
            # Not "nothing was written": the device stands half-way and has to be told again.
            return DeviceTransientError(f"{text} after {'; '.join(done)}")
        return DeviceTransientError(text) if may_pass(status) else DevicePermanentError(f"{text}; nothing was written")


def build(settings: DeviceSettings, entry: CatalogEntry, edge: EdgeId, context: DriverContext) -> OpcUaDriver:
    """A driver that is not connected yet."""
    if settings.opcua is None:
        raise DevicePermanentError(f"{settings.id}: {entry.name} speaks OPC-UA, opcua.url is missing")
    points, nominal = PointTable(edge, settings, entry), nominal_of(settings, entry)
    return OpcUaDriver(spec_of(settings), entry, points, settings.opcua, context, nominal)
