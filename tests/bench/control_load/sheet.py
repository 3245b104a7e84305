"""The register sheet of the simulated devices, and what it is called at the edge.

Every device is a three-phase terminal with 30 values in one block of input registers, as feeder terminals and multi-function
meters have; a feeder also takes one command register. The simulated side uses positions only, so that it shares no register
map with the product: the catalogue entries below are the product's view of the same sheet.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

TRANSFORMER, FEEDER, METER = "bench-transformer", "bench-feeder", "bench-meter"
#: Holding register of a feeder's contactor: 1 = close, 0 = open.
COMMAND: Final = 100
_PHASES: Final = ("l1", "l2", "l3")


@dataclass(frozen=True, slots=True)
class Row:
    """One value: what it is called at the edge, its type on the wire and the size of a step."""

    quantity: str
    type: str
    scale: float

    @property
    def words(self) -> int:
        """Registers it takes."""
        return 2 if self.type.endswith("32") else 1


def _per_phase(total: str, phase: str, kind: str, scale: float) -> list[Row]:
    return [Row(total, kind, scale), *(Row(phase.format(name), kind, scale) for name in _PHASES)]


ROWS: Final = (
    *_per_phase("p_w", "p_{}_w", "INT32", 1.0),
    *_per_phase("q_var", "q_{}_var", "INT32", 1.0),
    *_per_phase("s_va", "s_{}_va", "UINT32", 1.0),
    Row("e_import_wh", "UINT32", 10.0),
    Row("e_export_wh", "UINT32", 10.0),
    *_per_phase("i_a", "i_{}_a", "UINT16", 0.1),
    *_per_phase("v_v", "v_{}_v", "UINT16", 0.1),
    Row("v_ll_v", "UINT16", 0.1),
    Row("v_l12_v", "UINT16", 0.1),
    Row("v_l23_v", "UINT16", 0.1),
    Row("v_l31_v", "UINT16", 0.1),
    Row("f_hz", "UINT16", 0.01),
    Row("pf", "INT16", 0.001),
    Row("loading_pct", "UINT16", 0.01),
    Row("closed", "UINT16", 1.0),
)
POINTS: Final = len(ROWS)
WORDS: Final = sum(row.words for row in ROWS)
_CODES: Final = {"INT16": "h", "UINT16": "H", "INT32": "i", "UINT32": "I"}
#: The whole block as it stands on the wire.
BLOCK: Final = struct.Struct(">" + "".join(_CODES[row.type] for row in ROWS))
PLACE: Final = {row.quantity: number for number, row in enumerate(ROWS)}
#: Word offset of each value.
OFFSET: Final = {row.quantity: sum(before.words for before in ROWS[:number]) for number, row in enumerate(ROWS)}


def block(p_w: float, loading_pct: float, closed: bool, tick: int) -> bytes:
    """The block of a device that draws this much; ``tick`` makes small things move from poll to poll."""
    wobble = tick % 17
    v = 2300 + wobble
    phase = int(p_w) // 3
    q, s = int(p_w * 0.2) // 3 + wobble, int(p_w * 1.02) // 3 + wobble
    i = int(phase / 23.0)
    ll = int(v * 1.732)
    return BLOCK.pack(
        int(p_w), phase, phase + wobble, int(p_w) - 2 * phase - wobble,
        3 * q, q, q, q,
        3 * s, s, s, s,
        1000 + tick, 10,
        i, i, i + wobble % 3, i,
        v, v, v + 1, v - 1,
        ll, ll, ll + 1, ll - 1,
        5000 + wobble % 5, 980,
        round(100 * loading_pct), int(closed),
    )  # fmt: skip


def catalogue_entry(name: str, role: str, *, switch: bool, points: Sequence[Row] = ROWS) -> dict[str, Any]:
    """The sheet as a catalogue entry of the edge."""
    command = {"name": "command", "address": COMMAND}
    entry: dict[str, Any] = {
        "name": name,
        "title": f"Simulated {role} of the control benchmark",
        "source": "register sheet of tests/bench/control_load/sheet.py",
        "protocol": "modbus",
        "role": role,
        "capabilities": ["measure", "switch"] if switch else ["measure"],
        "points": [
            {
                "quantity": row.quantity,
                "register": {"table": "input", "address": OFFSET[row.quantity], "type": row.type, "scale": row.scale},
            }
            for row in points
        ],
    }
    if switch:
        entry["safe_closed"] = True
        entry["writes"] = {
            "open": [{"value": 0, "register": command}],
            "close": [{"value": 1, "register": command}],
            "release": [{"value": 1, "register": command}],
        }
    return entry
