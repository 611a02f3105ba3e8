"""Create and upgrade tables: the library's first, then the service's, each with a version table of its own."""

import asyncio
from importlib.resources import files
from pathlib import Path

import asyncpg
import structlog
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from eventing.errors import Misconfigured
from eventing.schema import newer

_one_at_a_time = asyncio.Lock()  # Alembic's environment is global to the process
log = structlog.get_logger()
_LOCK = 0x45564B4C  # one migration at a time per database; the number only has to be ours


async def migrate(url: str, service: str | None = None) -> None:
    """Bring a database to the newest version, in one transaction, whoever else tries at the same time.

    Args:
        url: postgresql:// URL, direct: a transaction pooler cannot hold the lock.
        service: package with a `migrations` folder; None for the library's tables alone.

    Raises:
        Misconfigured: the service has no migrations.
    """
    engine = create_async_engine(
        "postgresql+asyncpg://", async_creator=lambda: asyncpg.connect(url), poolclass=NullPool
    )
    try:
        async with _one_at_a_time, engine.begin() as connection:
            await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
            await connection.run_sync(_upgrade, "eventing")
            if service is not None:
                await connection.run_sync(_upgrade, service)
    finally:
        await engine.dispose()


def _upgrade(connection: Connection, package: str) -> None:
    config = _config(package)
    config.attributes["connection"] = connection
    config.attributes["version_table"] = f"{package}_version"
    found = MigrationContext.configure(connection, opts={"version_table": f"{package}_version"}).get_current_revision()
    head = ScriptDirectory.from_config(config).get_current_head()
    if found and head and newer(found, head):
        log.info("tables_newer", package=package, found=found, known=head)  # a rollback: migrations only expand
        return
    command.upgrade(config, "head")


def _config(package: str) -> Config:
    versions = Path(str(files(package))) / ("migrations/versions" if package == "eventing" else "migrations")
    if not versions.is_dir():
        raise Misconfigured(f"{package} has no migrations folder; add {package}/migrations/0001_*.py")
    config = Config()
    config.set_main_option("script_location", "eventing:migrations")
    config.set_main_option("path_separator", "newline")
    config.set_main_option("version_locations", str(versions))
    return config
