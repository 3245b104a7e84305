"""Commands that speak to a running hub, and follow its job; some open the store themselves where no hub runs."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tieline_core.errors import BadInputError

if TYPE_CHECKING:
    from rich.console import Console

    from tieline_cloud.client import HubClient


def _client(options: argparse.Namespace) -> tuple[HubClient, Console]:
    from rich.console import Console

    from tieline_cloud.client import HubClient

    console = Console(stderr=True, quiet=options.json)
    return HubClient(options.url, console), console


def _job(options: argparse.Namespace, kind: str, params: dict[str, Any]) -> int:
    client, _ = _client(options)
    with client:
        job = client.run(kind, params)
    return _print_result(options, job["result"])


def _print_result(options: argparse.Namespace, result: Any) -> int:
    from tieline_cloud.result_text import result_lines

    if options.json:
        print(json.dumps(result))
    else:
        print("\n".join(result_lines(result)))
    sys.stdout.flush()
    return 0


def run_import(options: argparse.Namespace) -> int:
    """Import history, over a running hub or into the store itself."""
    files = [str(file.absolute()) for file in options.files]
    params = {"files": files, "dry_run": options.dry_run, "max_errors": options.max_errors}
    if options.config is None:
        return _job(options, "import", params)
    from tieline_cloud.config_file import load_settings
    from tieline_cloud.jobs.import_job import ImportParams
    from tieline_cloud.offline import import_offline

    client, console = _client(options)
    with client:
        result = import_offline(load_settings(options.config), ImportParams.model_validate(params), console)
    return _print_result(options, result)


def run_network(options: argparse.Namespace) -> int:
    """Import a network."""
    return _job(options, "network", {"file": str(options.file.absolute())})


def run_prices(options: argparse.Namespace) -> int:
    """Import prices."""
    return _job(options, "prices", {"file": str(options.file.absolute())})


def run_train(options: argparse.Namespace) -> int:
    """Train load models."""
    return _job(options, "train", {"edges": options.edge, "points": options.point})


def run_plan(options: argparse.Namespace) -> int:
    """Plan the day."""
    return _job(options, "plan", {})


def run_export(options: argparse.Namespace) -> int:
    """Write readings of a span to a file."""
    out = options.out.absolute()
    if options.config is None:
        span = {"from": options.start.isoformat(), "to": options.end.isoformat()}
        return _job(options, "export", {**span, "out": str(out), "edge": options.edge})
    from tieline_cloud.config_file import load_settings
    from tieline_cloud.offline import export_offline

    settings = load_settings(options.config)
    return _print_result(options, export_offline(settings, out, options.start, options.end, options.edge))


def _span(options: argparse.Namespace) -> dict[str, Any]:
    span = {"edge": options.edge, "from": options.start.isoformat(), "to": options.end.isoformat()}
    return {**span, "streams": options.stream} if options.stream else span


def run_reconcile(options: argparse.Namespace) -> int:
    """Like diff: 0 = the same, 1 = they differ."""
    from tieline_cloud.result_text import reconcile_lines

    client, _ = _client(options)
    with client:
        result = client.run("reconcile", _span(options))["result"]
    print(json.dumps(result) if options.json else "\n".join(reconcile_lines(result)))
    return 0 if result["equal"] else 1


def run_backfill(options: argparse.Namespace) -> int:
    """Have an edge send again."""
    return _job(options, "backfill", _span(options))


def run_why(options: argparse.Namespace) -> int:
    """Ask an edge why a device does what it does."""
    wanted = {"device": options.device, "replay": str(options.replay).lower()}
    if options.at is not None:
        wanted["at"] = options.at.isoformat()
    client, _ = _client(options)
    with client:
        answer = client.get(f"edges/{options.edge}/why", wanted)
    print(json.dumps(answer) if options.json else answer["text"])
    return 0


def run_mirror(options: argparse.Namespace) -> int:
    """Rebuild a mirror."""
    return _job(options, "mirror-rebuild", {"name": options.name, "from": options.start.isoformat()})


def run_publish_config(options: argparse.Namespace) -> int:
    """Exit status: 0 the edge runs it, 1 it refuses, 3 it has not answered yet."""
    text = _text_of(options.file)
    client, _ = _client(options)
    with client:
        answer = client.publish_config(options.edge, text, options.wait)
    return _edges_word(options, answer, "configuration")


def run_publish_policy(options: argparse.Namespace) -> int:
    """Exit status: 0 the edge follows it, 1 it refuses, 3 it has not answered yet."""
    text = _text_of(options.file)
    client, _ = _client(options)
    with client:
        answer = client.publish_policy(options.edge, text, release=False, wait_s=options.wait)
    return _edges_word(options, answer, "policy")


def run_release_shedding(options: argparse.Namespace) -> int:
    """Exit status: 0 the edge has taken the release, 1 it refuses, 3 it has not answered yet."""
    client, _ = _client(options)
    with client:
        answer = client.publish_policy(options.edge, None, release=True, wait_s=options.wait)
    return _edges_word(options, answer, "release")


def _text_of(file: Path) -> str:
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise BadInputError(str(file), "", None, f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadInputError(str(file), "", None, "is no UTF-8 text") from error
    if not text.strip():
        raise BadInputError(str(file), "", None, "is empty")
    return text


def _edges_word(options: argparse.Namespace, answer: dict[str, Any], what: str) -> int:
    if options.json:
        print(json.dumps({key: value for key, value in answer.items() if key != "text"}))
    else:
        print(f"{answer['edge_id']}: {what} {answer['sha256'][:16]} is {answer['state']}: {answer['reason']}")
        if what == "release" and answer["state"] == "refused":
            print("A release goes out with the policy that was published last: publish one that the edge takes, then release.")
    return {"confirmed": 0, "refused": 1}.get(answer["state"], 3)


def run_jobs(options: argparse.Namespace) -> int:
    """List jobs, or cancel one."""
    client, _ = _client(options)
    with client:
        jobs = [client.cancel(options.cancel)] if options.cancel else client.get("jobs", {"limit": "30"})
    if options.json:
        print(json.dumps(jobs))
    for job in [] if options.json else jobs:
        print(f"{job['job_id']}  {job['kind']:8} {job['state']:9} {job['progress']:4.0%}  {job['error'] or job['message']}")
    return 0


def run_quality(options: argparse.Namespace) -> int:
    """List findings, or readings set apart."""
    from tieline_cloud.result_text import quality_lines

    wanted = {"point": options.point, "limit": str(options.limit)}
    if not options.misdated:
        instants = {"from": options.start, "to": options.end}
        wanted |= {"rule": options.rule, **{key: at.isoformat() for key, at in instants.items() if at is not None}}
    client, _ = _client(options)
    with client:
        path = "quality/misdated" if options.misdated else "quality/findings"
        rows = client.get(path, {key: value for key, value in wanted.items() if value is not None})
    print(json.dumps(rows) if options.json else "\n".join(quality_lines(rows)))
    return 0


def run_status(options: argparse.Namespace) -> int:
    """Show how hub and edges stand."""
    from tieline_cloud.result_text import status_lines

    client, _ = _client(options)
    with client:
        health, edges = client.get("health"), client.get("edges")
    print(json.dumps({"health": health, "edges": edges}) if options.json else "\n".join(status_lines(health, edges)))
    return 0
