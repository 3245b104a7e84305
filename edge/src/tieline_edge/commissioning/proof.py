"""Who asks and who answers over loopback: each shows that it knows the token of the state folder, and neither tells it.

Anybody on a gateway may listen on the edge's port while the edge does not. Whoever believed that an answer from there was the
edge's would work on a device that is still operated. So an order and its answer carry an HMAC-SHA-256 (RFC 2104) over what is
said and a number that is used once.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Final

SCHEME: Final = "Tieline"
#: Headers of an order and of its answer.
NONCE: Final = "tieline-nonce"
PROOF: Final = "tieline-proof"


def new_nonce() -> str:
    """A number used once."""
    return secrets.token_hex(16)


def of_order(token: str, nonce: str, path: str, body: bytes) -> str:
    """Proof of an order."""
    return _proof(token, b"order", nonce.encode(), path.encode(), body)


def of_answer(token: str, nonce: str, status: int, body: bytes) -> str:
    """Proof of the answer to an order."""
    return _proof(token, b"answer", nonce.encode(), str(status).encode(), body)


def same(given: str, expected: str) -> bool:
    """Compare two proofs without telling by the time it takes where they differ."""
    return hmac.compare_digest(given.strip().encode(), expected.encode())


def _proof(token: str, *parts: bytes) -> str:
    # Each part with its length, so that none can be cut differently.
    said = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
    return hmac.new(token.encode(), said, hashlib.sha256).hexdigest()
