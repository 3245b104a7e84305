"""``make simulate SEED= SEEDS= HOURS=``: the whole agent on a virtual clock, network, disk and field, watched by an oracle."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.simulation.campaign import run
from tests.simulation.world import Verdict

_ROOT: Final = Path(__file__).parents[2]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a campaign; exit status 0 = no law was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="first seed")
    parser.add_argument("--seeds", type=int, default=100, help="how many")
    parser.add_argument("--hours", type=float, default=0.5, help="simulated hours of each seed")
    parser.add_argument("--lines", type=int, default=0, help="last lines of each seed's log that are printed")
    parser.add_argument("--verbose", action="store_true", help="let the agent's own log be seen")
    parser.add_argument("--out", type=Path, default=_ROOT / "var/simulation")
    options = parser.parse_args(arguments)
    if not options.verbose:
        logging.disable(logging.CRITICAL)
    options.out.mkdir(parents=True, exist_ok=True)

    def told(verdict: Verdict) -> None:
        state = "ok" if verdict.ok else f"FAILS: {verdict.violations[0]}"
        print(f"seed {verdict.seed} {verdict.digest[:16]} {state}", flush=True)
        if not verdict.ok:
            path = options.out / f"seed-{verdict.seed}.log"
            path.write_text("\n".join(verdict.lines), encoding="utf-8")
            print(f"  again with: {verdict.command()}\n  log: {path}")
        if options.lines:
            print("\n".join(list(verdict.lines)[-options.lines :]))

    report = run(range(options.seed, options.seed + options.seeds), options.hours, told=told)
    print(report.in_words())
    (options.out / "report.json").write_text(json.dumps(report.as_json(), indent=1), encoding="utf-8")
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
