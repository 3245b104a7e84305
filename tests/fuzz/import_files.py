"""Coverage-guided fuzzing of everything that reads files and bodies from outside, run by hand.

``pip install atheris`` and then ``python -m tests.fuzz.import_files -max_total_time=600 var/fuzz/import`` (a folder for the
corpus). A finding is any exception but our own, or more memory than ``-rss_limit_mb``. Parquet is left out: it is read by
a process of its own, whose end is an error.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

_WATCHED: Final = ["tieline_cloud.jobs", "tieline_cloud.doors", "tieline_core.frame", "tieline_core.ids"]


def main() -> None:
    """Fuzz until libFuzzer's options end it."""
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=_WATCHED):
        readers = importlib.import_module("tests.fuzz.readers")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        atheris.Setup(sys.argv, lambda data: readers.one_input(folder, data))
        atheris.Fuzz()


if __name__ == "__main__":
    main()
