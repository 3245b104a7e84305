"""A device that reports without waiting for a receipt: what it says, whether it is there, what it confirms.

A retained value is shown and decides nothing: the broker repeats it, and nobody knows how old it is. A retained word of the
availability topic counts, because the device's last will replaces it.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from tieline_core.errors import BadInputError
from tieline_core.ids import DeviceId
from tieline_core.quantities import Quality, Reading
from tieline_edge.drivers.catalog.messages import Confirmation, MessageSource, ReportForm
from tieline_edge.drivers.mqtt.client import Arrival
from tieline_edge.drivers.mqtt.values import document_of, number_of, value_at, word_of
from tieline_edge.drivers.plausibility import Nominal, judged
from tieline_edge.drivers.points import PointRow, PointTable, bad_reading, good_reading

#: Readings that wait for the poller to record them; beyond it the oldest are given up.
_WAITING: Final = 5000


@dataclass(slots=True, eq=False)
class Expectation:
    """An order's confirmation that is waited for."""

    topic: str
    confirm: Confirmation
    wanted: float
    came: asyncio.Event = field(default_factory=asyncio.Event)
    #: What the device said last on that topic, for the trace.
    said: str = "nothing"

    def look(self, document: object) -> None:
        """Compare a message of the topic."""
        value = value_at(document, self.confirm.key)
        if value is None:
            return
        self.said = word_of(value)
        try:
            number = number_of(value, self.confirm.texts, self.topic, self.confirm.key, "closed")
        except BadInputError:
            return
        if math.isclose(number, self.wanted, rel_tol=0.0, abs_tol=self.confirm.tolerance):
            self.came.set()


class ReportingDevice:
    """What is known of one device by its messages.

    Args:
        device_id: Which.
        serial: Its name in topics.
        form: How it reports.
        points: Its points; ``messages`` says where each stands.
        report_s: Period of its reports [s].
        nominal: What is known of its values beforehand.
        confirmations: Further topics of the catalogue, on which its orders are confirmed.
    """

    def __init__(
        self,
        device_id: DeviceId,
        serial: str,
        form: ReportForm,
        points: PointTable,
        report_s: float,
        nominal: Nominal | None = None,
        confirmations: Iterable[str] = (),
    ) -> None:
        self._nominal = nominal or Nominal()
        self.device_id, self.serial, self.form, self.points, self.report_s = device_id, serial, form, points, report_s
        self._sources: dict[str, list[tuple[PointRow, MessageSource]]] = {}
        for row in points:
            for source in row.point.messages or ():
                self._sources.setdefault(self.fill(source.topic), []).append((row, source))
        self.availability_topic = None if form.availability is None else self.fill(form.availability.topic)
        own = {*self._sources, *([self.availability_topic] if self.availability_topic else [])}
        #: Everything to subscribe to.
        self.topics = frozenset(own | {self.fill(topic) for topic in confirmations})
        self._expected: list[Expectation] = []
        #: True or False once the device (or its last will) has said so.
        self.available: bool | None = None
        #: Listened to from this moment on; None = not yet.
        self.since: datetime | None = None
        self.heard_at: datetime | None = None
        self.in_error = False
        self.dropped = 0
        self._inbox: deque[Reading] = deque()

    def fill(self, topic: str) -> str:
        """A topic of the catalogue with the device's name in it."""
        return topic.replace("{serial}", self.serial)

    def take(self, arrival: Arrival, now: datetime) -> tuple[list[Reading], BadInputError | None]:
        """Read one message.

        Args:
            arrival: The message.
            now: When it arrived: a report carries no time that can be trusted.

        Returns:
            What it measures, bad readings for values that cannot be read, and the first of these mistakes.
        """
        try:
            document = document_of(arrival.payload, arrival.topic)
            if arrival.topic == self.availability_topic:
                self._note_availability(document, arrival.topic)
        except BadInputError as error:
            return [], error
        if not arrival.retained:
            if self.available is not False or arrival.topic != self.availability_topic:
                self.heard_at = now
            for expectation in self._expected:
                if expectation.topic == arrival.topic:
                    expectation.look(document)
        return self._readings(arrival, document, now)

    def _note_availability(self, document: object, topic: str) -> None:
        form = self.form.availability
        value = None if form is None else value_at(document, form.key)
        if form is None or value is None:
            return
        word = word_of(value)
        if word not in (form.online, form.offline):
            raise BadInputError(topic, form.key, word, f"{form.online} or {form.offline} is expected")
        self.available = word == form.online

    def _readings(self, arrival: Arrival, document: object, now: datetime) -> tuple[list[Reading], BadInputError | None]:
        readings: list[Reading] = []
        mistake: BadInputError | None = None
        for row, source in self._sources.get(arrival.topic, ()):
            value = value_at(document, source.key)
            if value is None:
                continue
            try:
                number = number_of(value, source.texts, arrival.topic, source.key, row.point.quantity, source.scale)
                reading = good_reading(row, number, now, Quality.STALE if arrival.retained else Quality.GOOD)
                readings.append(judged(row, reading, self._nominal))
            except (BadInputError, OverflowError, ValueError) as error:
                wrong = BadInputError(arrival.topic, source.key, word_of(value), "a finite number is expected")
                mistake = mistake or (error if isinstance(error, BadInputError) else wrong)
                readings.append(bad_reading(row, now))
        return readings, mistake

    def keep(self, readings: list[Reading]) -> None:
        """Let the poller record them; a poller that is away for long loses the oldest, counted."""
        self._inbox.extend(readings)
        while len(self._inbox) > _WAITING:
            self._inbox.popleft()
            self.dropped += 1

    def collect(self) -> list[Reading]:
        """What has arrived since the last time."""
        found = list(self._inbox)
        self._inbox.clear()
        return found

    @contextmanager
    def expecting(self, confirm: Confirmation, wanted: float) -> Iterator[Expectation]:
        """Watch for a confirmation from now on: what was said before the order confirms nothing."""
        expectation = Expectation(self.fill(confirm.topic), confirm, wanted)
        self._expected.append(expectation)
        try:
            yield expectation
        finally:
            self._expected.remove(expectation)
