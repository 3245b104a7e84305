"""Commands that need no running hub."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import signal
import sys

from tieline_core.errors import BadInputError


def run_serve(options: argparse.Namespace) -> int:
    """Run the hub until it is told to stop."""
    from tieline_cloud.config_file import load_settings
    from tieline_cloud.frugal import be_frugal
    from tieline_cloud.jobs.pool import limit_threads

    limit_threads()
    be_frugal()
    settings = load_settings(options.config)
    logging.basicConfig(level=options.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    from tieline_cloud.bootstrap import RunningHub, serve

    def ready(hub: RunningHub) -> None:
        print(json.dumps({"ready": True, "url": hub.url}), flush=True)

    async def run() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        await serve(settings, stop, ready)

    asyncio.run(run())
    return 0


def run_keygen(options: argparse.Namespace) -> int:
    """Make a signing key."""
    from tieline_cloud.dispatch.keys import write_new_key

    path, public = write_new_key(options.folder)
    print(f"private key: {path} (keep it; it never leaves the hub)")
    print(f"public key:  {public} (goes into hub.public_keys of every edge)")
    return 0


def run_sign_vital_list(options: argparse.Namespace) -> int:
    """Sign the list of vital devices of an edge."""
    from datetime import timedelta

    from pydantic import ValidationError

    from tieline_cloud.dispatch.artifacts import replace_file
    from tieline_cloud.dispatch.keys import KEY_FILE, read_key
    from tieline_core.clock import SystemClock
    from tieline_core.field_words import reason_of, value_of
    from tieline_core.messages.vital import VitalList
    from tieline_core.signing import EnvelopeType, Signer

    now = SystemClock().now()
    try:
        listed = VitalList.model_validate(
            {
                "edge_id": options.edge,
                "issued_by": options.by,
                "issued_at": now,
                "devices": list(dict.fromkeys(options.devices)),
            }
        )
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise BadInputError("command line", key, value_of(first), reason_of(first, VitalList)) from error
    signer = Signer(read_key(options.folder / KEY_FILE))
    # The edge never asks for its end: a list that has grown old protects people as well.
    valid = (now, now + timedelta(days=36_500))
    envelope = signer.seal(EnvelopeType.VITAL, listed.edge_id, listed.to_bytes(), now=now, valid=valid)
    try:
        replace_file(options.out, envelope)
    except OSError as error:
        raise BadInputError(str(options.out), "", None, f"cannot be written: {error.strerror}") from error
    print(
        f"{options.out}: {_count(len(listed.devices), 'vital device')} of {listed.edge_id}, signed"
        " (shedding.vital_list names the file)"
    )
    return 0


def run_check_config(options: argparse.Namespace) -> int:
    """Name every mistake of a configuration."""
    from tieline_cloud.broker_access import check_files
    from tieline_cloud.config_file import load_settings
    from tieline_cloud.dispatch.keys import read_key
    from tieline_cloud.token_file import read_secret

    settings = load_settings(options.config)
    read_key(settings.signing_key)
    check_files(settings.mqtt)
    for key, path in (("grid.file", settings.grid.file), ("prices", settings.prices)):
        if path is not None and not path.is_file():
            raise BadInputError(str(options.config), key, str(path), "there is no such file")
    for name, source in settings.sources.items():
        read_secret(source.token_file, f"sources.{name}.token_file")
    for mirror in settings.mirrors:
        if mirror.token_file is not None:
            read_secret(mirror.token_file, f"mirrors.{mirror.name}.token_file", 1)
    batteries = sum(len(assets.batteries) for assets in settings.edges.values())
    print(f"{options.config}: in order; {_count(len(settings.edges), 'edge')} with {_count(batteries, 'battery', 'batteries')}")
    return 0


def _count(number: int, one: str, more: str | None = None) -> str:
    return f"{number} {one if number == 1 else more or one + 's'}"
