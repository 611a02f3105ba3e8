"""Floors of the buckets, and what people did with blocked keys."""

from alembic import op

revision = "e0003"
down_revision = "e0002"

STATEMENTS = (
    # No row of the bucket has a lower `seq`, and none will get one; see floor.py.
    "ALTER TABLE eventing.outbox_lease ADD COLUMN floor bigint NOT NULL DEFAULT 0",
    "CREATE INDEX outbox_blocked_by_key ON eventing.outbox_blocked (aggregatetype, aggregateid, seq)",
    """
    CREATE TABLE eventing.outbox_audit (
        at timestamptz NOT NULL DEFAULT clock_timestamp(),
        who text NOT NULL,
        what text NOT NULL CHECK (what IN ('blocked', 'repaired', 'skipped')),
        aggregatetype text NOT NULL,
        aggregateid text NOT NULL,
        event_id uuid NOT NULL,
        aggregateversion bigint NOT NULL,
        topic text NOT NULL,
        why text NOT NULL,
        payload bytea  -- of what was skipped: it is nowhere else
    )
    """,
    "CREATE INDEX outbox_audit_by_key ON eventing.outbox_audit (aggregatetype, aggregateid, at)",
)


def upgrade() -> None:
    """Add the floors and the audit."""
    for statement in STATEMENTS:
        op.execute(statement)
