-- lock --
-- Take the key for this transaction; false when another request holds it right now.
SELECT pg_try_advisory_xact_lock(hashtextextended($1, 0))

-- find --
-- What was answered to a request with this key within a day.
SELECT request, answer FROM idempotency_key WHERE key = $1 AND created_at > clock_timestamp() - interval '1 day'

-- store --
-- Remember the answer in the transaction that does the work; a key older than a day is free again. Every stored key
-- forgets two old ones, so the table stays bounded by the keys of about a day.
WITH purged AS (
    DELETE FROM idempotency_key WHERE key IN (
        SELECT key FROM idempotency_key WHERE created_at < clock_timestamp() - interval '1 day' AND key <> $1
        ORDER BY created_at LIMIT 2 FOR UPDATE SKIP LOCKED
    )
)
INSERT INTO idempotency_key (key, request, answer) VALUES ($1, $2, $3)
ON CONFLICT (key) DO UPDATE SET request = excluded.request, answer = excluded.answer, created_at = clock_timestamp()
