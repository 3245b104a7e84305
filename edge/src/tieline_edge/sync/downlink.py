"""The way back: verify what the hub wants, pull what is missing, hand it over, report what runs.

Nothing is obeyed that is not signed for this edge, in force now, newer than everything obeyed before and, for a desired
state, an answer to one of this process's own hellos. What is refused is reported and raises an event; the old stays.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Final

from tieline_core import topics
from tieline_core.clock import Clock
from tieline_core.errors import BadInputError, EnvelopeRefusedError, PermanentError, TielineError, TransientError
from tieline_core.ids import PointId
from tieline_core.messages.command import Command
from tieline_core.messages.desired import Desired, Refusal
from tieline_core.messages.plan import Plan
from tieline_core.messages.policy import Policy
from tieline_core.messages.reconciliation import read_request
from tieline_core.messages.site_config import SiteConfiguration
from tieline_core.signing import MAX_ENVELOPE_BYTES, EnvelopeType, Header, Opened, open_envelope
from tieline_core.timegrid import to_us
from tieline_edge.outbox.store import Outbox
from tieline_edge.sync.artifacts import Artifacts
from tieline_edge.sync.durable_file import Counters, write_durably
from tieline_edge.sync.installed import Installed, read_installed
from tieline_edge.sync.mqtt_session import Message, MqttSession
from tieline_edge.sync.sinks import Sinks

_log = logging.getLogger(__name__)
_RETRY_S: Final = 1.0
_RETRY_CAP_S: Final = 30.0
_REFUSALS_KEPT: Final = 10
_SEEN_KEPT: Final = 256
_EVENT_EVERY_S: Final = 60.0
_CLOCK_SLACK: Final = timedelta(minutes=5)


@dataclass(slots=True)
class DownlinkCounters:
    """What happened since the start."""

    desired: int = 0
    commands: int = 0
    requests: int = 0
    taken: int = 0
    refused: int = 0
    repeated: int = 0


class Downlink:
    """Verifies, pulls and hands over. It takes part in the durable connection beside the uplink.

    Args:
        outbox: For events; it also names the edge.
        clock: For validity.
        trusted: Public keys by key id (:mod:`tieline_edge.sync.trusted`); empty = monitor only, nothing is obeyed.
        nonces: Nonces of this process's newest hellos, held by the uplink.
        artifacts: Pulls by content hash.
        folder: State directory for counters and for what is in force.
        sinks: Who takes what.
    """

    def __init__(
        self,
        outbox: Outbox,
        clock: Clock,
        trusted: Mapping[str, bytes],
        nonces: deque[str],
        artifacts: Artifacts,
        folder: Path,
        sinks: Sinks,
    ) -> None:
        self.counters = DownlinkCounters()
        self.refusals: deque[Refusal] = deque(maxlen=_REFUSALS_KEPT)
        self.changed = asyncio.Event()
        self._outbox = outbox
        self._clock = clock
        self._trusted = dict(trusted)
        self._nonces = nonces
        self._artifacts = artifacts
        # Whatever was signed before now, with a clock no further ahead than envelopes allow for, has a lower number.
        self._numbers = Counters(folder / "counters.json", to_us(clock.now() + _CLOCK_SLACK) // 1000)
        self._installed_path = folder / "installed.json"
        self.installed, damage = read_installed(self._installed_path)
        #: What was wrong with the files of an earlier life, for alarms.
        self.damage = tuple(text for text in (self._numbers.damage, damage) if text is not None)
        self._sinks = sinks
        self._wanted: Desired | None = None
        self._stirred = asyncio.Event()
        self._seen: deque[bytes] = deque(maxlen=_SEEN_KEPT)
        self._refused: set[str] = set()
        self._event_at_s: dict[str, float] = {}

    def overruled(self, what: str, sha256: str, reason: str) -> None:
        """Say that something taken earlier is not in force, so that the hub need not guess why."""
        self.refusals.append(Refusal(what=what, sha256=sha256, check="local", reason=reason[:300], at=self._clock.now()))

    @property
    def monitor_only(self) -> bool:
        """True when no key is trusted: the edge measures and reports, and obeys nobody."""
        return not self._trusted

    @property
    def desired_counter(self) -> int:
        """Counter of the desired state obeyed last."""
        return self._numbers.last(EnvelopeType.DESIRED)

    def topics(self) -> Sequence[str]:
        """What the durable connection subscribes to for it."""
        edge = self._outbox.edge
        return topics.desired(edge), topics.command(edge), topics.request(edge)

    async def restore(self) -> None:
        """Offer plan and policy of before the restart again, from disk and verified anew; for a start without a hub.

        Models are not offered again: their sink keeps them with their files. A configuration is in force from the start.
        """
        for what, sha256 in self._missing(replace(self.installed, models={}, config=None), Installed(models={})):
            data = await asyncio.to_thread(self._artifacts.kept, sha256)
            if data is None:
                continue
            try:
                await self._restore_one(what, sha256, data)
            except TransientError as error:
                # A disk that takes no alarm now must not keep the site from being controlled.
                _log.warning("%s %s cannot be restored now: %s", what, sha256[:16], error)

    async def _restore_one(self, what: str, sha256: str, data: bytes) -> None:
        try:
            await self._offer(what, sha256, data)
        except PermanentError as error:
            await self._refuse(what, sha256, error)

    async def take(self, message: Message) -> None:
        """Handle a desired state, a command or a request."""
        if self.monitor_only:
            return
        digest = hashlib.sha256(message.payload).digest()
        if digest in self._seen:
            self.counters.repeated += 1
            return
        what = message.topic.rsplit("/", 1)[1]
        try:
            if what == "desired":
                taken = await self._take_desired(message)
            elif what == "command":
                taken = await self._take_command(message)
            else:
                taken = await self._take_request(message)
            if taken:
                self._seen.append(digest)
        except PermanentError as error:
            self._seen.append(digest)
            await self._refuse(what, None, error)
        except TransientError as error:
            await self._refuse(what, None, error)

    def _open(self, data: bytes, kind: EnvelopeType) -> Opened:
        return open_envelope(data, kind=kind, edge=self._outbox.edge, trusted=self._trusted, now=self._clock.now())

    async def _advance(self, header: Header) -> None:
        try:
            newer = await asyncio.to_thread(self._numbers.advance, header.type, header.counter)
        except OSError as error:
            raise TransientError(f"the counter cannot be stored, so nothing is obeyed: {error}") from error
        if not newer:
            last = self._numbers.last(header.type)
            raise EnvelopeRefusedError("replay", f"counter {header.counter} is not above {last}, the last one obeyed")

    async def _take_desired(self, message: Message) -> bool:
        opened = self._open(message.payload, EnvelopeType.DESIRED)
        stale = opened.header.nonce not in self._nonces or opened.header.counter <= self.desired_counter
        if message.retain and stale:
            # The broker keeps the last one; the hub signs a new one as soon as it has heard our hello.
            self.counters.repeated += 1
            return False
        if opened.header.nonce not in self._nonces:
            raise EnvelopeRefusedError("nonce", "it does not answer any hello of this process")
        desired = Desired.from_bytes(opened.payload, message.topic, MAX_ENVELOPE_BYTES)
        self._own(desired.edge_id, message.topic)
        await self._advance(opened.header)
        self.counters.desired += 1
        self._wanted = desired
        self._stirred.set()
        return True

    async def _take_command(self, message: Message) -> bool:
        if message.retain:
            raise EnvelopeRefusedError("format", "a retained command is never obeyed")
        opened = self._open(message.payload, EnvelopeType.COMMAND)
        command = Command.from_bytes(opened.payload, message.topic, MAX_ENVELOPE_BYTES)
        self._own(command.edge_id, message.topic)
        if command.expires_at <= self._clock.now():
            raise EnvelopeRefusedError("validity", f"command {command.command_id} expired {command.expires_at.isoformat()}")
        if self._sinks.command is None:
            raise EnvelopeRefusedError("type", "this edge takes no commands")
        await self._advance(opened.header)
        self.counters.commands += 1
        report = await self._sinks.command.offer(command)
        _log.info("command %s: %s %s", command.command_id, report.state, report.text)
        self.changed.set()
        return True

    async def _take_request(self, message: Message) -> bool:
        if message.retain:
            raise EnvelopeRefusedError("format", "a retained request is never obeyed")
        opened = self._open(message.payload, EnvelopeType.REQUEST)
        request = read_request(opened.payload, message.topic)
        self._own(request.edge_id, message.topic)
        if self._sinks.request is None:
            raise EnvelopeRefusedError("type", "this edge takes no requests")
        await self._advance(opened.header)
        self.counters.requests += 1
        await self._sinks.request.offer(request)
        return True

    def _own(self, named: str, topic: str) -> None:
        if named != self._outbox.edge:
            raise BadInputError(topic, "edge_id", named, f"this is {self._outbox.edge}")

    async def serve(self, _session: MqttSession) -> None:
        """Nothing to send by itself."""

    async def follow(self) -> None:
        """Bring about what is desired, again and again until it is or something newer is; runs until cancelled."""
        failures = 0
        while True:
            if failures:
                delay_s = min(_RETRY_CAP_S, _RETRY_S * 2.0 ** min(failures - 1, 10))
                try:
                    async with asyncio.timeout(delay_s):
                        await self._stirred.wait()
                except TimeoutError:
                    _log.debug("trying the desired state again")
            else:
                await self._stirred.wait()
            self._stirred.clear()
            try:
                await self._bring_about()
                failures = 0
            except TransientError as error:
                failures += 1
                _log.warning("desired state: %s", error)

    def _missing(self, wanted: Installed, have: Installed) -> list[tuple[str, str]]:
        """What is wanted and not in force, as (config | plan | policy | point, hash); devices come before their plan."""
        rows = [
            ("config", wanted.config, have.config),
            ("plan", wanted.plan, have.plan),
            ("policy", wanted.policy, have.policy),
        ]
        rows += [(point, sha256, (have.models or {}).get(point)) for point, sha256 in (wanted.models or {}).items()]
        return [(what, sha256) for what, sha256, held in rows if sha256 is not None and sha256 != held]

    async def _bring_about(self) -> None:
        desired = self._wanted
        if desired is None:
            return
        models = {str(point): sha256 for point, sha256 in desired.models.items()}
        wanted = Installed(desired.plan, desired.policy, models, desired.config)
        late: TransientError | None = None
        for what, sha256 in self._missing(wanted, self.installed):
            if sha256 in self._refused:
                continue
            try:
                await self._offer(what, sha256, await self._artifacts.get(sha256, MAX_ENVELOPE_BYTES))
                await self._install(what, sha256)
                self.counters.taken += 1
            except PermanentError as error:
                self._refused.add(sha256)
                await self._refuse(what, sha256, error)
            except TransientError as error:
                late = error  # one missing file must not keep the others away
            except OSError as error:
                late = TransientError(f"{what}: the disk refused: {error}")
        if late is not None:
            raise late

    async def _offer(self, what: str, sha256: str, data: bytes) -> None:
        if what == "plan":
            plan = Plan.from_bytes(self._open(data, EnvelopeType.PLAN).payload, "plan", MAX_ENVELOPE_BYTES)
            self._own(plan.edge_id, "plan")
            if self._sinks.plan is None:
                raise EnvelopeRefusedError("type", "this edge takes no plans")
            await self._sinks.plan.offer(plan, sha256)
        elif what == "policy":
            policy = Policy.from_bytes(self._open(data, EnvelopeType.POLICY).payload, "policy", MAX_ENVELOPE_BYTES)
            self._own(policy.edge_id, "policy")
            if self._sinks.policy is None:
                raise EnvelopeRefusedError("type", "this edge takes no policies")
            await self._sinks.policy.offer(policy, sha256)
        elif what == "config":
            payload = self._open(data, EnvelopeType.CONFIG).payload
            configuration = SiteConfiguration.from_bytes(payload, "config", MAX_ENVELOPE_BYTES)
            self._own(configuration.edge_id, "config")
            if self._sinks.config is None:
                raise EnvelopeRefusedError("type", "this edge takes no configuration")
            await self._sinks.config.offer(configuration, sha256, data)
        else:
            manifest = self._open(data, EnvelopeType.MODEL).payload
            if self._sinks.model is None:
                raise EnvelopeRefusedError("type", "this edge takes no models")
            await self._sinks.model.offer(PointId(what), manifest, sha256, self._artifacts.get)

    async def _install(self, what: str, sha256: str) -> None:
        have = self.installed
        if what == "plan":
            have = replace(have, plan=sha256)
        elif what == "policy":
            have = replace(have, policy=sha256)
        elif what == "config":
            have = replace(have, config=sha256)
        else:
            have = replace(have, models={**(have.models or {}), what: sha256})
        await asyncio.to_thread(write_durably, self._installed_path, have.to_json())
        self.installed = have
        await asyncio.to_thread(self._artifacts.keep_only, have.hashes())
        self.changed.set()

    async def _refuse(self, what: str, sha256: str | None, error: TielineError) -> None:
        check = str(getattr(error, "check", "content"))[:32]
        refusal = Refusal(what=what[:64], sha256=sha256, check=check, reason=str(error)[:300], at=self._clock.now())
        self.refusals.append(refusal)
        self.counters.refused += 1
        self.changed.set()
        _log.error("refused %s: %s", what, error)
        now_s = time.monotonic()
        if now_s - self._event_at_s.get(f"{what}/{check}", float("-inf")) >= _EVENT_EVERY_S:
            self._event_at_s[f"{what}/{check}"] = now_s
            await self._outbox.alarm("downlink.refused", f"Refused {what}: {error}")
