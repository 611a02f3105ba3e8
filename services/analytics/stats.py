"""The statistics: a whole snapshot each time."""

import json
from datetime import date, datetime

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from eventing import Database
from eventing.sql import load

_SQL = load("analytics", "stats")

DAYS = 30  # days of registrations shown


class Body(BaseModel):
    """JSON in camelCase."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, validate_by_name=True, validate_by_alias=True)


class Day(Body):
    """Registrations of one day, in UTC."""

    day: date
    count: int


class Stats(Body):
    """The statistics at one moment; the last thirty days with registrations."""

    active_users: int
    events: int
    registrations_per_day: tuple[Day, ...]
    as_of: datetime

    def says(self, other: "Stats") -> bool:
        """Tell whether another snapshot says the same, at whatever moment."""
        return self == other.model_copy(update={"as_of": self.as_of})


async def snapshot(database: Database) -> Stats:
    """Read the statistics as of now.

    Raises:
        Unavailable: the database does not answer.
    """
    row = await database.fetchrow(_SQL["snapshot"], DAYS)
    assert row is not None  # noqa: S101  # a SELECT of aggregates has one row
    return Stats.model_validate(dict(row) | {"registrations_per_day": json.loads(row["registrations_per_day"])})
