"""What systemd is told, and what it demands (sd_notify protocol)."""

from __future__ import annotations

import logging
import os
import socket
from typing import Self

from tieline_core.errors import BadInputError

_LOG = logging.getLogger(__name__)


class Notifier:
    """Tells systemd, where it listens. Its socket is opened once: a process out of file descriptors still feeds its watchdog.

    Args:
        address: ``$NOTIFY_SOCKET``; empty or None = nobody listens.
    """

    def __init__(self, address: str | None) -> None:
        self._address = "" if not address else ("\0" + address[1:] if address.startswith("@") else address)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if self._address else None
        if self._socket is not None:
            self._socket.setblocking(False)

    @classmethod
    def of_environment(cls) -> Self:
        """The one the service manager named."""
        return cls(os.environ.get("NOTIFY_SOCKET"))

    def tell(self, message: str) -> None:
        """Send a message; whatever goes wrong is nobody's business but systemd's."""
        if self._socket is None:
            return
        try:
            self._socket.sendto(message.encode(), self._address)
        except OSError as error:
            _LOG.debug("systemd was not told %s: %s", message, error)

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


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
