"""The quality ledger: which rule a catalogue entry or a driver keeps, which it does not yet, and which it need not.

The idea is Home Assistant's ``quality_scale.yaml``: what is claimed as done is checked by a test, what is open stands there
in words instead of in somebody's head.
"""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict

_FORM: Final = re.compile(r"done|todo|(todo|exempt): \S.{3,200}")


def _mark(text: str) -> str:
    if not _FORM.fullmatch(text):
        raise ValueError(f"{text!r} is none of: done; todo; 'todo: what is missing'; 'exempt: reason'")
    return text


#: ``done``, ``todo``, ``todo: what is missing`` or ``exempt: reason``.
Mark = Annotated[str, AfterValidator(_mark)]


class _Marks(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Ledger(_Marks):
    """What one catalogue entry has been shown to do.

    Attributes:
        frames: Request and response frames with the values they must give, in ``tests/contract/frames/<name>.yaml``.
        signs: Both directions of power stand in those frames, with values computed by hand.
        absent: The device's way of saying "no value" is honoured and tested.
        plausibility: A point shows a flipped word order or a wrong scale within a few samples.
        safe_state: What the device does when nobody speaks any more is written into it, or declared.
        hardware: It has been read, and driven where it can be, on the device itself.
    """

    frames: Mark = "todo"
    signs: Mark = "todo"
    absent: Mark = "todo"
    plausibility: Mark = "todo"
    safe_state: Mark = "todo"
    hardware: Mark = "todo"


class DriverLedger(_Marks):
    """What one driver has been shown to do; ``done`` is followed by the test that shows it.

    Attributes:
        offline_once: Going offline is told once, coming back once.
        refusal: A refused command puts zero bytes on the wire.
        cancellation: A cancelled read or write leaves no task, and the connection usable.
        reentry: It may be entered again after an error.
        isolation: A point that fails takes no other along, a device that fails no other device.
        real_server: It has spoken with a server that is not ours.
        lazy_import: Its library is loaded when the first device of its kind is opened.
    """

    offline_once: str
    refusal: str
    cancellation: str
    reentry: str
    isolation: str
    real_server: str
    lazy_import: str
