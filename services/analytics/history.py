"""One user's history: the audit log, page by page."""

from datetime import datetime
from typing import Any

from pydantic import Field
from pydantic_core import from_json

from analytics.stats import Body
from eventing import Database
from eventing.sql import load

_SQL = load("analytics", "stats")


class Entry(Body):
    """One event of a user, as it came."""

    event_id: str
    type: str
    version: int | None
    happened_at: datetime
    recorded_at: datetime
    topic: str
    partition: int
    offset: int
    body: Any = Field(description="Text where the body is JSON that not every reader takes: NaN, half a character.")


class History(Body):
    """A page of a user's events; `next` is the cursor of the page after it, null at the end."""

    entries: list[Entry]
    next: int | None


async def page(database: Database, user_id: str, *, after: int, limit: int) -> History:
    """Read the entries after a cursor, in the order they were recorded.

    Raises:
        Unavailable: the database does not answer.
    """
    rows = await database.fetch(_SQL["history"], user_id, after, limit)
    entries = [Entry.model_validate(dict(row) | {"body": _body(row["body"])}) for row in rows]
    return History(entries=entries, next=rows[-1]["seq"] if len(rows) == limit else None)


def _body(body: bytes) -> Any:
    try:
        return from_json(body, allow_inf_nan=False)
    except ValueError:
        return body.decode(errors="replace")
