"""``python -m deploy.demo``: one evening in the field, told by command lines.

Ctrl-C at any moment stops every process.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from deploy.demo.figures import figures, promises, read_truth
from deploy.demo.page import charts, page
from deploy.demo.processes import Crew, DemoError
from deploy.demo.stage import Stage
from deploy.demo.story import Telling, fresh_folder, scenes, verify

_HERE = Path(__file__).parent
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "PYTHONUNBUFFERED": "1",
}


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make demo",
        description="One evening in the field: forecast, plan, cut link, shed, restore, and proof that nothing was lost.",
    )
    parser.add_argument("--out", type=Path, default=Path("var/demo"), help="where everything goes (default: %(default)s)")
    parser.add_argument("--scenario", type=Path, default=_HERE / "scenario.yaml", help="the evening (default: %(default)s)")
    parser.add_argument(
        "--keep", action="store_true", help="leave everything running at the end and print the console's address"
    )
    return parser.parse_args(argv)


def _build_s() -> float:
    """Seconds the environment took to build, as `make` noted them; 0 when it was made in another way."""
    try:
        return float((Path(sys.prefix) / ".build-seconds").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0.0


def _finish(stage: Stage, telling: Telling) -> bool:
    verdict, field = verify(stage, _HERE / "points.yaml")
    truth = read_truth(stage.sim_state / "truth.csv")
    report = figures(stage, telling, verdict, field, truth, _build_s())
    (stage.folder / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    (stage.folder / "report.html").write_text(page(report, charts(stage, telling, field, truth)), encoding="utf-8")
    table = Table(title="One evening with Tieline", title_justify="left")
    for column in ("promise", "target", "measured", ""):
        table.add_column(column)
    for row in promises(report):
        table.add_row(row.what, row.target, row.measured, "kept" if row.kept else "[bold red]BROKEN[/]")
    Console().print(table)
    print(f"report: {stage.folder / 'report.html'}  figures: {stage.folder / 'report.json'}")
    return all(row.kept for row in promises(report))


def _stay(stage: Stage, telling: Telling) -> None:
    try:
        stage.sim_command("hush", "off")
    except DemoError as error:
        telling.say(f"the field stays silent: {error}")
    telling.say(f"everything keeps running; the console is at {stage.api}/  (Ctrl-C stops all)")
    stage.crew.wait_until("Ctrl-C", lambda: False, float("inf"), 0.5)


def main(argv: list[str]) -> int:
    """Run the story; 0 = every promise kept, 1 = one broken or the story stopped, 130 = Ctrl-C."""
    arguments = _arguments(argv)
    telling = Telling()
    folder = fresh_folder(arguments.out)
    try:
        with Crew(folder, ONE_THREAD) as crew:
            stage = Stage(crew, folder.resolve(), arguments.scenario.resolve())
            for scene in scenes():
                scene(stage, telling)
            kept = _finish(stage, telling)
            if arguments.keep:
                _stay(stage, telling)
    except KeyboardInterrupt:
        print("\nstopped; every process has ended", flush=True)
        return 130
    except DemoError as error:
        print(f"\nthe evening did not go as told: {error}", file=sys.stderr, flush=True)
        return 1
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
