"""Signed envelopes: the bytes that are sent are the bytes that are signed.

An envelope is one JSON object of three base64url texts, ``protected`` (the header), ``payload`` and ``signature``.
Ed25519 (RFC 8032) signs ``b"tieline/envelope/1\\n" + protected + b"." + payload``, exactly as sent: nothing is
serialised again before it is checked, and no other protocol's signature can be mistaken for one of ours.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from tieline_core.errors import EnvelopeRefusedError
from tieline_core.ids import EdgeId
from tieline_core.timegrid import to_us

_DOMAIN: Final = b"tieline/envelope/1\n"
#: Refused before anything is parsed.
MAX_ENVELOPE_BYTES: Final = 4 * 1024 * 1024


class EnvelopeType(StrEnum):
    """What a payload is; part of what is signed, so one type can never stand in for another."""

    DESIRED = "desired"
    PLAN = "plan"
    POLICY = "policy"
    MODEL = "model"
    CONFIG = "config"
    COMMAND = "command"
    REQUEST = "request"
    VITAL = "vital"


class Header(BaseModel):
    """The protected header of an envelope."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: EnvelopeType
    edge_id: EdgeId
    key_id: str = Field(pattern=r"^[0-9a-f]{16}$")
    counter: int = Field(ge=1)
    not_before: AwareDatetime
    not_after: AwareDatetime
    nonce: str | None = Field(default=None, max_length=64)


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    protected: str
    payload: str
    signature: str


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _decode(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


def key_id(public: bytes) -> str:
    """First 16 hex digits of the SHA-256 of a raw 32-byte public key."""
    return hashlib.sha256(public).hexdigest()[:16]


class Signer:
    """Signs for one private key and hands out strictly increasing counters.

    Args:
        private: Raw 32-byte Ed25519 seed.
        last_counter: Highest counter ever used; the caller stores :attr:`last_counter` durably.
    """

    def __init__(self, private: bytes, last_counter: int = 0) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(private)
        self.public = self._key.public_key().public_bytes_raw()
        self.last_counter = last_counter

    @staticmethod
    def new_private() -> bytes:
        """A fresh raw private key."""
        return Ed25519PrivateKey.generate().private_bytes_raw()

    def seal(
        self,
        kind: EnvelopeType,
        edge: EdgeId,
        payload: bytes,
        *,
        now: datetime,
        valid: tuple[datetime, datetime],
        nonce: str | None = None,
    ) -> bytes:
        """Sign a payload for one edge.

        Args:
            kind: What the payload is.
            edge: The only edge that may obey it.
            payload: Bytes, taken as they are.
            now: Present instant; the counter is ``max(last + 1, unix milliseconds)``.
            valid: First and last instant at which it may be obeyed.
            nonce: The nonce of the edge's hello that this answers.
        """
        self.last_counter = max(self.last_counter + 1, to_us(now) // 1000)
        header = Header(
            type=kind,
            edge_id=edge,
            key_id=key_id(self.public),
            counter=self.last_counter,
            not_before=valid[0],
            not_after=valid[1],
            nonce=nonce,
        )
        protected, body = _encode(header.model_dump_json().encode()), _encode(payload)
        signature = self._key.sign(_DOMAIN + protected.encode() + b"." + body.encode())
        return _Wire(protected=protected, payload=body, signature=_encode(signature)).model_dump_json().encode()


@dataclass(frozen=True, slots=True)
class Opened:
    """An envelope whose signature, type, edge and validity have been checked."""

    header: Header
    payload: bytes


def open_envelope(
    data: bytes,
    *,
    kind: EnvelopeType,
    edge: EdgeId,
    trusted: Mapping[str, bytes],
    now: datetime | None,
    accept_counter: Callable[[int], bool] = lambda _counter: True,
) -> Opened:
    """Check an envelope and hand out its payload.

    Args:
        data: The bytes as received.
        kind: The type the caller is prepared to obey.
        edge: Who the caller is.
        trusted: Raw public keys by key id; an empty mapping trusts nobody.
        now: Present instant; None for something that was taken in time and is read again from the own disk.
        accept_counter: Called last, with the counter; stores it durably and says whether it is new enough.

    Raises:
        EnvelopeRefusedError: With the check that failed; nothing of the payload may be used then.
    """
    header, payload = _verified(data, trusted)
    if header.type is not kind:
        raise EnvelopeRefusedError("type", f"signed as {header.type.value!r}, expected {kind.value!r}")
    if header.edge_id != edge:
        raise EnvelopeRefusedError("edge", f"signed for {header.edge_id!r}, this is {edge!r}")
    if now is not None and not header.not_before <= now <= header.not_after:
        raise EnvelopeRefusedError(
            "validity",
            f"valid from {header.not_before.isoformat()} to {header.not_after.isoformat()}, now {now.isoformat()}",
        )
    if not accept_counter(header.counter):
        raise EnvelopeRefusedError("replay", f"counter {header.counter} is not above the last accepted one")
    return Opened(header, payload)


def _verified(data: bytes, trusted: Mapping[str, bytes]) -> tuple[Header, bytes]:
    if len(data) > MAX_ENVELOPE_BYTES:
        raise EnvelopeRefusedError("format", f"{len(data)} bytes, at most {MAX_ENVELOPE_BYTES} are read")
    try:
        wire = _Wire.model_validate_json(data)
        header = Header.model_validate_json(_decode(wire.protected))
        payload, signature = _decode(wire.payload), _decode(wire.signature)
    except (ValidationError, binascii.Error, ValueError) as error:
        raise EnvelopeRefusedError("format", "not an envelope: it is not what a hub has signed, or not all of it") from error
    public = trusted.get(header.key_id)
    if public is None:
        raise EnvelopeRefusedError("key", f"key {header.key_id} is not trusted here")
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(
            signature, _DOMAIN + wire.protected.encode() + b"." + wire.payload.encode()
        )
    except InvalidSignature as error:
        raise EnvelopeRefusedError("signature", "the signature does not match the bytes") from error
    return header, payload
