"""Parked keys of consumers with `exhausted="park_key"`."""

from alembic import op

revision = "e0002"
down_revision = "e0001"

STATEMENTS = (
    """
    CREATE TABLE eventing.parked_key (
        grp text NOT NULL,
        topic text NOT NULL,
        key bytea NOT NULL,
        since timestamptz NOT NULL DEFAULT clock_timestamp(),
        PRIMARY KEY (grp, topic, key)
    )
    """,
    """
    CREATE TABLE eventing.parked (
        grp text NOT NULL,
        topic text NOT NULL,
        key bytea NOT NULL,
        partition integer NOT NULL,
        "offset" bigint NOT NULL,
        PRIMARY KEY (grp, topic, key, partition, "offset")
    )
    """,
)


def upgrade() -> None:
    """Create the tables of parked keys."""
    for statement in STATEMENTS:
        op.execute(statement)
