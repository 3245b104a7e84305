"""Processes that are killed: nothing acknowledged is lost, nothing is stored twice, nobody has to help."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.rig import Layout, Rig

pytestmark = pytest.mark.e2e


async def test_quiet_rig_is_equal(tmp_path: Path) -> None:
    async with Rig(tmp_path, Layout(edges=2)) as rig:
        await rig.until("rows", lambda: rig.senders["h0"].status().get("frames_sent", 0) > 20, 10)
        found = await rig.verdict()
        assert found.equal, found
        assert found.recorded > 500
