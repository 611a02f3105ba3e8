-- audit --
-- Keep the event as it came. It is written after the counter, whose lock makes the order of `seq` the order of
-- commits per user: who reads the history page by page misses nothing.
INSERT INTO audit_log (event_id, type, user_id, version, happened_at, topic, partition, "offset", body)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)

-- counted --
-- Count an event on its day. Counters are spread over shards by user: transactions that run side by side would queue
-- for a single row. Each of them locks the member's row first, one counter last, so none can wait in a circle.
INSERT INTO daily AS d (day, shard, events) VALUES (($2::timestamptz AT TIME ZONE 'UTC')::date, $1, 1)
ON CONFLICT (day, shard) DO UPDATE SET events = d.events + 1

-- registered --
-- Count a user once, on the day of the first registration; one whose deletion came before it leaves at once.
WITH joined AS (
    INSERT INTO member AS m (user_id, registered_at) VALUES ($3, $2)
    ON CONFLICT (user_id) DO UPDATE SET registered_at = $2 WHERE m.registered_at IS NULL
    RETURNING (m.deleted_at IS NOT NULL)::int AS gone
)
INSERT INTO daily AS d (day, shard, events, joined, gone)
SELECT ($2::timestamptz AT TIME ZONE 'UTC')::date, $1, 1, count(*), coalesce(sum(gone), 0) FROM joined
ON CONFLICT (day, shard) DO UPDATE
SET events = d.events + 1, joined = d.joined + excluded.joined, gone = d.gone + excluded.gone

-- deleted --
-- A member leaves, once; a registration that comes later cannot bring it back.
WITH gone AS (
    INSERT INTO member AS m (user_id, deleted_at) VALUES ($3, $2)
    ON CONFLICT (user_id) DO UPDATE SET deleted_at = $2 WHERE m.deleted_at IS NULL
    RETURNING (m.registered_at IS NOT NULL)::int AS known
)
INSERT INTO daily AS d (day, shard, events, gone)
SELECT ($2::timestamptz AT TIME ZONE 'UTC')::date, $1, 1, coalesce(sum(known), 0) FROM gone
ON CONFLICT (day, shard) DO UPDATE SET events = d.events + 1, gone = d.gone + excluded.gone
