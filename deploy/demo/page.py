"""The report as one self-contained page: promises, plots, and where every number comes from."""

from __future__ import annotations

import base64
import html
import json
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

from deploy.demo.figures import planned_w, promises
from deploy.demo.stage import Stage, get_json
from deploy.demo.story import Telling

_HERE = Path(__file__).parent


def _vendor(name: str) -> bytes:
    return (files("tieline_cloud") / "console" / "static" / "vendor" / name).read_bytes()


def _unix(instant: str) -> float:
    return datetime.fromisoformat(instant).timestamp()


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _thin(rows: list[dict[str, float]], most: int = 1500) -> list[dict[str, float]]:
    return rows[:: max(1, len(rows) // most)]


def _loading_chart(edge: str, truth: list[dict[str, float]], until: float) -> dict[str, Any]:
    rows = _thin([row for row in truth if row["sim_unix_s"] < until])
    return {
        "id": f"loading-{edge}",
        "caption": f"{edge}: transformer loading [% of rating] in the world with and in the world without control",
        "x": [row["sim_unix_s"] for row in rows],
        "series": [
            {"label": "with plan", "colour": "accent", "y": [row[f"{edge}.loading_pct"] for row in rows]},
            {"label": "without", "colour": "mute", "dash": [5, 4], "y": [row[f"{edge}.loading_without_pct"] for row in rows]},
        ],
    }


def _crisis_chart(edge: str, truth: list[dict[str, float]], marks: list[dict[str, Any]], start: float) -> dict[str, Any]:
    rows = [row for row in truth if row["sim_unix_s"] >= start]
    limit: list[float] = [100.0] * len(rows)
    return {
        "id": f"crisis-{edge}",
        "caption": f"{edge}: the cut and the crisis at normal speed. Loading [%] and load shed [kW]",
        "x": [row["sim_unix_s"] for row in rows],
        "marks": marks,
        "series": [
            {"label": "loading %", "colour": "accent", "y": [row[f"{edge}.loading_pct"] for row in rows]},
            {"label": "without %", "colour": "mute", "dash": [5, 4], "y": [row[f"{edge}.loading_without_pct"] for row in rows]},
            {"label": "shed kW", "colour": "warn", "y": [row[f"{edge}.shed_w"] / 1000 for row in rows]},
            {"label": "rating", "colour": "alarm", "width": 1, "dash": [2, 3], "y": limit},
        ],
    }


def _battery_chart(stage: Stage, telling: Telling, edge: str, truth: list[dict[str, float]]) -> dict[str, Any]:
    rows = _thin(truth, 800)
    site = next(row for row in stage.scenario["substations"] if row["id"] == edge)
    names = [battery["id"] for battery in site["batteries"]]

    def planned(at: float) -> float | None:
        parts = [planned_w(telling.plans[edge], name, at) for name in names]
        known = [part for part in parts if part is not None]
        return sum(known) / 1000 if known else None

    return {
        "id": f"battery-{edge}",
        "caption": f"{edge}: battery power [kW], charging above zero, planned and as the simulator measured it",
        "x": [row["sim_unix_s"] for row in rows],
        "series": [
            {
                "label": "actual kW",
                "colour": "ink",
                "y": [sum(row[f"{edge}.{name}_w"] for name in names) / 1000 for row in rows],
            },
            {
                "label": "plan kW",
                "colour": "accent",
                "dash": [6, 4],
                "step": True,
                "y": [planned(row["sim_unix_s"]) for row in rows],
            },
        ],
    }


def _forecast_chart(stage: Stage, edge: str, start: float, end: float) -> dict[str, Any] | None:
    point, span = f"{edge}/site/load_w", f"from={_iso(start - 3 * 3600)}&to={_iso(end)}"
    measured = get_json(f"{stage.api}/v1/readings?point={point}&step=PT5M&{span}")["rows"]
    # What was issued when the evening began, not a forecast that has seen it; a fallback only when there is nothing else.
    issues = get_json(f"{stage.api}/v1/forecasts?point={point}&from={_iso(start)}&to={_iso(end)}")["issues"]
    first = min(issues, key=lambda row: (row["model_id"].startswith("fallback"), row["issued_at"]), default=None)
    if first is None:
        return None
    query = f"point={point}&from={_iso(start)}&to={_iso(end)}&issued_at={quote(first['issued_at'])}"
    latest = get_json(f"{stage.api}/v1/forecasts?{query}")["latest"]
    rows = [row for row in latest["rows"] if start - 3600 <= _unix(row["at"]) <= end]
    columns = [{_unix(row["at"]): row["value"] for row in measured}]
    columns += [{_unix(row["at"]): row[key] for row in rows} for key in ("p50", "lo90", "hi90")]
    x = sorted({at for column in columns for at in column})
    y = [[None if column.get(at) is None else column[at] / 1000 for at in x] for column in columns]
    styles = [
        ("measured kW", "ink", None, 2),
        ("forecast P50", "accent", [6, 4], 2),
        ("P5", "accent", None, 0.5),
        ("P95", "accent", None, 0.5),
    ]
    return {
        "id": f"forecast-{edge}",
        "caption": f"{edge}: load [kW] and the edge's forecast with its 90 % band, issued {latest['issued_at'][:16]} UTC",
        "x": x,
        "band": [4, 3],
        "series": [
            {"label": label, "colour": colour, "dash": dash, "width": width, "y": values}
            for (label, colour, dash, width), values in zip(styles, y, strict=True)
        ],
    }


def charts(
    stage: Stage, telling: Telling, field: dict[str, Any], truth: list[dict[str, float]]
) -> list[tuple[str, list[dict[str, Any]]]]:
    """All charts as (heading, charts)."""
    cut = next(
        (row["at"].timestamp() for row in stage.scenario["timeline"] if row["fault"] == "hub-link"), truth[-1]["sim_unix_s"]
    )
    started = _unix(field["started_at"]) if field["started_at"] else truth[0]["sim_unix_s"]
    evening = [row for row in truth if row["sim_unix_s"] >= started]
    words = {"hub-link": ("link cut", "link back"), "back-feed": ("tie closes", "tie opens")}
    marks = [
        {
            "at": row["at"].timestamp(),
            "text": words.get(row["fault"], (row["fault"], row["fault"]))[0 if row["active"] else 1],
            "row": index % 2,
        }
        for index, row in enumerate(stage.scenario["timeline"])
    ]
    marks += [{"at": _unix(row["over_at"]), "text": "above 100 %", "row": 2} for row in field["episodes"][:1]]
    crisis = [row["substation"] for row in field["episodes"][:1]]
    forecasts = [_forecast_chart(stage, edge, started, cut) for edge in stage.edges]
    return [
        ("The evening peak", [_loading_chart(edge, evening, cut) for edge in stage.edges]),
        ("The crisis", [_crisis_chart(edge, truth, marks, cut - 25) for edge in crisis]),
        ("Batteries", [_battery_chart(stage, telling, edge, evening) for edge in stage.edges]),
        ("Load and forecast", [chart for chart in forecasts if chart is not None]),
    ]


def page(report: dict[str, Any], sections: list[tuple[str, list[dict[str, Any]]]]) -> str:
    """The whole page as HTML without any outside reference."""
    rows = "".join(
        f"<tr><td>{html.escape(row.what)}</td><td>{html.escape(row.target)}</td><td>{html.escape(row.measured)}</td>"
        f"<td class='{'' if row.kept else 'broken'}'>{'kept' if row.kept else 'BROKEN'}</td></tr>"
        for row in promises(report)
    )
    ladder = "".join(
        f"<tr><td>{row['at'][11:19]}</td><td>{html.escape(row['edge'])}</td><td>{row['step']}</td><td>{html.escape(row['reason'])}</td></tr>"
        for row in report["ladder"]
    )
    figures = "".join(
        f"<h2>{html.escape(heading)}</h2>"
        + "".join(
            f"<figure><figcaption>{html.escape(chart['caption'])}</figcaption>"
            f"<div class='plot' id='{chart['id']}'></div></figure>"
            for chart in group
        )
        for heading, group in sections
    )
    library = base64.b64encode(_vendor("uplot.js")).decode("ascii")
    style, script = ((_HERE / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    data = json.dumps([chart for _, group in sections for chart in group]).replace("</", "<\\/")
    return f"""<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>One evening with Tieline</title><style>{_vendor("uplot.css").decode()}{style}</style></head><body><main>
<h1>One evening with Tieline</h1>
<p class="mute">Three substations of a simulated 10 kV network, three edge agents, one hub. The simulator shares no code with
them; peaks, relief, shed load and the comparison of readings are its own measurements. Times are simulated, UTC.</p>
<table><thead><tr><th>promise</th><th>target</th><th>measured</th><th></th></tr></thead><tbody>{rows}</tbody></table>
{figures}
<h2>What each edge ran on</h2>
<table><thead><tr><th>UTC</th><th>edge</th><th>step of the ladder</th><th>why</th></tr></thead><tbody>{ladder}</tbody></table>
<details><summary>All figures (report.json)</summary><pre>{html.escape(json.dumps(report, indent=2))}</pre></details>
<p class="mute">Plots by uPlot (MIT).</p></main>
<script id="charts" type="application/json">{data}</script>
<script type="module">import uPlot from 'data:text/javascript;base64,{library}';{script}</script></body></html>
"""
