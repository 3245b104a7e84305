"""What systemd is told, and what it demands (sd_notify protocol)."""

from __future__ import annotations

import logging
import os
import socket

from tieline_core.errors import BadInputError

_LOG = logging.getLogger(__name__)


def notify(message: str) -> None:
    """Tell systemd, when it listens."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.setblocking(False)
            channel.connect("\0" + address[1:] if address.startswith("@") else address)
            channel.send(message.encode())
    except OSError as error:
        _LOG.debug("systemd was not told %s: %s", message, error)


def check_watchdog(period_s: float) -> None:
    """Refuse a cycle that would starve its own watchdog.

    Args:
        period_s: Longest pause between two cycles [wall s].

    Raises:
        BadInputError: When ``WatchdogSec`` is shorter than two of them.
    """
    text = os.environ.get("WATCHDOG_USEC", "")
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()) or not text.isdigit():
        return
    watchdog_s = int(text) / 1e6
    if watchdog_s < 2.0 * period_s:
        reason = f"cycles are {period_s:g} s apart, it has to be at least twice that"
        raise BadInputError("systemd unit", "WatchdogSec", f"{watchdog_s:g} s", reason)
