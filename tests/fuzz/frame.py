"""Coverage-guided fuzzing of the frame decoder, run by hand: ``pip install atheris``, then

``python -m tests.fuzz.frame -max_total_time=120 -rss_limit_mb=512 CORPUS tests/contract/golden``

CORPUS is an empty folder of yours. Each input is tried as a whole frame, as one with its lengths and CRC set right, and as
a body; anything but an answer or a FrameError stops the run.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

from tests.core.test_frame_fuzz import mended, packed, take
from tieline_core.errors import FrameError
from tieline_core.frame import decode_readings, decode_records


def one(data: bytes) -> None:
    """One input."""
    take(data)
    take(mended(data))
    for attempt in (decode_readings, decode_records):
        try:
            attempt(data)
            attempt(packed(data[2:], 1 + data[0] % 8, 1 + data[1] % 4))
        except (FrameError, IndexError) as error:
            if isinstance(error, IndexError) and len(data) > 1:
                raise


def main() -> None:
    """Fuzz until told to stop."""
    atheris: Any = import_module("atheris")
    atheris.instrument_all()
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
