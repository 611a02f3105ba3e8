"""`Idempotency-Key`: a request that is repeated is answered again, not done again.

Rules: draft-ietf-httpapi-idempotency-key-header-07, section 2. The key is stored in the transaction that does the work,
so there is no moment at which the work is done and the key is not.
"""

import hashlib
import json
from http import HTTPStatus
from typing import Any

from eventing import Transaction
from eventing.http import Refused
from eventing.sql import load

_SQL = load("accounts", "idempotency")


def fingerprint(body: Any) -> bytes:
    """Return what tells two requests apart."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).digest()


async def recall(tx: Transaction, key: str, request: bytes) -> dict[str, Any] | None:
    """Return the answer already given under this key, None when the work is ours to do.

    Raises:
        Refused: 409 while another request with the key is at work; 422 when the key was used for another body.
    """
    if not await tx.fetchval(_SQL["lock"], key):
        raise Refused(
            HTTPStatus.CONFLICT, "a request with this Idempotency-Key is being processed; wait for its answer"
        )
    row = await tx.fetchrow(_SQL["find"], key)
    if row is None:
        return None
    if row["request"] != request:
        detail = "this Idempotency-Key was used for another request; use a new key for a new request"
        raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, detail, errors={"Idempotency-Key": detail})
    answer: dict[str, Any] = json.loads(row["answer"])
    return answer


async def remember(tx: Transaction, key: str, request: bytes, answer: dict[str, Any]) -> None:
    """Store the answer beside the work."""
    await tx.execute(_SQL["store"], key, request, json.dumps(answer))
    await tx.execute(_SQL["purge"])
