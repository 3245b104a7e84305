"""``make soak SEED= ROUNDS=``: kills, cuts, half-open links, duplicates, reorderings, clock steps, then a comparison."""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from tests.faults.programs import ROOT
from tests.soak.campaign import Campaign, Outcome

#: So much of the history is printed when a campaign fails; all of it is in the JSON.
_LAST: Final = 40


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a campaign; exit status 0 = both sides were equal at every comparison."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--edges", type=int, default=3)
    parser.add_argument("--every", type=int, default=20, help="rounds between two comparisons")
    parser.add_argument("--restore-every", type=int, default=0, help="rounds between two old backups put back at the hub")
    parser.add_argument("--out", type=Path, default=ROOT / "var/soak")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"seed-{options.seed}-", dir=options.out))
    command = f"make soak SEED={options.seed} ROUNDS={options.rounds}"
    if options.restore_every:
        command = (
            f"python -m tests.soak --seed {options.seed} --rounds {options.rounds} --restore-every {options.restore_every}"
        )
    outcome = Outcome(options.seed, options.rounds, command, options.edges)
    print(f"{command} (in {folder})", flush=True)
    campaign = Campaign(folder, outcome, options.every, lambda line: print(line, flush=True), options.restore_every)
    try:
        asyncio.run(campaign.run())
    except KeyboardInterrupt:
        print(f"stopped by hand after round {outcome.done}, equal at {len(outcome.checks)} comparisons; logs: {folder}")
        return 130
    result = options.out / f"soak-{options.seed}-{options.rounds}.json"
    result.write_text(json.dumps(asdict(outcome), indent=1) + "\n", encoding="utf-8")
    if outcome.ok:
        shutil.rmtree(folder)
        last = outcome.checks[-1]
        print(f"equal after {outcome.done} rounds: {last['stored']} rows, {last['stored_hash']}; {outcome.seconds} s; {result}")
        return 0
    for row in outcome.history[-_LAST:]:
        print(json.dumps(row))
    print(f"FAILED after round {outcome.done}: {outcome.reason}\nrepeat with: {command}\nhistory: {result}\nlogs: {folder}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
