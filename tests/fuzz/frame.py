"""Coverage-guided fuzzing of the frame decoder, run by hand: ``pip install atheris``, then

``python -m tests.fuzz.frame -max_total_time=120 -rss_limit_mb=768 CORPUS tests/contract/golden``

CORPUS is an empty folder of yours. Each input is tried as a whole frame, as one with its lengths and CRC set right, and as
a body; anything but an answer or a FrameError stops the run.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any


def main() -> None:
    """Fuzz until told to stop."""
    atheris: Any = import_module("atheris")
    # Only the decoder is instrumented, and therefore not imported before.
    with atheris.instrument_imports(include=["tieline_core"]):
        tries: Any = import_module("tests.core.test_frame_fuzz")
        frame: Any = import_module("tieline_core.frame")
        errors: Any = import_module("tieline_core.errors")

    def attempt(decoder: Any, data: bytes) -> None:
        try:
            decoder(data)
        except errors.FrameError:
            return

    def one(data: bytes) -> None:
        tries.take(data)
        tries.take(tries.mended(data))
        attempt(frame.decode_readings, data)
        attempt(frame.decode_records, data)
        if len(data) > 2:
            attempt(frame.decode_readings, tries.packed(data[2:], 1 + data[0] % 8, 1 + data[1] % 4))

    atheris.Setup(sys.argv, one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
