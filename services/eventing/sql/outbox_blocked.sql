-- keys --
-- Blocked keys with their first row and how many wait, oldest first; narrowed by aggregate type, key, topic and event.
SELECT k.aggregatetype, k.aggregateid, k.reason, k.since, coalesce(w.waiting, 0) AS waiting, f.id, f.type, f.topic,
    f.aggregateversion, octet_length(f.payload) AS bytes
FROM eventing.outbox_blocked_key AS k
LEFT JOIN LATERAL (
    SELECT count(*) AS waiting FROM eventing.outbox_blocked AS b
    WHERE b.aggregatetype = k.aggregatetype AND b.aggregateid = k.aggregateid
) AS w ON true
LEFT JOIN LATERAL (
    SELECT * FROM eventing.outbox_blocked AS b
    WHERE b.aggregatetype = k.aggregatetype AND b.aggregateid = k.aggregateid ORDER BY b.seq LIMIT 1
) AS f ON true
WHERE ($1::text IS NULL OR k.aggregatetype = $1) AND ($2::text IS NULL OR k.aggregateid = $2)
  AND ($3::text IS NULL OR f.topic = $3) AND ($5::uuid IS NULL OR f.id = $5)
ORDER BY k.since, k.aggregatetype, k.aggregateid LIMIT $4

-- rows --
-- The first rows behind a key, in order.
SELECT bucket, seq, id, aggregatetype, aggregateid, aggregateversion, topic, type, source, payload, dataschema,
    correlationid, causationid, expirytime, traceparent, tracestate, created_at
FROM eventing.outbox_blocked WHERE aggregatetype = $1 AND aggregateid = $2 ORDER BY seq LIMIT $3

-- repaired --
-- Forget rows the broker has acknowledged, and say who sent them.
WITH sent AS (
    DELETE FROM eventing.outbox_blocked AS b USING unnest($1::smallint[], $2::bigint[]) AS acked (bucket, seq)
    WHERE b.bucket = acked.bucket AND b.seq = acked.seq
    RETURNING b.aggregatetype, b.aggregateid, b.id, b.aggregateversion, b.topic
)
INSERT INTO eventing.outbox_audit (who, what, aggregatetype, aggregateid, event_id, aggregateversion, topic, why)
SELECT $3, 'repaired', aggregatetype, aggregateid, id, aggregateversion, topic, $4 FROM sent

-- lock --
-- Lock a blocked key, so that no relay moves rows behind it meanwhile; no row when it is free.
SELECT true FROM eventing.outbox_blocked_key WHERE aggregatetype = $1 AND aggregateid = $2 FOR UPDATE

-- free --
-- Free a key that is locked when nothing is behind it any more.
DELETE FROM eventing.outbox_blocked_key AS k WHERE aggregatetype = $1 AND aggregateid = $2 AND NOT EXISTS (
    SELECT FROM eventing.outbox_blocked AS b WHERE b.aggregatetype = k.aggregatetype AND b.aggregateid = k.aggregateid
) RETURNING true

-- still_refused --
-- Note why a key is refused now.
UPDATE eventing.outbox_blocked_key SET reason = $3 WHERE aggregatetype = $1 AND aggregateid = $2

-- skip --
-- Give up the first row behind a key, if it is this event, and keep what was given up.
WITH first AS (
    SELECT bucket, seq FROM eventing.outbox_blocked WHERE aggregatetype = $1 AND aggregateid = $2 ORDER BY seq LIMIT 1
), gone AS (
    DELETE FROM eventing.outbox_blocked AS b USING first
    WHERE b.bucket = first.bucket AND b.seq = first.seq AND b.id = $3 RETURNING b.*
)
INSERT INTO eventing.outbox_audit
    (who, what, aggregatetype, aggregateid, event_id, aggregateversion, topic, why, payload)
SELECT $4, 'skipped', aggregatetype, aggregateid, id, aggregateversion, topic, $5, payload FROM gone
RETURNING event_id

-- relays --
-- How many relays hold a bucket, how many rows are behind blocked keys, and how far the slowest bucket's floor lies
-- below what was drawn.
SELECT (SELECT count(DISTINCT owner) FROM eventing.outbox_lease WHERE expires_at >= clock_timestamp()) AS relays,
    (SELECT count(*) FROM eventing.outbox_blocked) AS blocked_rows,
    (SELECT last_value FROM eventing.outbox_seq_seq) - (SELECT min(floor) FROM eventing.outbox_lease) AS above_floor
