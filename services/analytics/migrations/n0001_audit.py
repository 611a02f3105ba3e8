"""Audit log and read models."""

from alembic import op

revision = "n0001"
down_revision = None

STATEMENTS = (
    # The body is bytes: an audit log keeps what came, also JSON that jsonb cannot hold (\\u0000).
    """
    CREATE TABLE audit_log (
        seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        event_id text NOT NULL,
        type text NOT NULL,
        user_id text NOT NULL,
        version bigint,
        happened_at timestamptz NOT NULL,
        recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        topic text NOT NULL,
        partition integer NOT NULL,
        "offset" bigint NOT NULL,
        body bytea NOT NULL
    )
    """,
    "CREATE INDEX audit_log_user ON audit_log (user_id, seq)",
    "CREATE INDEX audit_log_event ON audit_log (event_id)",
    """
    CREATE TABLE member (
        user_id text PRIMARY KEY,
        registered_at timestamptz,
        deleted_at timestamptz
    ) WITH (fillfactor = 80)
    """,
    """
    CREATE TABLE daily (
        day date NOT NULL,
        shard smallint NOT NULL,
        events bigint NOT NULL DEFAULT 0,
        joined bigint NOT NULL DEFAULT 0,
        gone bigint NOT NULL DEFAULT 0,
        PRIMARY KEY (day, shard)
    ) WITH (fillfactor = 50)
    """,
)


def upgrade() -> None:
    """Create the tables of analytics."""
    for statement in STATEMENTS:
        op.execute(statement)
