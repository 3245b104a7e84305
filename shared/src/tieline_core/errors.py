"""The errors of Tieline: one root, below it whether trying again can help.

The error says whether to retry, not its catcher. Whoever raises gives the reason as a whole sentence and the ids as
attributes, so that a log line and an API problem body can be made from the same object.
"""

from __future__ import annotations


class TielineError(Exception):
    """Root of everything Tieline raises on purpose."""


class TransientError(TielineError):
    """Trying the same again later may work: a time-out, a broker that is away, a device that is busy."""


class PermanentError(TielineError):
    """Trying the same again cannot work: the input, the signature or the configuration has to change."""


class BadInputError(PermanentError):
    """Something a person or a peer handed in is wrong.

    Attributes:
        source: File, topic or route the input came from.
        key: Path of the offending key inside it, dots between levels; empty when the whole input is meant.
        value: The offending value as text, shortened.
        reason: What is wrong and what would be right.
    """

    MAX_VALUE_CHARS = 120

    def __init__(self, source: str, key: str, value: object, reason: str) -> None:
        text = repr(value)
        self.source = source
        self.key = key
        self.value = text if len(text) <= self.MAX_VALUE_CHARS else text[: self.MAX_VALUE_CHARS - 1] + "…"
        self.reason = reason
        where = f"{source}: {key}" if key else source
        shown = "" if value is None and not key else f" = {self.value}"
        super().__init__(f"{where}{shown}: {reason}")


class FrameError(PermanentError):
    """Bytes on the durable lane that are no valid frame; the reason says which check refused them."""


class EnvelopeRefusedError(PermanentError):
    """A signed envelope that must not be obeyed.

    Attributes:
        check: The check that failed: ``format``, ``signature``, ``key``, ``type``, ``edge``, ``validity``, ``replay`` or
            ``nonce``.
    """

    def __init__(self, check: str, reason: str) -> None:
        self.check = check
        super().__init__(f"{check}: {reason}")
