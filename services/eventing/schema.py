"""Are the tables those of this code? Asked at every start, and apart from `migrate`: Alembic takes a second to load."""

import asyncpg

from eventing.database import Database
from eventing.errors import UnknownSchema

VERSION = "e0003"  # the newest file of migrations/versions; a test compares


async def check(database: Database) -> None:
    """Raise unless the library's tables are those of this code.

    Raises:
        UnknownSchema: naming both versions and the command.
        Unavailable: the database did not answer.
    """
    try:
        row = await database.fetchrow("SELECT version_num FROM eventing_version")
    except asyncpg.UndefinedTableError:
        row = None
    found = row["version_num"] if row else "none"
    if found != VERSION:
        raise UnknownSchema(f"the tables are at version {found}, this code needs {VERSION}; run `eventing migrate`")
