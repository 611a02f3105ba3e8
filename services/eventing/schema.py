"""Are the tables those of this code? Asked at every start, and apart from `migrate`: Alembic takes a second to load.

Newer tables are taken: migrations only expand, and during an upgrade, or after a rollback, older code meets them.
"""

import re

import asyncpg
import structlog

from eventing.database import Database
from eventing.errors import UnknownSchema

VERSION = "e0003"  # the newest file of migrations/versions; a test compares

log = structlog.get_logger()


async def check(database: Database) -> None:
    """Raise unless the library's tables are those of this code, or newer ones.

    Raises:
        UnknownSchema: naming both versions and the command.
        Unavailable: the database did not answer.
    """
    try:
        row = await database.fetchrow("SELECT version_num FROM eventing_version")
    except asyncpg.UndefinedTableError:
        row = None
    found = row["version_num"] if row else "none"
    if newer(found, VERSION):
        log.info("tables_newer", found=found, known=VERSION)
    elif found != VERSION:
        raise UnknownSchema(f"the tables are at version {found}, this code needs {VERSION}; run `eventing migrate`")


def newer(found: str, known: str) -> bool:
    """Tell whether a version is of the same history and later: a letter and four digits, `e0004` after `e0003`."""
    return bool(re.fullmatch(r"[a-z]\d{4}", found)) and found[0] == known[0] and found > known
