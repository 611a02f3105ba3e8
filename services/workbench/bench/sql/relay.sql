-- fill --
-- Make a backlog as writers would have: $1 rows of about 1 KB over $2 keys, numbered per key.
WITH numbered AS (SELECT n, n % $2::int AS key, n / $2::int + 1 AS version FROM generate_series(0, $1::int - 1) AS n)
INSERT INTO eventing.outbox (id, aggregatetype, aggregateid, aggregateversion, bucket, topic, type, source, payload,
    correlationid, traceparent)
SELECT gen_random_uuid(), $3, 'account-' || key, version, ($4::smallint[])[key + 1], $5, 'com.evenkeel.bench.row.v1',
    '/bench', convert_to('{"text":"' || repeat('x', 980) || '"}', 'UTF8'), gen_random_uuid()::text,
    '00-0123456789abcdef0123456789abcdef-0123456789abcdef-00'
FROM numbered ORDER BY n

-- left --
-- Does anything wait?
SELECT EXISTS (SELECT FROM eventing.outbox)

-- page --
-- What the raw producer sends, a page at a time.
SELECT * FROM eventing.outbox WHERE seq > $1 ORDER BY seq LIMIT 2000

-- empty --
-- Forget what was there; plan by what is to come.
TRUNCATE eventing.outbox, eventing.aggregate_version

-- analyze --
-- Autovacuum would do this in a minute.
ANALYZE eventing.outbox
