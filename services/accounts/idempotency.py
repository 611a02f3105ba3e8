"""`Idempotency-Key`: a request that is repeated is answered again, not done again.

Rules: draft-ietf-httpapi-idempotency-key-header-07, section 2. The key is stored in the transaction that does the work,
so there is no moment at which the work is done and the key is not. A refusal stores nothing: it can be tried again.
"""

import hashlib
import json
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

from eventing import Transaction
from eventing.problems import Refused
from eventing.sql import load

_SQL = load("accounts", "idempotency")


async def once(
    tx: Transaction, key: str, request: dict[str, Any], work: Callable[[], Awaitable[dict[str, Any]]]
) -> dict[str, Any]:
    """Do the work and remember its answer under the key, or return the answer that is remembered.

    Args:
        tx: the transaction the work is done in.
        key: what the caller named the request.
        request: what the caller asked for.
        work: does it, and returns what JSON can hold.

    Raises:
        Refused: 409 while another request with the key is at work; 422 when the key was used for another request.
    """
    fingerprint = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).digest()
    if not await tx.fetchval(_SQL["lock"], key):
        raise Refused(
            HTTPStatus.CONFLICT, "a request with this Idempotency-Key is being processed; wait for it", retry_after=1
        )
    row = await tx.fetchrow(_SQL["find"], key)  # after the lock: the snapshot of one statement may be older than it
    if row is None:
        answer = await work()
        await tx.execute(_SQL["store"], key, fingerprint, json.dumps(answer))
        return answer
    if row["request"] != fingerprint:
        detail = "this Idempotency-Key was used for another request; use a new key for a new request"
        raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, detail, errors={"Idempotency-Key": detail})
    remembered: dict[str, Any] = json.loads(row["answer"])
    return remembered
