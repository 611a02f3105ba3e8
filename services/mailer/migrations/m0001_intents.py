"""Mail intents and suppressed addresses."""

from alembic import op

revision = "m0001"
down_revision = None

STATEMENTS = (
    """
    CREATE TABLE mail_intent (
        event_id text NOT NULL,
        template text NOT NULL,
        recipient text NOT NULL,
        state text NOT NULL
            CHECK (state IN ('pending', 'sending', 'sent', 'ambiguous', 'suppressed', 'expired', 'refused')),
        attempts integer NOT NULL DEFAULT 1,
        doubts integer NOT NULL DEFAULT 0,
        created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        claimed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        settled_at timestamptz,
        PRIMARY KEY (event_id, template, recipient)
    )
    """,
    "CREATE INDEX mail_intent_ambiguous ON mail_intent (claimed_at) WHERE state = 'ambiguous'",
    "CREATE TABLE mail_suppression (recipient text PRIMARY KEY, reason text NOT NULL)",
)


def upgrade() -> None:
    """Create the mailer's tables."""
    for statement in STATEMENTS:
        op.execute(statement)
