"""``--config`` of the commands that ask a running edge: on a gateway of one site nobody has to type it."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

VARIABLE: Final = "TIELINE_CONFIG"
#: Where the service's site files lie (deploy/systemd).
FOLDER: Final = Path("/etc/tieline")


def usual_site(environment: Mapping[str, str], folder: Path) -> Path | None:
    """The site file that is meant when none is named: the environment's, else the only one in the folder."""
    if named := environment.get(VARIABLE):
        return Path(named)
    files = sorted(folder.glob("*.yaml"))
    return files[0] if len(files) == 1 else None


def add_site_option(parser: argparse.ArgumentParser, folder: Path = FOLDER) -> None:
    """Add ``--config``; it is needed only where no site file is the usual one."""

    def site_file(text: str) -> Path:
        if text:
            return Path(text)
        there = [path.name for path in sorted(folder.glob("*.yaml"))]
        holds = f"more than one ({', '.join(there)})" if there else "none"
        raise argparse.ArgumentTypeError(f"name the site file: {VARIABLE} is not set, and {folder} holds {holds}")

    parser.add_argument(
        "--config",
        type=site_file,  # asked about a default only where that is a text: here, that nothing was said
        default=usual_site(os.environ, folder) or "",
        metavar="CONFIG",
        help=f"YAML file of the site; default: ${VARIABLE}, else the only one in {folder}",
    )
