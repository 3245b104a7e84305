"""From an action to the messages it publishes: templates are filled in, nothing is evaluated. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue

from tieline_edge.drivers.capabilities import Action, DevicePermanentError, DeviceSpec
from tieline_edge.drivers.catalog.entry import CatalogEntry
from tieline_edge.drivers.catalog.messages import Confirmation, Publication
from tieline_edge.drivers.orders import check_order, steps_of, variables_of

_PLACEHOLDER: Final = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True, slots=True)
class PlannedMessage:
    """One message of an order.

    Attributes:
        topic: Where it is published.
        payload: What.
        confirm: How the device says that it has done it; None when a later message's confirmation covers this one.
        wanted: The number that confirms it.
    """

    topic: str
    payload: bytes
    confirm: Confirmation | None = None
    wanted: float = 0.0

    @property
    def label(self) -> str:
        """For messages."""
        return f"{self.topic} {self.payload.decode()}"


def plan_messages(action: Action, spec: DeviceSpec, entry: CatalogEntry, serial: str) -> tuple[PlannedMessage, ...]:
    """The messages an action becomes, in order.

    Raises:
        DevicePermanentError: When the device cannot do it; nothing was published.
    """
    check_order(action, spec)
    variables = variables_of(action, spec)
    planned = []
    for step in steps_of(action, entry.orders, spec, entry.name):
        try:
            topic, payload = message_of(step, serial, variables)
            confirm = step.confirm
            wanted = 0.0
            if confirm is not None:
                wanted = variables[confirm.value] if isinstance(confirm.value, str) else confirm.value
        except KeyError as error:
            raise DevicePermanentError(f"{spec.device_id}: {step.topic} needs {error}, unknown; nothing was written") from error
        planned.append(PlannedMessage(topic, payload, confirm, wanted))
    return tuple(planned)


def message_of(form: Publication, serial: str, variables: Mapping[str, float]) -> tuple[str, bytes]:
    """Topic and payload of a publication.

    Raises:
        KeyError: When a placeholder has no value.
    """
    filled = _fill(form.payload, serial, variables)
    payload = filled if isinstance(filled, str) else json.dumps(filled, separators=(",", ":"), allow_nan=False)
    return form.topic.replace("{serial}", serial), payload.encode()


def _fill(form: JsonValue, serial: str, variables: Mapping[str, float]) -> JsonValue:
    if isinstance(form, dict):
        return {key: _fill(value, serial, variables) for key, value in form.items()}
    if isinstance(form, list):
        return [_fill(value, serial, variables) for value in form]
    if not isinstance(form, str):
        return form
    whole = _PLACEHOLDER.fullmatch(form)
    if whole and whole[1] != "serial":
        return _number(variables[whole[1]])
    return _PLACEHOLDER.sub(lambda found: serial if found[1] == "serial" else str(_number(variables[found[1]])), form)


def _number(value: float) -> float | int:
    """Whole numbers without a point, others as short as a device will want them."""
    rounded = round(value, 3) + 0.0
    return int(rounded) if rounded.is_integer() else rounded
