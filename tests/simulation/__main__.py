"""``make simulate SEED= SEEDS= HOURS=``: the whole agent on a virtual clock, network, disk and field, watched by an oracle."""

from __future__ import annotations

import argparse
import json
import logging
import resource
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.simulation.campaign import Report, run
from tests.simulation.world import Verdict

_ROOT: Final = Path(__file__).parents[2]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a campaign; exit status 0 = no law was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="first seed")
    parser.add_argument("--seeds", type=int, default=100, help="how many")
    parser.add_argument("--hours", type=float, default=0.5, help="simulated hours of each seed")
    parser.add_argument("--every", type=int, default=20, help="seeds between two lines of progress")
    parser.add_argument("--lines", type=int, default=0, help="last lines of each seed's log that are printed")
    parser.add_argument("--verbose", action="store_true", help="let the agent's own log be seen")
    parser.add_argument("--out", type=Path, default=_ROOT / "var/simulation")
    options = parser.parse_args(arguments)
    if not options.verbose:
        logging.disable(logging.CRITICAL)
    options.out.mkdir(parents=True, exist_ok=True)
    summary = options.out / f"report-{options.seed}-{options.seed + options.seeds - 1}.json"

    def told(verdict: Verdict, report: Report) -> None:
        if not verdict.ok:
            path = options.out / f"seed-{verdict.seed}.log"
            path.write_text("\n".join(verdict.lines), encoding="utf-8")
            print(
                f"seed {verdict.seed} FAILS: {verdict.violations[0]}\n  again with: {verdict.command()}\n  log: {path}",
                flush=True,
            )
        if options.lines:
            print("\n".join([f"seed {verdict.seed} {verdict.digest[:16]}", *list(verdict.lines)[-options.lines :]]), flush=True)
        if report.seeds % options.every == 0 or report.seeds == options.seeds:
            print(_progress(report, verdict.seed, options.seeds), flush=True)
            # Written as it grows: whoever stops a long campaign has what was seen, and goes on with the next seed.
            summary.write_text(json.dumps(report.as_json(), indent=1), encoding="utf-8")

    report = run(range(options.seed, options.seed + options.seeds), options.hours, told=told)
    print(report.in_words())
    print(f"written to {summary}")
    return 1 if report.failed else 0


def _progress(report: Report, seed: int, seeds: int) -> str:
    left_s = (seeds - report.seeds) * report.wall_s / report.seeds
    memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0
    return (
        f"seed {seed}: {report.seeds} of {seeds}, {report.hours:.0f} h, {len(report.failed)} fail, "
        f"{report.cpu_s_a_seed:.2f} CPU s a seed, at most {memory_mb:.0f} MB, about {left_s / 60.0:.0f} min left"
    )


if __name__ == "__main__":
    sys.exit(main())
