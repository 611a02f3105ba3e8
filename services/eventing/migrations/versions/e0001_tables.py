"""Outbox, leases, versions, inbox."""

from alembic import op

revision = "e0001"
down_revision = None

STATEMENTS = (
    "CREATE SCHEMA eventing",
    """
    CREATE TABLE eventing.aggregate_version (
        aggregatetype text NOT NULL,
        aggregateid text NOT NULL,
        version bigint NOT NULL,
        PRIMARY KEY (aggregatetype, aggregateid)
    ) WITH (fillfactor = 80)
    """,
    # Columns id, aggregatetype, aggregateid, type, payload are those Debezium's outbox router expects.
    """
    CREATE TABLE eventing.outbox (
        seq bigint GENERATED ALWAYS AS IDENTITY,
        bucket smallint NOT NULL,
        id uuid NOT NULL,
        aggregatetype text NOT NULL,
        aggregateid text NOT NULL,
        aggregateversion bigint NOT NULL,
        topic text NOT NULL,
        type text NOT NULL,
        source text NOT NULL,
        payload bytea NOT NULL,
        dataschema text,
        correlationid text,
        causationid text,
        expirytime timestamptz,
        traceparent text,
        tracestate text,
        created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        PRIMARY KEY (bucket, seq),
        UNIQUE (aggregatetype, aggregateid, aggregateversion)
    ) WITH (
        -- Rows live for milliseconds: clean up after a thousand of them, not after a fifth of the table.
        autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 0,
        autovacuum_analyze_threshold = 10000, autovacuum_analyze_scale_factor = 0
    )
    """,
    "CREATE TABLE eventing.outbox_blocked (LIKE eventing.outbox INCLUDING DEFAULTS, PRIMARY KEY (bucket, seq))",
    """
    CREATE TABLE eventing.outbox_blocked_key (
        aggregatetype text NOT NULL,
        aggregateid text NOT NULL,
        bucket smallint NOT NULL,
        reason text NOT NULL,
        since timestamptz NOT NULL DEFAULT clock_timestamp(),
        PRIMARY KEY (aggregatetype, aggregateid)
    )
    """,
    """
    CREATE TABLE eventing.outbox_lease (
        bucket smallint PRIMARY KEY,
        owner text,
        epoch bigint NOT NULL DEFAULT 0,
        expires_at timestamptz NOT NULL DEFAULT '-infinity'
    ) WITH (fillfactor = 50)
    """,
    "INSERT INTO eventing.outbox_lease (bucket) SELECT generate_series(0, 255)",
    "CREATE TABLE eventing.outbox_relay (id text PRIMARY KEY, seen_at timestamptz NOT NULL)",
    """
    CREATE TABLE eventing.inbox (
        day date NOT NULL,
        grp text NOT NULL,
        event_id text NOT NULL,
        PRIMARY KEY (day, grp, event_id)
    ) PARTITION BY RANGE (day)
    """,
    # Days outside of the window (an old event redriven, a clock that is wrong) find their place here.
    "CREATE TABLE eventing.inbox_other PARTITION OF eventing.inbox DEFAULT",
    """
    CREATE FUNCTION eventing.inbox_maintain(retention integer, ahead integer) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    DECLARE
        today date := (clock_timestamp() AT TIME ZONE 'UTC')::date;
        d date;
        part text;
    BEGIN
        IF NOT pg_try_advisory_xact_lock(hashtext('eventing.inbox_maintain')) THEN
            RETURN;
        END IF;
        FOR d IN SELECT generate_series(today - 1, today + ahead, interval '1 day')::date LOOP
            part := 'inbox_' || to_char(d, 'YYYYMMDD');
            CONTINUE WHEN to_regclass('eventing.' || part) IS NOT NULL;
            EXECUTE format('CREATE TABLE eventing.%I (LIKE eventing.inbox INCLUDING ALL)', part);
            EXECUTE format('WITH moved AS (DELETE FROM eventing.inbox_other WHERE day = %L RETURNING *)
                INSERT INTO eventing.%I SELECT * FROM moved', d, part);
            EXECUTE format('ALTER TABLE eventing.inbox ATTACH PARTITION eventing.%I FOR VALUES FROM (%L) TO (%L)',
                part, d, d + 1);
        END LOOP;
        FOR part IN
            SELECT c.relname FROM pg_class c JOIN pg_inherits i ON i.inhrelid = c.oid
            WHERE i.inhparent = 'eventing.inbox'::regclass AND c.relname ~ '^inbox_[0-9]{8}$'
              AND to_date(right(c.relname, 8), 'YYYYMMDD') < today - retention
        LOOP
            EXECUTE format('DROP TABLE eventing.%I', part);
        END LOOP;
        DELETE FROM eventing.inbox_other WHERE day < today - retention;
    END $$
    """,
)


def upgrade() -> None:
    """Create the library's tables."""
    for statement in STATEMENTS:
        op.execute(statement)
