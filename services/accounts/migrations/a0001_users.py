"""Users and idempotency keys."""

from alembic import op

revision = "a0001"
down_revision = None

STATEMENTS = (
    """
    CREATE TABLE users (
        id uuid PRIMARY KEY,
        name text NOT NULL,
        email text NOT NULL,
        version bigint NOT NULL DEFAULT 1,
        created_at timestamptz NOT NULL DEFAULT clock_timestamp()
    )
    """,
    "CREATE UNIQUE INDEX users_email_taken ON users (lower(email))",
    """
    CREATE TABLE idempotency_key (
        key text PRIMARY KEY,
        request bytea NOT NULL,
        answer jsonb NOT NULL,
        created_at timestamptz NOT NULL DEFAULT clock_timestamp()
    )
    """,
    "CREATE INDEX idempotency_key_age ON idempotency_key (created_at)",
)


def upgrade() -> None:
    """Create the tables of accounts."""
    for statement in STATEMENTS:
        op.execute(statement)
